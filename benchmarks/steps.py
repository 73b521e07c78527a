"""Made-up users for benchmarks/train_step.py: a snapshot as far as training reads one, and the batches it gives."""

import json
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hmar.data.batches import TrainingData
from hmar.data.snapshot import SCHEMA_VERSION, Manifest, Snapshot
from hmar.losses import loss_function
from hmar.models.base import Encoder, TrainingBatch, Vocabulary

SPLIT = "leave_one_out"
SLOTS = 250
"""A user's items are drawn from so many, the first ones more often: about three of ten events meet an item again."""

Lengths = Literal["half", "third", "films"]


def input_lengths(law: Lengths, users: int, longest: int, seed: int = 0) -> NDArray[np.int64]:
    """Inputs per user, int64 [users], at most ``longest``: the quantiles of a law, in random order.

    half: uniform, mean L/2. third: L u^2 for uniform u, mean L/3. films: 19 and a log-normal number with median 46 and
    sigma 1.1, cut at L, which is close to the histories of MovieLens 100K.
    """
    u = (np.arange(users) + 0.5) / users
    if law == "half":
        lengths = np.rint(longest * u)
    elif law == "third":
        lengths = np.ceil(longest * u**2)
    else:
        normal = NormalDist(np.log(46), 1.1)
        lengths = np.minimum(19 + np.exp([normal.inv_cdf(share) for share in u]), longest)
    return np.random.default_rng(seed).permutation(lengths.astype(np.int64).clip(1))


def write_training_snapshot(
    path: Path, lengths: NDArray[np.int64], *, items: int, behaviors: tuple[str, ...], seed: int = 0
) -> Snapshot:
    """A snapshot without targets whose user u trains on ``lengths[u]`` inputs; every item occurs.

    Behaviors are drawn in the shares 1/2, 1/4, ... of the order given.
    """
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths + 1)])
    events, user = int(offsets[-1]), np.repeat(np.arange(len(lengths)), lengths + 1)
    slots = np.floor(items * rng.random((len(lengths), SLOTS)) ** 2).astype(np.int64)
    item = slots[user, np.floor(SLOTS * rng.random(events) ** 2).astype(np.int64)]
    item[rng.permutation(events)[:items]] = np.arange(items)[:events]
    shares = 0.5 ** np.arange(1, len(behaviors) + 1)
    behavior = rng.choice(len(behaviors), events, p=shares / shares.sum())
    arrays = {
        "offsets": offsets.astype(np.int64),
        "item": item.astype(np.int32),
        "behavior": behavior.astype(np.uint8),
        "time": (np.arange(events) - offsets[user]) * 60_000_000,
        "hbi": _running_counts(user * items + item, behavior, len(behaviors)),
    }
    for name, array in arrays.items():
        target = path / "arrays" / f"{name}.npy"
        target.parent.mkdir(parents=True, exist_ok=True)
        np.save(target, array)
    (path / "splits" / SPLIT).mkdir(parents=True, exist_ok=True)
    np.save(path / "splits" / SPLIT / "train_end.npy", arrays["offsets"][1:])
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        id=f"made-up-{seed}",
        dataset="made_up",
        source="made_up",
        behaviors=behaviors,
        target=behaviors[-1],
        repeats=True,
        consumed_by=(),
        item_id_type="int64",
        user_id_type="int64",
        users=len(lengths),
        items=items,
        events=events,
        behavior_counts={name: int((behavior == code).sum()) for code, name in enumerate(behaviors)},
        candidates=0,
        splits={SPLIT: {}},
        accounts={},
        settings={},
        inputs=[],
        code_version="benchmark",
        sql_digest="",
        files={},
    )
    (path / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf-8")
    return Snapshot(path)


def _running_counts(pair: NDArray[np.int64], behavior: NDArray[np.int64], behaviors: int) -> NDArray[np.uint16]:
    """Events of each behavior with the same pair so far, this one included; uint16 [E, R]."""
    order = np.argsort(pair, kind="stable")
    counts = np.cumsum(np.eye(behaviors, dtype=np.int64)[behavior[order]], axis=0)
    first = np.flatnonzero(np.r_[True, pair[order][1:] != pair[order][:-1]])
    before = np.vstack([np.zeros((1, behaviors), np.int64), counts[first[1:] - 1]])
    counts -= np.repeat(before, np.diff(np.r_[first, len(order)]), axis=0)
    running = np.empty_like(counts, np.uint16)
    running[order] = counts
    return running


def write_histories(path: Path, snapshot: Snapshot, data: TrainingData) -> None:
    """The items of every user, inputs and last target, in the order of the first epoch: for who knows no snapshot."""
    order = np.concatenate([data.users(0, step) for step in range(data.steps)]).tolist()
    users = [snapshot.item[snapshot.offsets[user] : snapshot.offsets[user + 1]].tolist() for user in order]
    path.write_text(json.dumps(users), encoding="utf-8")


def training_data(task: dict[str, Any], *, counts: bool, recency: bool = False) -> TrainingData:
    """The batches of a task, as training makes them."""
    loss = loss_function(task["loss"])
    return TrainingData(
        Snapshot(task["snapshot"]),
        SPLIT,
        max_length=task["length"],
        batch_size=task["users"],
        negatives=1 if loss.uses_negatives else 0,
        negatives_from="uniform",
        counts=counts,
        recency=recency,
    )


def training_batches(task: dict[str, Any], model: Encoder) -> list[TrainingBatch]:
    """The first epoch of it."""
    return list(training_data(task, counts=model.uses_hbi, recency=model.uses_recency).batches(0))


def vocabulary(task: dict[str, Any]) -> Vocabulary:
    """What the model is built for."""
    return Vocabulary.of(Snapshot(task["snapshot"]))
