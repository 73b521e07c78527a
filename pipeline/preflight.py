"""What can be known to be wrong before any work is done."""

import os
import tempfile
from pathlib import Path

from hmar.errors import DataError, SettingsError, StorageError
from pipeline.ingest.raw_path import given
from pipeline.settings import RetrainSettings
from pipeline.sources.paths import is_pattern, matched
from pipeline.training import refuse_unknown_models, training_settings


def check(s: RetrainSettings, *, reads_raw: bool = True, promotes: bool = True) -> None:
    """Check all that a run needs, within seconds.

    Args:
        reads_raw: whether it begins with the raw log, not with the events that another one publishes.
        promotes: whether it ends in a promotion, which is not for the published protocol.

    Raises:
        SettingsError: an unknown model, an invalid training setting of one of them, the published protocol, or raw
            needs a day.
        DataError: the raw log is missing or unreadable. StorageError: the data directory cannot be written.
        ServiceError: MLflow does not answer; the address is named.
    """
    if promotes:
        refuse_published(s)
    check_models(s)
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
        raise DataError(f"raw: {raw} does not exist; give the file or directory of the raw log")
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
