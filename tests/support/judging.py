"""Made-up evaluation cases with a plain-Python oracle of the protocol."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from hmar.data.histories import Histories
from hmar.data.snapshot import Snapshot
from hmar.models.base import CandidateCounts, Rule, Vocabulary
from hmar.settings import Section
from tests.support.arrays import Event, write_snapshot

SPLIT = "leave_one_out"


def case(
    path: Path, seed: int, *, users: int = 6, items: int = 15, longest: int = 12, repeats: bool = True
) -> Snapshot:
    """A random snapshot whose targets are about half of all eligible target-behavior events: several per user, some
    the first event of their user, some of an item nobody had seen before. All times differ, dense item ids follow
    first_seen, a few stored candidates are missing."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, longest + 1, users)
    owner = rng.permutation(np.repeat(np.arange(users), lengths))
    raw = rng.integers(0, items, len(owner))
    _, first, inverse = np.unique(raw, return_index=True, return_inverse=True)
    dense = np.argsort(np.argsort(first))[inverse]
    behavior = rng.integers(0, 3, len(owner))
    histories: list[list[Event]] = [[] for _ in range(users)]
    for second, (user, item, code) in enumerate(zip(owner, dense, behavior, strict=True)):
        histories[user].append((int(item), int(code), second))
    snapshot = write_snapshot(path, histories, items=int(dense.max()) + 1, repeats=repeats, candidates=4, seed=seed)
    _retarget(snapshot, np.sort(first), rng)
    return snapshot


def _retarget(snapshot: Snapshot, first_seen: np.ndarray, rng: np.random.Generator) -> None:
    """Replace targets and candidates of a snapshot whose items were first seen at these seconds."""
    rows = []
    for user in range(snapshot.n_users):
        start, end = snapshot.offsets[user : user + 2]
        for event in range(start, end):
            item = int(snapshot.item[event])
            past = range(start, event)
            consumed = {int(snapshot.item[row]) for row in past if snapshot.consuming[snapshot.behavior[row]]}
            if snapshot.behavior[event] != snapshot.target_behavior or item in consumed or rng.random() < 0.5:
                continue
            rows.append(
                {
                    "part": str(rng.choice(["validation", "test"])),
                    "user": user,
                    "item": item,
                    "event": event,
                    "event_time": int(snapshot.time[event]),
                    "history_end": event,
                    "catalog": int((first_seen * 1_000_000 < snapshot.time[event]).sum()),
                    "repeat": item in {int(snapshot.item[row]) for row in past},
                    "cold_user": event == start,
                    "cold_item": bool(rng.random() < 0.2),
                }
            )
    rows.sort(key=lambda row: (row["part"], row["user"], row["event"]))
    types = {
        "part": pa.string(),
        "user": pa.int32(),
        "item": pa.int32(),
        "event": pa.int64(),
        "event_time": pa.timestamp("us", "UTC"),
        "history_end": pa.int64(),
        "catalog": pa.int32(),
        "repeat": pa.bool_(),
        "cold_user": pa.bool_(),
        "cold_item": pa.bool_(),
    }
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()}
    directory = snapshot.path / "splits" / SPLIT
    pq.write_table(
        pa.table({"target": pa.array(range(len(rows)), pa.int64()), **columns}), directory / "targets.parquet"
    )
    wanted = snapshot.manifest.candidates
    drawn: list[int | None] = []
    for row in rows:
        others = [item for item in range(row["catalog"]) if item != row["item"]]
        some = rng.permutation(others)[:wanted].tolist()
        drawn += some + [None] * (wanted - len(some))
    table = {
        "target": pa.array(np.repeat(np.arange(len(rows)), wanted)),
        "position": pa.array(np.tile(np.arange(wanted, dtype=np.int16), len(rows))),
        "item": pa.array(drawn, pa.int32()),
    }
    pq.write_table(pa.table(table), directory / "candidates.parquet")


class Scripted(Rule):
    """Scores by script: one row of scores per time of asking, [V]."""

    Config = Section

    def __init__(self, snapshot: Snapshot, script: dict[int, np.ndarray]) -> None:
        super().__init__(Section(), Vocabulary.of(snapshot))
        times = sorted(script)
        self.register_buffer("times", torch.tensor(times, dtype=torch.int64))
        self.register_buffer("table", torch.tensor(np.array([script[t] for t in times]), dtype=torch.float32))

    def score_all(self, histories: Histories, seen: CandidateCounts) -> Tensor:
        return self.table[torch.searchsorted(self.times, histories.now)]

    def score(self, histories: Histories, seen: CandidateCounts, items: Tensor) -> Tensor:
        return self.score_all(histories, seen).gather(1, items)


def script(snapshot: Snapshot, seed: int) -> dict[int, np.ndarray]:
    """Random scores for every target of the case, with many ties and some -inf."""
    rng = np.random.default_rng(seed)
    found = {}
    for part in ("validation", "test"):
        for event in snapshot.targets(SPLIT, part).event:
            scores = rng.integers(-3, 4, snapshot.n_items).astype(np.float64)
            scores[rng.random(snapshot.n_items) < 0.1] = -np.inf
            found[int(snapshot.time[event])] = scores
    return found


@dataclass(frozen=True)
class Expected:
    """What the oracle says of one target."""

    full: float
    sampled: float
    candidates: list[int]


def oracle(snapshot: Snapshot, part: str, scores: dict[int, np.ndarray]) -> list[Expected]:
    """The protocol, one target and one item at a time."""
    targets = snapshot.targets(SPLIT, part)  # type: ignore[arg-type]
    stored = snapshot.candidates(SPLIT, targets)
    expected = []
    for place in range(len(targets)):
        user, item, catalog = int(targets.user[place]), int(targets.item[place]), int(targets.catalog[place])
        row = scores[int(snapshot.time[targets.event[place]])]
        consumed = {
            int(snapshot.item[event])
            for event in range(snapshot.offsets[user], targets.history_end[place])
            if snapshot.consuming[snapshot.behavior[event]]
        }
        candidates = [other for other in range(catalog) if other not in consumed]
        missed = item >= catalog or row[item] == -math.inf
        sampled = [int(other) for other in stored[place] if other >= 0]
        expected.append(
            Expected(
                full=math.inf if missed else rank(row, item, candidates),
                sampled=math.inf if missed else rank(row, item, sampled),
                candidates=candidates,
            )
        )
    return expected


def rank(scores: np.ndarray, item: int, candidates: list[int]) -> float:
    """1 + candidates above the item + other candidates level with it."""
    above = sum(scores[other] > scores[item] for other in candidates)
    level = sum(scores[other] == scores[item] for other in candidates if other != item)
    return float(1 + above + level)
