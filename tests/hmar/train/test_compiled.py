"""A compiled step trains to what the plain one does."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.train.directory import computing
from tests.conftest import CHECKOUT
from tests.support.training import cycle_snapshot, make_trainer, train_settings

CONFIGS: dict[str, dict[str, Any]] = {
    "hmar": {"d": 16, "dropout": 0.0, "positions": 10},
    "hmar_plus": {"d": 16, "blocks": 1, "dropout": 0.0, "positions": 10},
    "sasrec": {"d": 16, "blocks": 1, "dropout": 0.0, "positions": 10},
}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return cycle_snapshot(tmp_path_factory.mktemp("snapshot") / "cycle", users=60, items=15)


def course(snapshot: Snapshot, out: Path, **values: Any) -> list[float]:
    trainer = make_trainer(train_settings(snapshot, out, max_epochs=2, **values), validate=None)
    trainer.model.to(trainer.fabric.device)
    trainer.fit()
    return [row["loss"] for row in trainer.history]


def assert_same_course(snapshot: Snapshot, tmp_path: Path, model: str, loss: str, **values: Any) -> None:
    torch.compiler.reset()
    given = {"model": model, "config": CONFIGS[model], "loss": loss, **values}
    plain = course(snapshot, tmp_path / "plain", **given)
    compiled = course(snapshot, tmp_path / "compiled", compile=True, **given)
    torch.compiler.reset()
    assert compiled == pytest.approx(plain, rel=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize(
    ("model", "loss"), [("sasrec", "cross_entropy"), ("hmar", "bce"), ("hmar_plus", "cross_entropy")]
)
def test_on_the_cpu(snapshot: Snapshot, tmp_path: Path, model: str, loss: str) -> None:
    assert_same_course(snapshot, tmp_path, model, loss)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
@pytest.mark.parametrize(
    ("model", "loss"), [("sasrec", "cross_entropy"), ("hmar", "bce"), ("hmar_plus", "cross_entropy")]
)
def test_on_the_gpu(snapshot: Snapshot, tmp_path: Path, model: str, loss: str, precision: str) -> None:
    assert_same_course(snapshot, tmp_path, model, loss, device="cuda", precision=precision)


def test_it_is_no_manner_of_running_but_part_of_what_is_computed(snapshot: Snapshot, tmp_path: Path) -> None:
    assert "compile" in computing(train_settings(snapshot, tmp_path / "out").model_dump(mode="json"))


@pytest.mark.slow
def test_without_a_compiler_the_error_says_so(tmp_path: Path) -> None:
    code = """
import torch
from hmar.errors import SettingsError
from hmar.train.compiled import compile_step
try:
    compile_step(torch.nn.Identity(), torch.device("cpu"))
except SettingsError as error:
    print(error)
"""
    environment = {"PATH": "/nowhere", "CXX": "/nowhere/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=CHECKOUT
    )
    assert done.stdout.startswith("compile: torch.compile does not work here (")
    assert done.stdout.strip().endswith("leave it out")
    assert len(done.stdout.strip().splitlines()) == 1
