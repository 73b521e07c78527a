"""A snapshot that can be learned in seconds, and trainings of it."""

import re
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hmar.data.snapshot import Snapshot
from hmar.losses import loss_function
from hmar.models import model_class
from hmar.models.base import Encoder, Vocabulary
from hmar.models.ranker import Ranker
from hmar.tracking.client import connect
from hmar.train.data import training_data
from hmar.train.directory import TrainingDirectory
from hmar.train.engine import set_up
from hmar.train.loop import Trainer
from hmar.train.progress import Reporter
from hmar.train.settings import TrainSettings
from hmar.train.signals import StopSignal
from hmar.train.validation import validation
from tests.support.arrays import write_snapshot

TIMINGS = {"seconds", "memory_mb", "at", "validation_seconds"}
"""Of a history row: what differs between two equal trainings."""


def cycle_snapshot(path: Path, users: int = 120, items: int = 20, longest: int = 14, seed: int = 0) -> Snapshot:
    """Every user walks through the items in a circle, from a random one on: the next item is certain."""
    rng = np.random.default_rng(seed)
    starts, lengths = rng.integers(items, size=users), rng.integers(4, longest + 1, size=users)
    walks = [
        [(int((start + t) % items), int(t % 3), 10 * t) for t in range(length)]
        for start, length in zip(starts, lengths, strict=True)
    ]
    return write_snapshot(path, walks, items=items, seed=seed)


def train_settings(given: Snapshot | Path, out: Path, **values: Any) -> TrainSettings:
    """Small and quick unless told otherwise; the MLflow store stands beside ``out`` and has its tables."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if "tracking" not in values:
        blank_store(out.parent / "mlflow.db")
    small = {
        "model": "sasrec",
        "snapshot": str(given.path if isinstance(given, Snapshot) else given),
        "out": str(out),
        "loss": "bce",
        "negatives_from": "uniform",
        "batch_size": 16,
        "max_length": 10,
        "max_epochs": 3,
        "lr": 5e-3,
        "threads": 1,
        "device": "cpu",
        "config": {"d": 16, "blocks": 1, "dropout": 0.2, "positions": 10},
        "tracking": {"uri": f"sqlite:///{out.parent / 'mlflow.db'}"},
    }
    return TrainSettings.resolve({**small, **values}, use_environment=False)


def blank_store(path: Path) -> str:
    """An MLflow store in the SQLite file ``path``, kept if it is there; its address. Making the tables takes seconds,
    so they are made once and copied."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_blank_store())
    return f"sqlite:///{path}"


@cache
def _blank_store() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        connect(f"sqlite:///{path}")
        return path.read_bytes()


def make_trainer(settings: TrainSettings, **parts: Any) -> Trainer:
    """A trainer without MLflow; ``parts`` replaces what it is made of."""
    device = set_up(settings)
    snapshot = Snapshot(settings.snapshot)
    torch.manual_seed(settings.seed)
    kind = model_class(settings.model)
    model = kind(kind.Config.parse(settings.config), Vocabulary.of(snapshot))
    assert isinstance(model, Encoder | Ranker)
    model.fit_counts(snapshot, settings.split)
    loss = loss_function(settings.loss, **settings.loss_options)
    data = training_data(settings, snapshot, model, loss)
    standard: dict[str, Any] = {
        "device": device,
        "directory": TrainingDirectory(settings.out),
        "reporter": Reporter(settings.log_seconds, settings.max_epochs),
        "stop": StopSignal(),
        "validate": validation(
            model, snapshot, settings.split, settings.max_length, data.prior, metric=settings.select_metric
        ),
        "on_epoch": lambda history: None,
    }
    return Trainer(settings, model, parts.pop("loss", loss), data, **{**standard, **parts})


def computed(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without what depends on the clock."""
    return [{key: value for key, value in row.items() if key not in TIMINGS} for row in history]


def wait_until(true: Callable[[], bool], what: str, seconds: float = 90, every: float = 0.005) -> None:
    """Poll; fail with ``what`` when the time is up."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"never happened: {what}")
        time.sleep(every)


def log_has(log: Path, pattern: str) -> bool:
    return log.exists() and re.search(pattern, log.read_text(encoding="utf-8")) is not None
