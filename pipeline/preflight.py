"""What can be known to be wrong before any work is done."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hmar.errors import DataError, SettingsError, StorageError
from pipeline.ingest.raw_path import given
from pipeline.settings import RetrainSettings
from pipeline.sources.paths import is_pattern, matched
from pipeline.training import refuse_unknown_models, training_settings


def check(s: RetrainSettings, *, reads_raw: bool = True, promotes: bool = True, trains_here: bool = False) -> None:
    """Check all that a run needs, within seconds.

    Args:
        reads_raw: whether it begins with the raw log, not with the events that another one publishes.
        promotes: whether it ends in a promotion, which is not for the published protocol.
        trains_here: whether its trainings run on this machine. In Airflow they may run on another one than the check,
            which then cannot say whether that one has a GPU.

    Raises:
        SettingsError: an unknown model, an invalid training setting of one of them, a ranker without labelled
            impressions, a device that is not there, the published protocol, or raw needs a day.
        DataError: the raw log is missing or unreadable. StorageError: the data directory cannot be written.
        ServiceError: MLflow does not answer; the address is named.
    """
    if promotes:
        refuse_published(s)
    check_models(s)
    if trains_here:
        check_device(s, s.models)
    if reads_raw:
        check_raw(given(s))
    check_home(s)
    check_mlflow(s)


def refuse_published(s: RetrainSettings) -> None:
    """What follows the published protocol is never promoted.

    Raises:
        SettingsError: the run has that protocol, or its split.
    """
    for key, value in (("protocol", s.protocol), ("split", s.split)):
        if value == "published":
            raise SettingsError(
                f"{key}: published is for comparison with printed tables, and no such model is promoted; run "
                "'hmar train' and 'hmar evaluate' with it"
            )


def check_models(s: RetrainSettings) -> None:
    """Resolve the training settings of every model as its process will.

    Raises:
        SettingsError: names the model and the key.
    """
    refuse_unknown_models(s)
    for model in dict.fromkeys([*s.models, *s.overrides]):
        training_settings(s, model, Path("snapshot"), "preflight")
    check_impressions(s, s.models)


def check_impressions(s: RetrainSettings, models: Sequence[str]) -> None:
    """Where rankers are to be trained, the settings have the snapshot hold what they learn from.

    Raises:
        SettingsError: it will not have any; the keys are named.
    """
    from hmar.models import model_class

    rankers = [model for model in models if model_class(model).family == "ranker"]
    if not rankers:
        return
    told = f"models: {', '.join(rankers)}: rankers learn from labelled impressions, "
    if s.split == "published":
        raise SettingsError(f"{told}and split published has none; set split to leave_one_out or temporal")
    if not s.snapshot.impressions.wanted:
        raise SettingsError(
            f"{told}and these settings build none; set snapshot.impressions.sampled (items drawn beside each yes) or, "
            "where a behavior says no, snapshot.impressions.negative"
        )


def check_device(s: RetrainSettings, models: Sequence[str]) -> None:
    """This machine has the device that models are to be trained on.

    Raises:
        SettingsError: names the model.
    """
    for model in models:
        device = training_settings(s, model, Path("snapshot"), "preflight").device
        if device == "cuda":  # whose module's imports take seconds
            from hmar.train.engine import refuse_missing

            try:
                refuse_missing(device)
            except SettingsError as error:
                raise SettingsError(f"training settings of {model}: {error}") from None


def check_raw(raw: Path) -> None:
    """The raw log is there and may be read.

    Args:
        raw: file, directory or pattern, as :func:`pipeline.ingest.raw_path.given` has it.

    Raises:
        DataError: it is not.
    """
    if is_pattern(raw):
        for path in matched(raw).paths:
            check_raw(path)
        return
    if not raw.exists():
        looked = "" if raw.is_absolute() else f" (looked for {raw.absolute()})"
        raise DataError(f"raw: {raw} does not exist{looked}; give the file or directory of the raw log")
    if not os.access(raw, os.R_OK):
        raise DataError(f"raw: {raw} may not be read by this user; change its permissions")
    if raw.is_dir() and not any(raw.iterdir()):
        raise DataError(f"raw: {raw} is an empty directory")


def check_home(s: RetrainSettings) -> None:
    """The data directory exists, or can be made, and takes a file.

    Raises:
        StorageError: it does not.
    """
    check_directory(s.paths.root)


def check_directory(home: Path) -> None:
    """The same for any directory."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise StorageError(f"home: {home}: {error.strerror}; give a directory that this user may write to") from None


def check_mlflow(s: RetrainSettings) -> None:
    """The tracking store answers; an embedded one is created where there is none.

    Raises:
        ServiceError: it does not, the address is named.
    """
    from pipeline.registry import quiet_client

    quiet_client(s.mlflow_uri)
