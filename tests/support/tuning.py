"""Studies of SASRec on a snapshot whose next item is certain: a trial is a real training of a few seconds."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from hmar.data.snapshot import Snapshot
from pipeline.results import Built, Planned, Tuned
from pipeline.stages.tune import attempt, conclude, plan
from pipeline.tune_settings import TuneSettings
from tests.conftest import CHECKOUT
from tests.support.training import blank_store

STUDY = "few"

_OWN = ("lr", "batch_size", "negatives", "loss", "config.d", "config.heads", "config.blocks", "config.dropout")

ALL_OUT = dict.fromkeys(_OWN)
"""Takes every line of SASRec's own space out."""

TRAINING = {
    "threads": 1, "device": "cpu", "batch_size": 16, "max_length": 10, "eval_every": 1, "patience": 60, "lr": 5e-3,
    "loss": "bce", "negatives": 1, "negatives_from": "uniform",
    "config": {"d": 16, "blocks": 1, "dropout": 0.2, "positions": 10},
}  # fmt: skip


def tune_settings(home: Path, **values: Any) -> TuneSettings:
    """``search`` is all that is searched."""
    blank = home / "mlflow.db"
    blank_store(blank)
    given = {
        "dataset": "taobao",
        "name": "tiny",
        "home": str(home),
        "model": "sasrec",
        "study": STUDY,
        "overrides": {"sasrec": TRAINING},
        "max_epochs": 60,
        **values,
        "search": {**ALL_OUT, **values["search"]},
    }
    return TuneSettings.resolve(given, use_environment=False)


def as_built(snapshot: Snapshot) -> Built:
    return Built(snapshot=snapshot.path, id=snapshot.manifest.id)


def tuned(s: TuneSettings, built: Built) -> tuple[Planned, Tuned]:
    """A whole study in this process."""
    planned = plan(s, built)
    attempt(s, built, planned, relay=lambda line: None)
    return planned, conclude(s, built, planned)


_CODE = """
import sys
from pathlib import Path
from hmar.data.snapshot import Snapshot
from hmar.errors import HmarError
from pipeline.tune_settings import TuneSettings
from tests.support.tuning import as_built, tuned
s = TuneSettings.model_validate_json(Path(sys.argv[1]).read_text())
s = TuneSettings.resolve(s.model_dump(mode="json"), use_environment=False)
try:
    tuned(s, as_built(Snapshot(sys.argv[2])))
except HmarError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def tuning_process(s: TuneSettings, snapshot: Snapshot) -> "subprocess.Popen[str]":
    """The same in a process that may be killed."""
    file = s.home / "settings.json"
    file.write_text(s.model_dump_json(), encoding="utf-8")
    words = [sys.executable, "-c", _CODE, str(file), str(snapshot.path)]
    return subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
