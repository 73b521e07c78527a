"""The directory of one training: where its files are, who may use it, and what run it holds."""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from hmar.atomic import storage_errors, write_json
from hmar.errors import BusyError, DataError, SettingsError
from hmar.tracking.run import flatten
from hmar.train.settings import RESUMABLE_KEYS, TrainSettings

Status = Literal["running", "interrupted", "failed", "finished"]


class RunRecord(BaseModel):
    """run.json: what the next stage needs to know of a training."""

    model_config = ConfigDict(extra="forbid")

    training: str
    """Identity of this training; the tag of its MLflow run."""
    status: Status = "running"
    model: str
    snapshot: str
    """Id of the snapshot."""
    split: str
    leaks: tuple[str, ...] = ()
    """What it knows that it must not know (:mod:`hmar.leaks`)."""
    mlflow_run: str | None = None
    mlflow_model: str | None = None
    """Id of the logged model, which is what gets registered."""
    metric: str = "ndcg@10"
    """That chose the weights: auc and gauc are of labelled impressions, others of ranked targets."""
    best_epoch: int | None = None
    """1-based; None where nothing was validated."""
    best_metric: float | None = None
    """On the validation targets, full ranking."""
    epochs: int = 0
    """Epochs trained."""


class TrainingDirectory:
    """Names of the files in ``out``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = root / "settings.json"
        self.log = root / "train.log"
        self.checkpoints = root / "checkpoints"
        self.best = root / "best.safetensors"
        self.history = root / "history.json"
        self.record = root / "run.json"
        self.bad_batch = root / "bad_batch.json"
        self.model = root / "model"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out while the block runs; the lock dies with the process.

        Raises:
            BusyError: another process trains here.
        """
        with storage_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise BusyError(f"{self.root}: another process is training here; wait, or choose another out") from None
        try:
            yield
        finally:
            lock.release()

    def open_record(self, settings: TrainSettings, snapshot: str) -> RunRecord:
        """The record of the training to continue, or of a new one.

        Raises:
            SettingsError: the directory holds a training with other settings or of another snapshot.
            DataError: its files are damaged.
        """
        record = read_record(self.root) if self.record.exists() else None
        if record is not None and record.mlflow_run is not None:
            self._refuse_other(settings, record, snapshot)
        else:  # nothing here, or a start that failed before there was anything to keep
            identity = record.training if record is not None else uuid.uuid4().hex
            record = RunRecord(
                training=identity,
                model=settings.model,
                snapshot=snapshot,
                split=settings.split,
                metric=settings.select_metric,
            )
        write_json(self.settings, settings.model_dump(mode="json"))
        self.write_record(record)
        return record

    def write_record(self, record: RunRecord) -> None:
        write_json(self.record, record.model_dump(mode="json"))

    def _refuse_other(self, settings: TrainSettings, record: RunRecord, snapshot: str) -> None:
        if record.snapshot != snapshot:
            raise SettingsError(
                f"out: {self.root} holds a training on snapshot {record.snapshot}, not {snapshot}; choose another out"
            )
        try:
            old = flatten(computing(json.loads(self.settings.read_text(encoding="utf-8"))))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.settings}: unreadable ({error}); delete {self.root} to train anew") from None
        new = flatten(computing(settings.model_dump(mode="json")))
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                raise SettingsError(
                    f"{key}: {self.root} holds a training with {old.get(key)!r}, not {new.get(key)!r}; "
                    "choose another out or give the same value"
                )


def computing(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that determine the weights."""
    return {key: value for key, value in settings.items() if key not in RESUMABLE_KEYS}


def read_record(out: Path) -> RunRecord:
    """run.json of the training directory ``out``.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = TrainingDirectory(out).record
    try:
        return RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{out}: not a training directory (no run.json); train with 'python -m hmar.train'") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: unreadable ({str(error).splitlines()[0]}); delete {out} and train again") from None
