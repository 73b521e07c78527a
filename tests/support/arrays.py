"""Snapshots straight from lists of events, in the format of hmar.data.snapshot, for tests of what reads them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hmar.data.snapshot import IMPRESSION_COLUMNS, SCHEMA_VERSION, Snapshot

Event = tuple[int, int, int]
"""(item, behavior code, seconds)."""


def write_snapshot(
    path: Path,
    users: Sequence[Sequence[Event]],
    *,
    items: int,
    behaviors: Sequence[str] = ("view", "cart", "buy"),
    target: str = "buy",
    repeats: bool = True,
    held_out: int = 1,
    candidates: int = 5,
    seed: int = 0,
) -> Snapshot:
    """One split, 'leave_one_out', in which a user's last ``held_out`` events are no training events.

    The last event of every user with more than one is a validation target, whatever its behavior.
    """
    lengths = np.array([len(events) for events in users], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.array([event for events in users for event in events], np.int64).reshape(-1, 3)
    item, behavior, time = flat[:, 0], flat[:, 1], flat[:, 2] * 1_000_000
    user = np.repeat(np.arange(len(users)), lengths)
    hbi = np.zeros((len(flat), len(behaviors)), np.uint16)
    running: dict[tuple[int, int], np.ndarray] = {}
    for row in range(len(flat)):
        counts = running.setdefault((int(user[row]), int(item[row])), np.zeros(len(behaviors), np.uint16))
        counts[behavior[row]] += 1
        hbi[row] = counts
    directory = path / "splits" / "leave_one_out"
    directory.mkdir(parents=True)
    (path / "arrays").mkdir()
    train_end = np.maximum(offsets[1:] - held_out, offsets[:-1])
    for name, array in {
        "offsets": offsets,
        "item": item.astype(np.int32),
        "behavior": behavior.astype(np.uint8),
        "time": time,
        "hbi": hbi,
    }.items():
        np.save(path / "arrays" / f"{name}.npy", array)
    np.save(directory / "train_end.npy", train_end)
    chosen = np.flatnonzero(lengths > 1)
    events = offsets[chosen + 1] - 1
    before = [{int(i) for i in item[offsets[u] : offsets[u + 1] - 1]} for u in chosen]
    trained = set(item[np.concatenate([np.arange(a, b) for a, b in zip(offsets, train_end, strict=False)])].tolist())
    pq.write_table(
        pa.table(
            {
                "target": np.arange(len(chosen)),
                "part": ["validation"] * len(chosen),
                "user": chosen.astype(np.int32),
                "item": item[events].astype(np.int32),
                "event": events,
                "event_time": pa.array(time[events], pa.timestamp("us", tz="UTC")),
                "history_end": events,
                "catalog": np.full(len(chosen), items, np.int32),
                "repeat": [int(item[e]) in seen for e, seen in zip(events, before, strict=True)],
                "cold_user": np.zeros(len(chosen), bool),
                "cold_item": [int(item[e]) not in trained for e in events],
            }
        ),
        directory / "targets.parquet",
    )
    rng = np.random.default_rng(seed)
    drawn = np.full((len(chosen), candidates), -1, np.int32)
    for row, event in enumerate(events):
        others = rng.permutation(np.delete(np.arange(items), item[event]))[:candidates]
        drawn[row, : len(others)] = others
    pq.write_table(
        pa.table(
            {
                "target": np.repeat(np.arange(len(chosen)), candidates),
                "position": np.tile(np.arange(candidates, dtype=np.int16), len(chosen)),
                "item": pa.array(drawn.reshape(-1), mask=drawn.reshape(-1) < 0),
            }
        ),
        directory / "candidates.parquet",
    )
    for name, count in (("item", items), ("user", len(users))):
        ids = np.arange(count)
        pq.write_table(pa.table({name: ids.astype(np.int32), f"{name}_id": ids + 1000}), path / f"{name}s.parquet")
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "id": f"made-up-{seed}",
        "dataset": "made_up",
        "source": "made_up",
        "behaviors": list(behaviors),
        "target": target,
        "repeats": repeats,
        "consumed_by": [] if repeats else [target],
        "item_id_type": "int64",
        "user_id_type": "int64",
        "users": len(users),
        "items": items,
        "events": len(flat),
        "behavior_counts": {name: int((behavior == code).sum()) for code, name in enumerate(behaviors)},
        "candidates": candidates,
        "splits": {"leave_one_out": {}},
        "accounts": {},
        "settings": {},
        "inputs": [],
        "code_version": "test",
        "sql_digest": "",
        "files": {},
    }
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return Snapshot(path)


def random_users(
    count: int, items: int, behaviors: int, longest: int, seed: int = 0, shortest: int = 0
) -> list[list[Event]]:
    """Histories of random length whose items recur often."""
    rng = np.random.default_rng(seed)
    return [
        [
            (int(rng.integers(items)), int(rng.integers(behaviors)), 10 * t)
            for t in range(rng.integers(shortest, longest + 1))
        ]
        for _ in range(count)
    ]


def write_impressions(
    snapshot: Snapshot,
    positive: Sequence[str] = ("buy",),
    negative: Sequence[str] = ("view",),
    sampled: int = 1,
    seed: int = 0,
    tasks: Sequence[str] = (),
) -> Snapshot:
    """The same snapshot with labelled impressions: every event of these behaviors, and items drawn beside positives;
    for further tasks the same of that behavior alone.

    Training moments are those of training events; a user's last moment after them is validation, earlier ones are test.
    """
    code = snapshot.behaviors.index
    said = {code(name): 1 for name in positive} | {code(name): 0 for name in negative}
    _write_impressions(snapshot, said, sampled, np.random.default_rng(seed), "")
    for name in tasks:
        _write_impressions(snapshot, {code(name): 1}, sampled, np.random.default_rng(seed), f"-{code(name)}")
    manifest = json.loads((snapshot.path / "manifest.json").read_text(encoding="utf-8"))
    manifest["splits"]["leave_one_out"] |= {"impressions": {}, "tasks": {key: {} for key in tasks}}
    manifest["feedback"] = {**dict.fromkeys(positive, 1), **dict.fromkeys(negative, 0)}
    (snapshot.path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return Snapshot(snapshot.path)


def _write_impressions(
    snapshot: Snapshot, codes: dict[int, int], sampled: int, rng: np.random.Generator, suffix: str
) -> None:
    train_end = snapshot.train_end("leave_one_out")
    rows: list[tuple[int, int, int, int, int, int, bool]] = []
    parts: dict[int, str] = {}
    moment = 0
    for user in range(snapshot.n_users):
        start, end = snapshot.offsets[user], snapshot.offsets[user + 1]
        times = sorted({int(snapshot.time[e]) for e in range(start, end) if int(snapshot.behavior[e]) in codes})
        later: list[int] = []
        for time in times:
            now = [e for e in range(start, end) if snapshot.time[e] == time]
            said = {
                int(snapshot.item[e]): codes[int(snapshot.behavior[e])] for e in now if snapshot.behavior[e] in codes
            }
            others = [i for i in rng.permutation(snapshot.n_items).tolist() if i not in said][
                : sampled * sum(said.values())
            ]
            candidates = {**{item: (label, False) for item, label in said.items()}, **dict.fromkeys(others, (0, True))}
            rows += [(moment, user, time, now[0], item, *candidates[item]) for item in sorted(candidates)]
            if now[0] < train_end[user]:
                parts[moment] = "training"
            else:
                later.append(moment)
            moment += 1
        parts |= dict(zip(later[-1:], ["validation"], strict=False)) | dict.fromkeys(later[:-1], "test")
    columns = list(zip(*rows, strict=True)) or [()] * 7
    kinds = (pa.int64(), pa.int32(), pa.timestamp("us", tz="UTC"), pa.int64(), pa.int32(), pa.uint8(), pa.bool_())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    pq.write_table(
        pa.table(dict(zip(IMPRESSION_COLUMNS, arrays, strict=True))), snapshot.path / f"impressions{suffix}.parquet"
    )
    pq.write_table(
        pa.table({"moment": pa.array(parts, pa.int64()), "part": pa.array(parts.values(), pa.string())}),
        snapshot.path / "splits" / "leave_one_out" / f"moments{suffix}.parquet",
    )
