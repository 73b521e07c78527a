"""A pickle that executes something, in the place of any file that is read: refused with a clear error, not executed."""

import hashlib
from pathlib import Path

import pytest

from hmar.data.batches import TrainingData
from hmar.data.snapshot import Snapshot
from hmar.errors import DataError
from hmar.export import load, save
from hmar.models.base import Recommender
from hmar.train.checkpoint import Checkpoints
from hmar.train.weights import load_weights, save_weights
from tests.support.poison import POISONS, swallow
from tests.support.training import cycle_snapshot, make_trainer, train_settings
from tests.support.untrained import untrained

SPLIT = "leave_one_out"
REFUSAL = "not tensors, numbers and text alone, nothing in it was run: refused checkpoint"


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return cycle_snapshot(tmp_path / "snapshot", users=20)


@pytest.fixture
def model(snapshot: Snapshot) -> Recommender:
    return untrained("sasrec", snapshot, SPLIT)


@pytest.fixture(params=POISONS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Exists when the poison has worked."""
    return tmp_path / "executed"


@pytest.fixture
def poison(kind: str, marker: Path) -> bytes:
    return POISONS[kind](marker)


def test_the_poison_is_one(kind: str, poison: bytes, marker: Path) -> None:
    swallow(kind, poison)
    assert marker.is_dir()


def checkpoint(folder: Path, step: int, content: bytes) -> Path:
    """A file that is named as a whole checkpoint is."""
    path = folder / f"{step:09d}.{hashlib.sha256(content).hexdigest()[:16]}.pt"
    path.write_bytes(content)
    return path


def test_as_the_newest_checkpoint_it_is_passed_over(
    snapshot: Snapshot, tmp_path: Path, poison: bytes, marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = train_settings(snapshot, tmp_path / "out", max_epochs=1)
    make_trainer(settings).fit()
    offered = checkpoint(tmp_path / "out" / "checkpoints", 900, poison)
    trainer = make_trainer(settings)
    assert trainer.restore()
    assert trainer.cursor.epoch == 1
    refusal = f"warning: {offered}: {REFUSAL} passed over"
    assert refusal in capsys.readouterr().out
    assert not marker.exists()


def test_as_the_only_checkpoint_it_is_an_error(tmp_path: Path, poison: bytes, marker: Path) -> None:
    offered = checkpoint(tmp_path, 7, poison)
    with pytest.raises(DataError, match=f"every checkpoint is damaged; delete .*{offered.name}: {REFUSAL}"):
        Checkpoints(tmp_path, keep=2).load(lambda text: None)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["arrays/item.npy", "arrays/offsets.npy", "splits/leave_one_out/train_end.npy"])
def test_as_an_array_of_the_snapshot_it_is_refused(snapshot: Snapshot, name: str, poison: bytes, marker: Path) -> None:
    (snapshot.path / name).write_bytes(poison)
    with pytest.raises(DataError, match=rf"{name}: unreadable \(.*\); rebuild the snapshot"):
        next(TrainingData(Snapshot(snapshot.path), SPLIT, max_length=5).batches(0))
    assert not marker.exists()


def test_as_the_best_weights_it_is_refused(model: Recommender, tmp_path: Path, poison: bytes, marker: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_weights(model, path, 1)
    load_weights(model, path)
    path.write_bytes(poison)
    with pytest.raises(DataError, match=r"best\.safetensors: unreadable .* to train anew"):
        load_weights(model, path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "items.parquet", "config.json"])
def test_as_a_file_of_an_exported_model_it_is_refused(
    model: Recommender, snapshot: Snapshot, tmp_path: Path, name: str, poison: bytes, marker: Path
) -> None:
    exported = save(tmp_path / "model", model, snapshot, SPLIT, 10)
    load(exported)
    (exported / name).write_bytes(poison)
    with pytest.raises(DataError, match=f"{name}: .*export the model again"):
        load(exported)
    assert not marker.exists()
