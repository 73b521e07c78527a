"""``python -m tests.support.larger_than_memory DIR``: trains on a snapshot whose arrays take more memory than there is.

The limit is the kernel's, on what a process may write to (RLIMIT_DATA). Mapped files do not count: where memory is
short the kernel drops their pages and reads them again.
"""

import json
import re
import resource
import sys
from pathlib import Path

import numpy as np

from hmar.data.batches import TrainingData
from hmar.data.snapshot import Snapshot
from tests.support.arrays import random_users, write_snapshot
from tests.support.training import make_trainer, train_settings

USERS, LENGTH, ITEMS = 4_000, 15_000, 500
ROOM = 100 * 2**20
"""Bytes that may be taken from here on."""

BLOCK = 2**20


def huge(path: Path) -> Snapshot:
    """60 M events in the format of the house; times and counts are zeros, which no disk has to hold."""
    small = write_snapshot(path, random_users(10, ITEMS, 3, 9, seed=1, shortest=5), items=ITEMS, seed=1)
    events = USERS * LENGTH
    offsets = np.arange(USERS + 1, dtype=np.int64) * LENGTH
    np.save(path / "arrays/offsets.npy", offsets)
    np.save(path / "splits/leave_one_out/train_end.npy", offsets[1:] - 2)
    rng = np.random.default_rng(0)
    blocks = {"item": rng.integers(ITEMS, size=BLOCK), "behavior": rng.integers(3, size=BLOCK)}
    for name, kind, shape in (
        ("item", np.int32, (events,)),
        ("behavior", np.uint8, (events,)),
        ("time", np.int64, (events,)),
        ("hbi", np.uint16, (events, 3)),
    ):
        array = np.lib.format.open_memmap(path / f"arrays/{name}.npy", mode="w+", dtype=kind, shape=shape)
        if name in blocks:
            for start in range(0, events, BLOCK):
                array[start : start + BLOCK] = blocks[name][: events - start]
        del array
    manifest = {**json.loads((path / "manifest.json").read_text(encoding="utf-8")), "users": USERS, "events": events}
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return Snapshot(small.path)


def writable() -> int:
    """Bytes that this process may write to: what RLIMIT_DATA limits."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"^VmData:\s+(\d+) kB$", status, re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def trained(snapshot: Snapshot, out: Path) -> int:
    """Positions of one epoch of HMAR with counts and unseen negatives, which ask for whole histories."""
    config = {"d": 16, "dropout": 0.1, "positions": 20}
    given = {"model": "hmar", "negatives_from": "unseen", "batch_size": 16, "max_length": 20, "max_epochs": 1}
    trainer = make_trainer(train_settings(snapshot, out, config=config, **given), validate=None)
    trainer.fit()
    return int(trainer.history[0]["tokens"])


def main(directory: Path) -> None:
    few = write_snapshot(directory / "few", random_users(20, 30, 3, 30, seed=2, shortest=5), items=30)
    trained(few, directory / "few-out")  # so that all code is loaded
    snapshot = huge(directory / "huge")
    arrays = sum(path.stat().st_size for path in (snapshot.path / "arrays").iterdir())
    resource.setrlimit(resource.RLIMIT_DATA, (writable() + ROOM, resource.RLIM_INFINITY))
    try:
        np.array(snapshot.item)
        raise AssertionError("a whole column found room, so the limit says nothing")
    except MemoryError:
        pass
    positions = trained(snapshot, directory / "out")
    data = TrainingData(
        snapshot, "leave_one_out", max_length=50, batch_tokens=2000, batching="by_length", long_histories="windows",
        behaviors=("buy",),
    )  # fmt: skip
    gathered = [len(batch.next_item) for batch, _ in zip(data.batches(0), range(20), strict=False)]
    print(f"{positions} positions, {data.tokens} in windows, {np.mean(gathered):.0f} a batch")
    print(f"{arrays / ROOM:.1f} times the memory")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
