"""A large published events store, made straight in SQL: what the benchmarks of the snapshot read.

Shaped like Taobao's UserBehavior: a hundred events per user in nine days, one item for every 25 events, nine of ten
events views, and about three of ten events about an item that the user has met before. Every number is a hash of the
row's own, so that the same arguments give the same events.

    python -m benchmarks.events <directory> <rows> <threads>
"""

import hashlib
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb

from pipeline.results import Accounts, Published
from pipeline.settings import EngineSettings
from pipeline.storage.atomic import write_json
from pipeline.storage.engine import connect
from pipeline.storage.events_store import MANIFEST, EventsManifest, Input, Partition

DAYS = 9
FIRST_DAY = date(2017, 11, 25)
RAW = "UserBehavior.csv"

# hash(a, b) alone is hash(a) times a constant, xor hash(b): hashed once more, it is as good as random.
DAY_OF_EVENTS = """
copy (
    with drawn as (
        select
            hash(hash(row, 1)) / pow(2, 64) as user_draw,
            hash(hash(row, 2)) / pow(2, 64) as slot_draw,
            hash(hash(row, 3)) / pow(2, 64) as kind,
            hash(hash(row, 4)) % 86400 as second
        from (select unnest(range($first, $last)) as row)
    ),

    chosen as (
        select
            *,
            cast(floor($users * pow(user_draw, 1.3)) as bigint) as user_id,
            cast(floor(250 * slot_draw * slot_draw) as bigint) as slot
        from drawn
    ),

    placed as (
        select
            user_id,
            cast(floor($items * pow(hash(hash(user_id, slot)) / pow(2, 64), 2)) as bigint) as item_id,
            case when kind < 0.896 then 'pv' when kind < 0.925 then 'fav' when kind < 0.98 then 'cart' else 'buy' end
                as behavior,
            make_timestamptz($midnight + cast(second as bigint) * 1000000) as event_time
        from chosen
    ),

    final as (
        select distinct on (user_id, item_id, behavior, event_time)
            user_id,
            item_id,
            behavior,
            event_time,
            item_id % 9000 as category_id,
            cast(null as double) as value,
            '%RAW%' as source_file
        from placed
    )

    select *, row_number() over (order by user_id, event_time, item_id, behavior) as source_row
    from final
    order by user_id, event_time, item_id, behavior
) to '%PATH%' (format parquet, compression zstd)
"""


def publish(directory: Path, rows: int, engine: EngineSettings, dataset: str = "taobao") -> Published:
    """Publish about ``rows`` events (equal ones fall together) in nine daily partitions of ``directory``."""
    partitions = []
    users, items = max(1, rows // 100), max(1, rows // 25)
    with connect(engine, directory) as connection:
        for day in range(DAYS):
            midnight = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=UTC) + timedelta(days=day)
            path = directory / f"event_date={midnight.date()}" / "events.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            connection.execute(
                DAY_OF_EVENTS.replace("%RAW%", RAW).replace("%PATH%", str(path)),
                {
                    "users": users,
                    "items": items,
                    "first": rows * day // DAYS,
                    "last": rows * (day + 1) // DAYS,
                    "midnight": int(midnight.timestamp()) * 1_000_000,
                },
            )
            partitions.append(_partition(connection, directory, path, midnight.date()))
    total = sum(partition.rows for partition in partitions)
    accounts = Accounts(rows=total, events=total, duplicates=0, quarantined=0)
    digest = hashlib.sha256("".join(partition.sha256 for partition in partitions).encode()).hexdigest()
    behaviors = {
        name: sum(partition.behaviors.get(name, 0) for partition in partitions) for name in ("pv", "fav", "cart", "buy")
    }
    manifest = EventsManifest(
        dataset=dataset,
        source="taobao",
        fingerprint=digest,
        digest=digest,
        behaviors=behaviors,
        user_id_type="int64",
        item_id_type="int64",
        partitions=tuple(partitions),
        accounts=accounts,
        outside_window=0,
        inputs=(
            Input(
                name=RAW, bytes=0, sha256=digest, layout="raw", rows=total, events=total, duplicates=0, quarantined=0,
                blank_lines=0,
            ),
        ),
        settings={"ingest": {"identical_rows": "duplicate"}},
        code_version="benchmark",
        duckdb_version=duckdb.__version__,
    )  # fmt: skip
    write_json(directory / MANIFEST, manifest.model_dump(mode="json"))
    return Published(events=directory, digest=digest, accounts=accounts)


def _partition(connection: duckdb.DuckDBPyConnection, directory: Path, path: Path, day: date) -> Partition:
    behaviors = dict(
        connection.execute("select behavior, count(*) from read_parquet(?) group by all", [str(path)]).fetchall()
    )
    first, last = connection.execute(
        "select epoch_us(min(event_time)), epoch_us(max(event_time)) from read_parquet(?)", [str(path)]
    ).fetchall()[0]
    rows = sum(behaviors.values())
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return Partition(
        event_date=day,
        path=path.relative_to(directory).as_posix(),
        rows=rows,
        content_digest=sha256,
        sha256=sha256,
        bytes=path.stat().st_size,
        min_time=datetime.fromtimestamp(first / 1e6, UTC),
        max_time=datetime.fromtimestamp(last / 1e6, UTC),
        behaviors=behaviors,
        inputs={RAW: rows},
    )


if __name__ == "__main__":
    publish(Path(sys.argv[1]), int(sys.argv[2]), EngineSettings(threads=int(sys.argv[3])))
