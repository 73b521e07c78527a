from pathlib import Path

import pytest
import torch

from hmar.errors import DataError
from hmar.train.checkpoint import Checkpoints


def no_warning(text: str) -> None:
    raise AssertionError(text)


def state(value: float) -> dict[str, object]:
    return {"weights": torch.full((3,), value), "step": int(value), "text": "x", "nothing": None, "list": [1, 2.5]}


def test_the_newest_comes_back_as_it_was(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    assert checkpoints.load(no_warning) is None
    for step in (1, 2, 10):
        checkpoints.save(step, state(step))
    loaded = checkpoints.load(no_warning)
    assert loaded is not None
    assert torch.equal(loaded.pop("weights"), torch.full((3,), 10.0))
    assert loaded == {"step": 10, "text": "x", "nothing": None, "list": [1, 2.5]}
    assert len(list((tmp_path / "c").iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    checkpoints.save(1, state(1))
    newest = checkpoints.save(2, state(2))
    content = bytearray(newest.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    kept = {"cut": len(content) // 2, "flipped": len(content), "emptied": 0}[damage]
    newest.write_bytes(content[:kept])
    warnings: list[str] = []
    loaded = checkpoints.load(warnings.append)
    assert loaded is not None
    assert loaded["step"] == 1
    assert len(warnings) == 1
    assert newest.name in warnings[0]
    # It does not crowd out those that come after the one it fell back to.
    checkpoints.keep = 1
    checkpoints.save(1, state(7))
    loaded = Checkpoints(tmp_path, keep=1).load(no_warning)
    assert loaded is not None
    assert loaded["step"] == 7


def test_all_damaged_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 2):
        checkpoints.save(step, state(step)).write_bytes(b"nonsense")
    with pytest.raises(DataError, match="every checkpoint is damaged; delete"):
        checkpoints.load(lambda text: None)


def test_what_a_killed_writer_left_is_swept_and_never_read(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, state(1))
    (tmp_path / ".tmp-000000002.77.pt").write_bytes(b"half of a checkp")
    loaded = checkpoints.load(no_warning)
    assert loaded is not None
    assert loaded["step"] == 1
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".tmp-")] == []


def test_a_pickle_in_a_checkpoints_place_is_not_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "executed",))  # type: ignore[return-value]

    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, {"evil": Evil()})
    with pytest.raises(DataError):
        checkpoints.load(lambda text: None)
    assert not (tmp_path / "executed").exists()
