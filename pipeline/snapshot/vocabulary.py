"""The numbering of users and items: dense ids that do not move when users or items arrive.

``<home>/vocabularies/<name>/<k-core>/`` holds ``manifest.json`` and the two files it names, ``users-<sha256>.parquet``
(user, user_id) and ``items-<sha256>.parquet`` (item, item_id, first_seen), in the order of the ids. Each build of a
snapshot extends it: who is new follows the known ones by (first_seen, source id). On a fresh home everyone is new.
Every k-core has a numbering of its own, since other bounds let other users and items in; within one, a k-core never
loses a user or an item while events are only added.

Where known users or items are gone from the events, or an item's earliest events are, ids in time order cannot be
kept: a new generation starts from scratch. Trained models take no harm, they match items by source id.
"""

import hashlib
import logging
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hmar.errors import DataError
from pipeline.settings import KCore
from pipeline.snapshot.warehouse import Warehouse, literal, quoted
from pipeline.storage.atomic import TEMPORARY, publish_file, sweep, write_json
from pipeline.storage.events_store import EventsManifest, IdType

MANIFEST = "manifest.json"
COLUMNS = {"users": ("user", "user_id"), "items": ("item", "item_id", "first_seen")}

log = logging.getLogger(__name__)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ids(_Part):
    """The users or the items of a vocabulary."""

    count: int
    new: int
    """How many of them the latest extension added: the highest ids."""
    id_type: IdType
    sha256: str
    """Of the file with the ids, which is named after it."""


class Vocabulary(_Part):
    """The manifest: the state after the latest extension."""

    schema_version: Literal[1] = 1
    generation: int
    events: str
    """Digest of the events that the vocabulary was last extended for."""
    users: Ids
    items: Ids
    restarted: str = ""
    """Why this generation began, if the latest extension began it in place of another one."""

    @property
    def digest(self) -> str:
        """16 hex digits over both id files."""
        return hashlib.sha256(f"{self.users.sha256} {self.items.sha256}".encode()).hexdigest()[:16]


def directory_of(vocabularies: Path, core: KCore) -> Path:
    """Where under ``<home>/vocabularies/<name>`` the vocabulary of a k-core lies."""
    return vocabularies / f"user-{core.user}-item-{core.item}"


def open_vocabulary(directory: Path) -> Vocabulary | None:
    """As :func:`read_vocabulary`, and what killed builds left behind is swept. Call it while holding the lock."""
    known = read_vocabulary(directory)
    _tidy(directory, known)
    return known


def read_vocabulary(directory: Path) -> Vocabulary | None:
    """The vocabulary as it was last extended; None where there is none yet.

    Raises:
        DataError: the manifest cannot be read, or a file that it names is missing.
    """
    try:
        text = (directory / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        known = Vocabulary.model_validate_json(text)
    except ValidationError as error:
        raise _damaged(directory, f"{MANIFEST}: {error.errors()[0]['msg']}") from None
    for kind, ids in _kinds(known):
        if not (directory / _file(kind, ids.sha256)).is_file():
            raise _damaged(directory, f"{_file(kind, ids.sha256)}: missing")
    return known


class Extension:
    """A vocabulary extended by the users and items of new events, not yet published.

    The tables ``users`` and ``items`` (sql/snapshot/30 and 31) hold all of both when it is made.
    """

    def __init__(self, directory: Path, scratch: Path, vocabulary: Vocabulary) -> None:
        self._directory, self._scratch = directory, scratch
        self.vocabulary = vocabulary

    def publish(self) -> None:
        """Make the extension the state that the next one starts from: files first, then the manifest in one rename."""
        if read_vocabulary(self._directory) == self.vocabulary:
            return
        for kind, ids in _kinds(self.vocabulary):
            file = _file(kind, ids.sha256)
            if not (self._directory / file).exists():
                publish_file(self._scratch / f"{kind}.parquet", self._directory / file)
        write_json(self._directory / MANIFEST, self.vocabulary.model_dump(mode="json"))
        _tidy(self._directory, self.vocabulary)


@contextmanager
def extended(
    warehouse: Warehouse, events: EventsManifest, known: Vocabulary | None, directory: Path
) -> Iterator[Extension]:
    """Number the users and items of the view ``kept``, as the tables ``users`` and ``items``.

    Args:
        known: what :func:`open_vocabulary` said of ``directory``.

    Raises:
        DataError: a file of the known vocabulary is not the one that was written.
    """
    restarted = ""
    if known is not None:
        restarted = _other_types(known, events) or _number_on(warehouse, known, directory)
    if known is not None and restarted:
        log.warning("vocabulary %s: generation %d begins: %s", directory, known.generation + 1, restarted)
    if known is None or restarted:
        _number_anew(warehouse, events)
    with _scratch(directory) as scratch:
        found = Vocabulary(
            generation=1 if known is None else known.generation + bool(restarted),
            events=events.digest,
            users=_write(warehouse, "users", events.user_id_type, scratch),
            items=_write(warehouse, "items", events.item_id_type, scratch),
            restarted=restarted,
        )
        yield Extension(directory, scratch, found if known is None or restarted else _after(known, found))


def _number_on(warehouse: Warehouse, known: Vocabulary, directory: Path) -> str:
    """Make ``users`` and ``items`` with the known ids; why that cannot be, in words, or nothing."""
    for kind, ids in _kinds(known):
        path = directory / _file(kind, ids.sha256)
        if _sha256(path) != ids.sha256:
            raise _damaged(directory, f"{path.name}: changed")
        columns = ", ".join(quoted(name) for name in COLUMNS[kind])
        warehouse.table_of(f"known_{kind}", f"select {columns} from read_parquet({literal(str(path))})")
    warehouse.set(users_known=known.users.count, items_known=known.items.count)
    _number(warehouse)
    warehouse.table("32_outdated")
    users_gone, items_gone, items_later = warehouse.rows("select * from outdated")[0]
    if users_gone or items_gone:
        return (
            f"{users_gone} of {known.users.count} known users and {items_gone} of {known.items.count} known items are "
            "no longer in the events"
        )
    return f"the first events of {items_later} known items are no longer there" if items_later else ""


def _number_anew(warehouse: Warehouse, events: EventsManifest) -> None:
    sql = {"int64": "bigint", "string": "varchar"}
    warehouse.table_of("known_users", f"select 0 as user, null::{sql[events.user_id_type]} as user_id limit 0")
    warehouse.table_of(
        "known_items",
        f"select 0 as item, null::{sql[events.item_id_type]} as item_id, null::timestamptz as first_seen limit 0",
    )
    warehouse.set(users_known=0, items_known=0)
    _number(warehouse)


def _number(warehouse: Warehouse) -> None:
    warehouse.table("30_users")
    warehouse.table("31_items")


def _other_types(known: Vocabulary, events: EventsManifest) -> str:
    now = {"users": events.user_id_type, "items": events.item_id_type}
    changed = [f"{kind} were {ids.id_type}, now {now[kind]}" for kind, ids in _kinds(known) if ids.id_type != now[kind]]
    return f"the ids are of another type ({', '.join(changed)})" if changed else ""


def _write(warehouse: Warehouse, kind: str, id_type: IdType, scratch: Path) -> Ids:
    """Stage the ids; all of them count as new."""
    path = scratch / f"{kind}.parquet"
    names = COLUMNS[kind]
    warehouse.write(kind, {name: quoted(name) for name in names}, names[0], path)
    count = warehouse.value(f"select count(*) from {kind}")
    return Ids(count=count, new=count, id_type=id_type, sha256=_sha256(path))


def _after(known: Vocabulary, found: Vocabulary) -> Vocabulary:
    """``found`` as an extension of ``known``. The same events extend it once: a rerun says what the first run said."""
    if known.events == found.events:
        return known
    users, items = (
        now.model_copy(update={"new": now.count - before.count})
        for before, now in ((known.users, found.users), (known.items, found.items))
    )
    return found.model_copy(update={"users": users, "items": items})


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    path = directory / f"{TEMPORARY}{uuid.uuid4().hex[:8]}"
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _tidy(directory: Path, vocabulary: Vocabulary | None) -> None:
    sweep(directory)
    named = {_file(kind, ids.sha256) for kind, ids in _kinds(vocabulary)} if vocabulary else set()
    for path in directory.glob("*-*.parquet"):
        if path.name not in named:
            path.unlink(missing_ok=True)


def _kinds(vocabulary: Vocabulary) -> tuple[tuple[str, Ids], ...]:
    return ("users", vocabulary.users), ("items", vocabulary.items)


def _file(kind: str, sha256: str) -> str:
    return f"{kind}-{sha256[:16]}.parquet"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _damaged(directory: Path, what: str) -> DataError:
    return DataError(
        f"{directory}/{what}; restore the directory, or delete it: users and items are then numbered from scratch"
    )
