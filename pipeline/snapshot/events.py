"""Published events to users, items and the sorted event file with its HBI counts."""

from collections.abc import Iterable
from pathlib import Path

from hmar.errors import DataError
from pipeline.settings import KCore, SnapshotSettings
from pipeline.snapshot.warehouse import Warehouse, literal, quoted
from pipeline.storage.events_store import EventsManifest

PACKED_LIMIT = 32_767
"""Events of one user with one item up to which the packed running sum cannot overflow a slot."""
SLOT_LIMIT = 65_535
"""Events of one user, item and behavior that an HBI of 16 bits can hold."""

NARROW = 4
"""Behaviors up to which the packed running sum fits into 64 bits."""
EVENT_ORDER = "user, event_time, place"
"""Total where no event is there twice."""


def read_events(warehouse: Warehouse, settings: SnapshotSettings, files: list[Path]) -> None:
    """Make the views ``log``, all events, and ``kept``, those of the k-core.

    Raises:
        DataError: nothing is left after the k-core.
    """
    warehouse.set(
        event_files=[str(path) for path in files],
        behaviors=list(settings.behaviors),
        target=settings.behaviors.index(settings.target),
        consuming=_consuming(settings),
        core_user=settings.k_core.user,
        core_item=settings.k_core.item,
    )
    warehouse.view("10_log")
    if settings.k_core.user > 1 or settings.k_core.item > 1:
        _shrink_to_core(warehouse, settings.k_core)
        warehouse.view("22_core_log", "kept")
    else:
        warehouse.view_of("kept", "select * from log")


def may_repeat(events: EventsManifest) -> bool:
    """Whether equal rows may be events of their own; where the manifest does not say, they may."""
    return bool(events.settings.get("ingest", {}).get("identical_rows") != "duplicate")


def write_events(warehouse: Warehouse, settings: SnapshotSettings, directory: Path, equal: bool) -> None:
    """Write users.parquet, items.parquet and events.parquet, and make the view ``events`` over the last.

    Args:
        equal: whether an event may be there twice; such stand in the order of their counts.

    Raises:
        DataError: a count does not fit its HBI slot.
    """
    warehouse.write("users", _same("user", "user_id", "first_seen", "events"), "user", directory / "users.parquet")
    warehouse.write(
        "items",
        _same("item", "item_id", "category_id", "first_seen", "events"),
        "item",
        directory / "items.parquet",
    )
    warehouse.view("40_dense")
    warehouse.view(_hbi_statement(warehouse, settings), "hbi")
    counts = {column: f"hbi_{code}" for code, column in enumerate(hbi_columns(settings))}
    warehouse.write(
        "hbi",
        {**_same("user", "item", "behavior", "event_time"), **counts},
        f"{EVENT_ORDER}, {_total(counts.values())}" if equal else EVENT_ORDER,
        directory / "events.parquet",
    )
    warehouse.table("44_offsets")
    view_events(warehouse, settings, directory / "events.parquet")


def view_events(warehouse: Warehouse, settings: SnapshotSettings, path: Path) -> None:
    """Make ``events``, one row per event of the file: user, item, behavior, event_time, and

    event: its row number. met: how often the user had met the item, this event included.
    used_up: how often the user had used the item up, this event included; 0 where items recur.
    """
    columns = hbi_columns(settings)
    met = _total(map(quoted, columns))
    used_up = _total(quoted(columns[code]) for code in _consuming(settings)) or "0"
    warehouse.view_of(
        "events",
        f"select user, item, behavior, event_time, file_row_number as event, {met} as met, {used_up} as used_up "
        f"from read_parquet({literal(str(path))}, file_row_number = true)",
    )


def hbi_columns(settings: SnapshotSettings) -> list[str]:
    """The HBI columns of events.parquet, in the order of the codes."""
    return [f"hbi_{name}" for name in settings.behaviors]


def _consuming(settings: SnapshotSettings) -> list[int]:
    used = () if settings.repeats else settings.consumed_by
    return sorted(settings.behaviors.index(name) for name in used)


def _total(columns: Iterable[str]) -> str:
    return " + ".join(f"cast({column} as integer)" for column in columns)


def _same(*names: str) -> dict[str, str]:
    return {name: quoted(name) for name in names}


def _shrink_to_core(warehouse: Warehouse, core: KCore) -> None:
    """Rounds over users and items until neither loses any."""
    warehouse.table_of("core_items", "select distinct item_id from log")
    sizes: tuple[int, int] | None = None
    while True:
        warehouse.table("20_core_users")
        warehouse.table("21_core_items")
        (now,) = warehouse.rows("select (select count(*) from core_users), (select count(*) from core_items)")
        if now == sizes:
            break
        sizes = (now[0], now[1])
    if not now[0]:
        raise DataError(
            f"snapshot.k_core: no user with {core.user} events and no item with {core.item} is left; lower the bounds"
        )


def _hbi_statement(warehouse: Warehouse, settings: SnapshotSettings) -> str:
    """The fastest statement that counts this log right.

    Raises:
        DataError: none does.
    """
    warehouse.table("41_heaviest")
    worst = warehouse.rows(
        "select user_id, item_id, behavior, events from heaviest "
        "order by events desc, user_id, item_id, behavior limit 1"
    )
    if worst and worst[0][3] > SLOT_LIMIT:
        user, item, code, count = worst[0]
        raise DataError(
            f"HBI overflow: user {user} has {count} {settings.behaviors[code]!r} events with item {item}, at most "
            f"{SLOT_LIMIT} fit; leave this user out of the raw log, it is no person"
        )
    if warehouse.value(f"select count(*) from heaviest where of_pair > {PACKED_LIMIT}"):
        return "43_hbi_counted"
    return "42_hbi_narrow" if len(settings.behaviors) <= NARROW else "42_hbi_packed"
