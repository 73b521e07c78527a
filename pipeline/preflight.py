"""What can be known to be wrong before any work is done."""

import os
import tempfile
from pathlib import Path

from hmar.errors import DataError, StorageError
from pipeline.settings import RetrainSettings
from pipeline.training import refuse_unknown_models, training_settings


def check(s: RetrainSettings) -> None:
    """Check all that a run needs, within seconds.

    Raises:
        SettingsError: an unknown model, or an invalid training setting of one of them.
        DataError: the raw log is missing or unreadable. StorageError: the data directory cannot be written.
        ServiceError: MLflow does not answer; the address is named.
    """
    check_models(s)
    check_raw(s.raw)
    check_home(s)
    check_mlflow(s)


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

    Raises:
        DataError: it is not.
    """
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
