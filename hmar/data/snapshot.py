"""The snapshot: the one thing that passes from the pipeline to the models. This module is its format.

An immutable directory::

    manifest.json                   Manifest, below
    users.parquet                   user int32, user_id (as the source has it), first_seen, events; row number = user
    items.parquet                   item int32, item_id (as the source has it), category_id, first_seen, events;
                                    row number = item; new ids follow the known ones by first_seen, and never move
    events.parquet                  user, item, behavior, event_time and one hbi_<behavior> column per behavior, sorted
    arrays/offsets.npy              int64 [U+1]   events of user u are rows offsets[u] : offsets[u+1]
    arrays/item.npy                 int32 [E]
    arrays/behavior.npy             uint8 [E]     index into manifest.behaviors (funnel order)
    arrays/time.npy                 int64 [E]     microseconds since 1970-01-01 UTC
    arrays/hbi.npy                  uint16 [E, R] how often this user had done each behavior with this event's item,
                                                  this event included
    splits/<split>/train_end.npy    int64 [U]     training events of user u are rows offsets[u] : train_end[u]
    splits/<split>/targets.parquet  one row per target, TARGET_COLUMNS, sorted by (part, user, event)
    splits/<split>/candidates.parquet  target int64, position int16, item int32 (null where the catalog is too small);
                                    exactly manifest.candidates rows per target, sorted by (target, position)

and, where the settings ask for labelled impressions (``manifest.splits[split]["impressions"]`` says so)::

    impressions.parquet             one row per moment of feedback and item, IMPRESSION_COLUMNS, sorted by (moment,
                                    item): what the user said yes or no to at that time, and sampled negatives
    splits/<split>/moments.parquet  moment int64, part ('training', 'validation' or 'test'), sorted by moment; moments
                                    that are in no part are missing

These ask about the target. Where the settings name further tasks (``manifest.splits[split]["tasks"]``), behaviors that
are asked about too, each has the same two files, with its code b: ``impressions-<b>.parquet``, in which yes is that
behavior and every no is sampled, and ``splits/<split>/moments-<b>.parquet``.

Events of a user stand in the order (time, funnel rank of the behavior, hash of user, item and behavior); where a log
holds an event several times, by the count that its hbi has reached.

The split ``published`` breaks three promises of TARGET_COLUMNS on purpose, as HMAR's code does: its two parts hold the
same targets (unless the settings ask for a validation of its own), ``history_end`` is ``event`` (so that events of the
target's own time may stand before it) and ``catalog`` is all items. ``repeat`` and ``cold_user`` are said of the
history as it is there.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hmar.errors import DataError

SCHEMA_VERSION = 2

Part = Literal["validation", "test"]
PARTS: tuple[Part, ...] = ("validation", "test")

TARGET_COLUMNS = {
    "target": "int64",  # row number over both parts; the key of candidates.parquet
    "part": "string",  # 'validation' or 'test'
    "user": "int32",
    "item": "int32",
    "event": "int64",  # row of events
    "event_time": "timestamp[us, tz=UTC]",
    "history_end": "int64",  # the history is rows offsets[user] : history_end, all strictly before event_time
    "catalog": "int32",  # items 0 : catalog had been seen by anyone before event_time
    "repeat": "bool",  # the target is in the history, under any behavior
    "cold_user": "bool",  # the history is empty
    "cold_item": "bool",  # no training event of this split has the item
}


Portion = Literal["training", "validation", "test"]
PORTIONS: tuple[Portion, ...] = ("training", *PARTS)
"""What the moments of a split are divided into: those of training and the parts that are judged."""

IMPRESSION_COLUMNS = {
    "moment": "int64",  # number of the user and time, from 0, by user and time
    "user": "int32",
    "event_time": "timestamp[us, tz=UTC]",
    "history_end": "int64",  # the history is rows offsets[user] : history_end, all strictly before event_time
    "item": "int32",  # once per moment
    "label": "uint8",  # 1: said yes to; 0: said no to, or sampled
    "sampled": "bool",  # drawn from what anyone had seen before event_time, and not what the user had used up
}


class Numbering(BaseModel):
    """Which numbering of users and items the dense ids are. Snapshots of one generation agree on all ids they share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    digest: str
    """Of all ids in their order."""
    generation: int
    """Counts the times that numbering began from scratch, because known users or items were gone from the events."""
    new_users: int
    """Users that these events brought; they have the highest ids."""
    new_items: int


class Manifest(BaseModel):
    """What a snapshot says of itself. ``id`` is the hash of everything that determined the content."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int
    id: str
    dataset: str
    source: str
    behaviors: tuple[str, ...]
    target: str
    repeats: bool
    consumed_by: tuple[str, ...]
    item_id_type: Literal["int64", "string"]
    user_id_type: Literal["int64", "string"]
    users: int
    items: int
    events: int
    behavior_counts: dict[str, int]
    candidates: int
    vocabulary: Numbering | None = None
    splits: dict[str, dict[str, Any]]
    accounts: dict[str, int]
    settings: dict[str, Any]
    inputs: list[dict[str, Any]]
    code_version: str
    sql_digest: str
    files: dict[str, str]
    feedback: dict[str, int] = {}
    """What behaviors say of an item: 1 yes, 0 no; those that say neither are missing. Empty where the snapshot was
    built without labelled impressions."""
    notes: tuple[str, ...] = ()
    """What a reader of the numbers should know, for example that the k-core looked at the whole log."""


@dataclass(frozen=True)
class Targets:
    """The evaluation targets of one part of one split, as aligned arrays [N] (columns: TARGET_COLUMNS)."""

    target: NDArray[np.int64]
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    event: NDArray[np.int64]
    history_end: NDArray[np.int64]
    catalog: NDArray[np.int32]
    repeat: NDArray[np.bool_]
    cold_user: NDArray[np.bool_]
    cold_item: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.target)

    def take(self, chosen: NDArray[np.int64]) -> "Targets":
        """The targets at positions ``chosen``."""
        return Targets(**{name: getattr(self, name)[chosen] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Impressions:
    """The labelled impressions of M moments, the candidates of moment m being offsets[m] : offsets[m+1] of I.

    Attributes:
        moment: int64 [M]. user: int32 [M]. time: int64 [M], microseconds. history_end: int64 [M]; see
            IMPRESSION_COLUMNS. offsets: int64 [M+1].
        item: int32 [I]. label: uint8 [I], 0 or 1. sampled: bool [I].
        asked: code of the behavior asked about.
    """

    moment: NDArray[np.int64]
    user: NDArray[np.int32]
    time: NDArray[np.int64]
    history_end: NDArray[np.int64]
    offsets: NDArray[np.int64]
    item: NDArray[np.int32]
    label: NDArray[np.uint8]
    sampled: NDArray[np.bool_]
    asked: int

    def __len__(self) -> int:
        return len(self.moment)


class Snapshot:
    """A snapshot opened for reading; event columns are memory-mapped, nothing is loaded before it is used."""

    def __init__(self, path: Path | str) -> None:
        """Open the directory.

        Raises:
            DataError: it is not a whole snapshot, or was written by another schema version.
        """
        self.path = Path(path)
        try:
            raw = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{self.path}: not a snapshot (no manifest.json); build one with 'hmar snapshot'") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}/manifest.json: unreadable ({error})") from None
        if raw.get("schema_version") != SCHEMA_VERSION:
            raise DataError(
                f"{self.path}: snapshot schema {raw.get('schema_version')}, not {SCHEMA_VERSION}; rebuild it"
            )
        self.manifest = Manifest.model_validate(raw)

    # -- events ------------------------------------------------------------------------------------------------

    def _array(self, relative: str) -> NDArray[Any]:
        try:
            # Unlike np.load this reads the one format only: no archive of arrays, and never a pickle.
            array: NDArray[Any] = np.lib.format.open_memmap(self.path / relative, mode="r")
            return array
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path / relative}: unreadable ({error}); rebuild the snapshot") from None

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """int64 [U+1]."""
        return np.asarray(self._array("arrays/offsets.npy"))

    @cached_property
    def item(self) -> NDArray[np.int32]:
        """int32 [E]."""
        return np.asarray(self._array("arrays/item.npy"))

    @cached_property
    def behavior(self) -> NDArray[np.uint8]:
        """uint8 [E]."""
        return np.asarray(self._array("arrays/behavior.npy"))

    @cached_property
    def time(self) -> NDArray[np.int64]:
        """int64 [E], microseconds UTC."""
        return np.asarray(self._array("arrays/time.npy"))

    @cached_property
    def hbi(self) -> NDArray[np.uint16]:
        """uint16 [E, R]."""
        return np.asarray(self._array("arrays/hbi.npy"))

    # -- splits ------------------------------------------------------------------------------------------------

    def _split_dir(self, split: str) -> Path:
        if split not in self.manifest.splits:
            raise DataError(f"{self.path}: no split {split!r}; it has: {', '.join(sorted(self.manifest.splits))}")
        return Path("splits") / split

    def train_end(self, split: str) -> NDArray[np.int64]:
        """int64 [U]; see the module docstring."""
        return np.asarray(self._array(str(self._split_dir(split) / "train_end.npy")))

    def targets(self, split: str, part: Part) -> Targets:
        """The targets of one part, in stored order."""
        names = list(Targets.__dataclass_fields__)
        table = pq.read_table(
            self.path / self._split_dir(split) / "targets.parquet", columns=names, filters=[("part", "=", part)]
        )
        return Targets(**{name: _numpy(table, name) for name in names})

    def candidates(self, split: str, targets: Targets) -> NDArray[np.int32]:
        """The stored sampled negatives, int32 [N, manifest.candidates]; -1 where the catalog was too small."""
        table = pq.read_table(self.path / self._split_dir(split) / "candidates.parquet", columns=["item"])
        items = _numpy(table.set_column(0, "item", table.column("item").fill_null(-1)), "item").astype(np.int32)
        return items.reshape(-1, self.manifest.candidates)[targets.target]

    # -- labelled impressions ----------------------------------------------------------------------------------

    def has_impressions(self, split: str) -> bool:
        """Whether labelled impressions were built for the split."""
        return "impressions" in self.manifest.splits.get(split, {})

    def tasks(self, split: str) -> tuple[str, ...]:
        """The behaviors that labelled impressions of the split ask about, the target first; empty where there are
        none."""
        if not self.has_impressions(split):
            return ()
        return (self.manifest.target, *self.manifest.splits[split].get("tasks", {}))

    def impressions(self, split: str, part: Portion, task: str = "") -> Impressions:
        """Those of one part of one split, in stored order.

        Args:
            task: the behavior that they ask about; the target if empty.

        Raises:
            DataError: no such split, or none were built for it, or for the task.
        """
        directory = self._split_dir(split)
        task = task or self.manifest.target
        if not self.has_impressions(split):
            raise DataError(
                f"{self.path}: no labelled impressions of split {split}; set snapshot.impressions and build it again"
            )
        if task not in self.tasks(split):
            raise DataError(
                f"{self.path}: no labelled impressions of split {split} about {task!r}, only about "
                f"{', '.join(self.tasks(split))}; name it in snapshot.impressions.tasks and build it again"
            )
        code = self.behaviors.index(task)
        of = "" if code == self.target_behavior else f"-{code}"
        chosen = _numpy(
            pq.read_table(self.path / directory / f"moments{of}.parquet", filters=[("part", "=", part)]), "moment"
        )
        table = pq.read_table(self.path / f"impressions{of}.parquet")
        moment = _numpy(table, "moment")
        bounds = np.append(np.flatnonzero(np.diff(moment, prepend=-1)), len(moment))
        first, end = bounds[chosen], bounds[chosen + 1]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(end - first)])
        rows = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], end - first)
        return Impressions(
            moment=chosen,
            user=_numpy(table, "user")[first],
            time=_numpy(table, "event_time")[first].astype(np.int64),
            history_end=_numpy(table, "history_end")[first],
            offsets=offsets,
            item=_numpy(table, "item")[rows],
            label=_numpy(table, "label")[rows],
            sampled=_numpy(table, "sampled")[rows],
            asked=code,
        )

    # -- vocabulary --------------------------------------------------------------------------------------------

    @cached_property
    def items(self) -> pa.Table:
        """items.parquet, row number = dense id."""
        return pq.read_table(self.path / "items.parquet")

    @cached_property
    def users(self) -> pa.Table:
        """users.parquet, row number = dense id."""
        return pq.read_table(self.path / "users.parquet")

    # -- shorthand ---------------------------------------------------------------------------------------------

    @property
    def n_users(self) -> int:
        return self.manifest.users

    @property
    def n_items(self) -> int:
        return self.manifest.items

    @property
    def behaviors(self) -> tuple[str, ...]:
        """Behavior names in funnel order; the index is the stored code."""
        return self.manifest.behaviors

    @property
    def target_behavior(self) -> int:
        """The code of the target behavior."""
        return self.manifest.behaviors.index(self.manifest.target)

    @property
    def feedback(self) -> NDArray[np.int8]:
        """int8 [R]: what each behavior says of its item, 1 yes, -1 no, 0 neither. Where nothing is said of that, the
        target says yes."""
        said = self.manifest.feedback or {self.manifest.target: 1}
        return np.array([{1: 1, 0: -1}.get(said.get(name, -1), 0) for name in self.behaviors], np.int8)

    @property
    def consuming(self) -> NDArray[np.bool_]:
        """bool [R]: behaviors after which an item is used up (all False where items recur)."""
        used = () if self.manifest.repeats else self.manifest.consumed_by
        return np.array([name in used for name in self.behaviors])


def _numpy(table: pa.Table, name: str) -> NDArray[Any]:
    column: NDArray[Any] = table.column(name).combine_chunks().to_numpy(zero_copy_only=False)
    return column
