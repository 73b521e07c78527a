"""``python -m tests.support.short_of_memory DIR``: trains with all memory, then with less than a batch takes."""

import resource
import sys
from pathlib import Path

import psutil
import torch

from hmar.data.snapshot import Snapshot
from hmar.train.loop import Trainer
from tests.support.arrays import random_users, write_snapshot
from tests.support.training import make_trainer, train_settings

USERS = 400
ROOM = 150 * 2**20
"""Bytes that a training may take; one batch takes twice as much."""


def trained(snapshot: Snapshot, out: Path) -> Trainer:
    """One batch per epoch, so that nothing is gathered while it is computed on."""
    config = {"d": 64, "blocks": 2, "dropout": 0.0, "positions": 100}
    trainer = make_trainer(
        train_settings(snapshot, out, batch_size=USERS, max_length=100, max_epochs=3, config=config), validate=None
    )
    trainer.fit()
    return trainer


def snapshot(path: Path, users: int) -> Snapshot:
    return write_snapshot(path, random_users(users, 50, 3, 100, seed=1, shortest=60), items=50, seed=1)


def main(directory: Path) -> None:
    trained(snapshot(directory / "few", 3), directory / "few-out")  # so that all code is loaded
    many = snapshot(directory / "many", USERS)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + ROOM, most))
    short = trained(many, directory / "short")
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    straight = trained(many, directory / "straight")
    losses = [torch.tensor([row["loss"] for row in trainer.history]) for trainer in (short, straight)]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=0.0)
    print(f"the same in passes of {short._gradients.users} and of {straight._gradients.users} users")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
