"""Deliveries that are added to what is published: the same bytes in any order, and only what they touch changes."""

import json
import logging
import shutil
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from hmar.errors import BusyError, DataError, SettingsError
from pipeline.ingest.measures import read_measures
from pipeline.results import Landed
from pipeline.settings import RetrainSettings
from pipeline.stages.ingest import land
from pipeline.stages.validate import validate
from pipeline.storage.events_store import MANIFEST, files, publish, read_manifest
from tests.support.raw_logs import (
    DAY,
    START,
    Rejected,
    contents,
    land_and_publish,
    lines,
    read_events,
    rejected_rows,
    settings,
    write,
)

MIDNIGHT = START + 8 * 3600
"""2017-11-25 00:00:00 UTC."""


def day_rows(day: int, count: int = 40) -> list[str]:
    """Distinct rows of one UTC day, counted from 2017-11-25."""
    return [
        f"{n % 5 + 1},{n + 100 * day},3,{'buy' if n % 4 == 0 else 'pv'},{MIDNIGHT + day * DAY + n}"
        for n in range(count)
    ]


def append(raw: Path, home: Path, **values: Any) -> RetrainSettings:
    ingest = {"mode": "append", **values.pop("ingest", {})}
    return settings("taobao", raw, home, ingest=ingest, **values)


def add(raw: Path, home: Path, **values: Any) -> Landed:
    return land_and_publish(append(raw, home, **values))


def stamps(events: Path) -> dict[str, tuple[int, int]]:
    """Modification time and inode of every published event file."""
    return {
        path.relative_to(events).as_posix(): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in events.glob("event_date=*/*")
    }


@pytest.fixture
def days(tmp_path: Path) -> list[Path]:
    """Three days' files."""
    return [write(tmp_path / "raw" / f"day-{n}.csv", lines(day_rows(n))) for n in range(3)]


@pytest.fixture
def events(home: Path) -> Path:
    return home / "events" / "dataset=taobao"


@pytest.mark.slow
def test_days_in_any_order_are_one_replacement(tmp_path: Path, days: list[Path]) -> None:
    whole = settings("taobao", days[0].parent / "*.csv", tmp_path / "whole")
    land_and_publish(whole)
    expected = contents(whole.paths.events("taobao"))
    for number, order in enumerate(permutations(days)):
        home = tmp_path / f"home-{number}"
        for path in order:
            add(path, home)
        assert contents(home / "events" / "dataset=taobao") == expected


def test_first_delivery_is_all_there_is(days: list[Path], home: Path, events: Path) -> None:
    add(days[1], home)
    assert [str(one.event_date) for one in read_manifest(events).partitions] == ["2017-11-26"]


def test_late_rows_rewrite_only_their_day(tmp_path: Path, days: list[Path], home: Path, events: Path) -> None:
    for path in days:
        add(path, home)
    before, old = stamps(events), read_manifest(events)
    landed = land(append(write(tmp_path / "late.csv", f"9,9,9,cart,{MIDNIGHT + DAY + 7}\n"), home))
    assert [path.parent.name for path in landed.staging.glob("event_date=*/*")] == ["event_date=2017-11-26"]
    publish(read_manifest(landed.staging), landed.staging, events)
    after, new = stamps(events), read_manifest(events)
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == {
        old.partitions[1].path, new.partitions[1].path,
    }  # fmt: skip
    assert (old.partitions[0], old.partitions[2]) == (new.partitions[0], new.partitions[2])
    assert new.partitions[1].inputs == {"day-1.csv": 40, "late.csv": 1}
    assert new.partitions[1].behaviors == {"buy": 10, "cart": 1, "pv": 30}
    assert len(read_events(events)) == 121


def test_same_file_again_changes_nothing(days: list[Path], home: Path, events: Path) -> None:
    for path in days:
        add(path, home)
    before = {path: path.stat().st_mtime_ns for path in events.rglob("*")}
    again = land(append(days[1], home))
    assert again.reused
    assert again.accounts.rows == 120
    assert {path: path.stat().st_mtime_ns for path in events.rglob("*")} == before


def test_delivery_of_known_and_new_files_takes_the_new_ones(
    days: list[Path], home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(days[0], home)
    with caplog.at_level(logging.INFO, logger="pipeline.ingest"):
        add(days[0].parent / "*.csv", home)
    assert caplog.messages == [f"day-{n}.csv: 40 rows = 40 events + 0 duplicates + 0 quarantined" for n in (1, 2)]


def test_replacement_by_what_was_added_up_changes_nothing(days: list[Path], home: Path, events: Path) -> None:
    write(days[2], lines([*day_rows(2), "1,2"]))
    for path in days:
        add(path, home)
    before, quarantine = contents(events), contents(home / "quarantine")
    assert land(settings("taobao", days[0].parent / "*.csv", home)).reused
    assert contents(events) == before
    assert contents(home / "quarantine") == quarantine


def test_changed_file_is_refused(days: list[Path], home: Path, events: Path) -> None:
    add(days[0], home)
    before = contents(events)
    write(days[0], lines(day_rows(0, 41)))
    with pytest.raises(DataError, match=r"day-0\.csv was delivered before with another content .*another name, or run"):
        land(append(days[0], home))
    assert contents(events) == before


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"partition": "month"}, r"ingest\.partition: 'month' is not 'day'"),
        ({"since": "2017-11-25"}, r"ingest\.since: .* is not '2017-11-24T16:00:00\+00:00'"),
        ({"outside_window": "keep"}, r"ingest\.outside_window: 'keep' is not 'quarantine'"),
        ({"identical_rows": "event"}, r"ingest\.identical_rows: 'event' is not 'duplicate'"),
    ],
)
def test_events_made_with_other_settings_are_not_added_to(
    days: list[Path], home: Path, change: dict[str, str], key: str
) -> None:
    add(days[0], home)
    with pytest.raises(SettingsError, match=key + r".*set it back, or run once with ingest\.mode: replace"):
        land(append(days[1], home, ingest=change))


def test_equal_moments_are_equal_settings(days: list[Path], home: Path) -> None:
    add(days[0], home, ingest={"since": "2017-11-24T16:00:00Z"})
    assert land(append(days[0], home, ingest={"since": "2017-11-25T00:00:00+08:00"})).reused


def test_another_source_is_not_added_to(tmp_path: Path, days: list[Path], home: Path) -> None:
    add(days[0], home)
    raw = write(tmp_path / "u.data", "1\t2\t3\t900000000\n")
    with pytest.raises(SettingsError, match="source: 'movielens' is not 'taobao'"):
        land(settings("movielens", raw, home, name="taobao", ingest={"mode": "append", "partition": "day"}))


@pytest.mark.parametrize(
    ("field", "what"), [("sql", "the SQL of sql/ingest"), ("code_version", "hmar"), ("duckdb_version", "DuckDB")]
)
def test_events_made_by_another_version_are_not_added_to(
    days: list[Path], home: Path, events: Path, field: str, what: str
) -> None:
    add(days[0], home)
    manifest = json.loads((events / MANIFEST).read_text(encoding="utf-8"))
    write(events / MANIFEST, json.dumps({**manifest, field: "0.0.1"}))
    with pytest.raises(SettingsError, match=rf"another version of {what} \(0\.0\.1, now .*ingest\.mode: replace"):
        land(append(days[1], home))


def test_manifest_of_an_earlier_version_is_refused(days: list[Path], home: Path, events: Path) -> None:
    add(days[0], home)
    manifest = json.loads((events / MANIFEST).read_text(encoding="utf-8"))
    write(events / MANIFEST, json.dumps({**manifest, "schema_version": 1}))
    with pytest.raises(DataError, match=r"not an events manifest of version 2 \(schema_version"):
        land(append(days[1], home))
    assert land(settings("taobao", days[0], home)).accounts.events == 40


def test_damaged_events_are_not_added_to(days: list[Path], home: Path, events: Path) -> None:
    add(days[0], home)
    (path,) = files(read_manifest(events), events)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"named by the manifest but damaged .*over all raw files"):
        land(append(days[1], home))


def test_thresholds_may_change_between_deliveries(days: list[Path], home: Path, events: Path) -> None:
    add(days[0], home, expectations={"min_events": 1})
    add(days[1], home, expectations={"min_events": 50})
    assert read_manifest(events).accounts.events == 80
    before = stamps(events)
    again = add(days[1], home, expectations={"min_events": 60})
    assert not again.reused
    assert read_manifest(events).settings["expectations"]["min_events"] == 60
    assert stamps(events) == before


@pytest.mark.parametrize("names", [("a.csv", "b.csv"), ("b.csv", "a.csv")])
def test_equal_rows_of_two_files_belong_to_the_first_name(
    tmp_path: Path, home: Path, events: Path, names: tuple[str, str]
) -> None:
    for name, rows in zip(names, (day_rows(0, 30), day_rows(0, 40)), strict=True):
        add(write(tmp_path / name, lines(rows)), home)
    manifest = read_manifest(events)
    first, second = manifest.inputs
    assert (first.name, second.name) == ("a.csv", "b.csv")
    assert (first.duplicates, second.duplicates) == (0, 30)
    assert manifest.partitions[0].inputs == {one.name: one.events for one in manifest.inputs if one.events}


@pytest.mark.parametrize("order", list(permutations(["a.csv", "b.csv", "c.csv"])))
def test_file_that_comes_again_is_all_duplicates(tmp_path: Path, order: tuple[str, ...]) -> None:
    """Where equal rows are events of their own, only a whole file can be recognized as a repetition."""
    rows = [*day_rows(0), *day_rows(0, 10), "1,2"]
    home = tmp_path / "home"
    for name in order:
        add(write(tmp_path / name, lines(rows)), home, ingest={"identical_rows": "event"})
    manifest = read_manifest(home / "events" / "dataset=taobao")
    assert [(one.rows, one.events, one.duplicates, one.quarantined) for one in manifest.inputs] == [
        (51, 50, 0, 1), (51, 0, 51, 0), (51, 0, 51, 0),
    ]  # fmt: skip
    assert {event.source_file for event in read_events(home / "events" / "dataset=taobao")} == {"a.csv"}
    whole = settings("taobao", tmp_path / "*.csv", tmp_path / "whole", ingest={"identical_rows": "event"})
    land_and_publish(whole)
    assert contents(whole.paths.events("taobao")) == contents(home / "events" / "dataset=taobao")


def test_equal_rows_can_be_events_of_their_own(tmp_path: Path, home: Path, events: Path) -> None:
    one = f"1,2,3,pv,{MIDNIGHT}"
    s = settings(
        "taobao", write(tmp_path / "log.csv", lines([one, one, one])), home, ingest={"identical_rows": "event"}
    )
    assert land_and_publish(s).accounts.events == 3
    assert [event.source_row for event in read_events(events)] == [1, 2, 3]
    add(write(tmp_path / "more.csv", lines([one, one])), home, ingest={"identical_rows": "event"})
    assert [(event.source_file, event.source_row) for event in read_events(events)] == [
        ("log.csv", 1), ("log.csv", 2), ("log.csv", 3), ("more.csv", 1), ("more.csv", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        ("logs/2017-11-25", ["2017-11-25/UserBehavior.csv"]),
        ("logs/2017-11-25/UserBehavior.csv", ["UserBehavior.csv"]),
        ("logs/{date}", ["2017-11-25/UserBehavior.csv"]),
        ("logs/{date}/UserBehavior.csv", ["2017-11-25/UserBehavior.csv"]),
        ("logs/{date}/*.csv", ["2017-11-25/UserBehavior.csv"]),
        ("logs/d-{date:%Y%m%d}.csv", ["d-20171125.csv"]),
        ("logs/*/UserBehavior.csv", ["2017-11-25/UserBehavior.csv", "2017-11-26/UserBehavior.csv"]),
    ],
)
def test_names_tell_deliveries_apart(tmp_path: Path, home: Path, raw: str, names: list[str]) -> None:
    for day in (0, 1):
        write(tmp_path / "logs" / f"2017-11-{25 + day}" / "UserBehavior.csv", lines(day_rows(day)))
    write(tmp_path / "logs" / "d-20171125.csv", lines(day_rows(0)))
    landed = land(append(tmp_path / raw, home, day="2017-11-25"))
    assert [one.name for one in read_manifest(landed.staging).inputs] == names


def test_quarantine_of_every_delivery_is_kept(days: list[Path], home: Path) -> None:
    kept = {}
    for number, path in enumerate(days):
        write(path, lines([*day_rows(number), f"{number},2"]))
        landed = add(path, home)
        assert landed.quarantine is not None
        assert rejected_rows(landed.quarantine) == [Rejected(path.name, 41, "missing_columns", f"{number},2")]
        kept[landed.quarantine] = landed.quarantine.read_bytes()
        shutil.rmtree(landed.staging)
    assert {path: path.read_bytes() for path in (home / "quarantine" / "taobao").iterdir()} == kept


@pytest.mark.slow
def test_quarantine_that_is_replaced_goes(days: list[Path], home: Path) -> None:
    for number, path in enumerate(days):
        write(path, lines([*day_rows(number), f"{number},2"]))
        add(path, home, ingest={"max_quarantined_share": 0.1})
    s = settings("taobao", days[0], home, ingest={"max_quarantined_share": 0.1})
    landed = land(s)
    folder = home / "quarantine" / "taobao"
    assert len(list(folder.iterdir())) == 3
    validate(s, landed)
    assert list(folder.iterdir()) == [landed.quarantine]


def test_delivery_is_judged_by_its_own_rows(tmp_path: Path, days: list[Path], home: Path) -> None:
    add(days[0], home)
    raw = write(tmp_path / "bad.csv", lines([*day_rows(1, 6), *day_rows(0, 2), "1,2", "1,2,3"]))
    landed = land(append(raw, home))
    metrics = read_measures(landed.staging).metrics
    assert (metrics["rows"], metrics["quarantined"], metrics["duplicates"]) == (10, 2, 2)
    assert (metrics["quarantined_share"], metrics["duplicate_share"]) == (0.2, 0.2)
    assert (metrics["events"], metrics["items"], metrics["unaccounted_rows"]) == (46, 46, 0)
    assert metrics["share_buy"] == 12 / 46
    accounts = landed.accounts
    assert (accounts.rows, accounts.events, accounts.duplicates, accounts.quarantined) == (50, 46, 2, 2)
    assert accounts.reasons == {"missing_columns": 2}


@pytest.mark.slow
def test_bad_delivery_leaves_what_was_published(tmp_path: Path, days: list[Path], home: Path, events: Path) -> None:
    first = append(days[0], home)
    validate(first, land(first))
    before = contents(events)
    bad = append(write(tmp_path / "bad.csv", lines([*day_rows(1, 10), "1,2"])), home)
    with pytest.raises(DataError, match=r"quarantined_share is 0\.0909"):
        validate(bad, land(bad))
    assert contents(events) == before


@pytest.mark.slow
def test_delivery_that_another_overtook_is_landed_again(days: list[Path], home: Path, events: Path) -> None:
    slow, fast = append(days[0], home), append(days[1], home)
    landed = land(slow)
    kept = shutil.copytree(landed.staging, home / "kept")
    add(days[2], home)
    kept.rename(landed.staging)
    done = validate(slow, landed)
    assert done.accounts.events == 80
    validate(fast, land(fast))
    assert [one.name for one in read_manifest(events).inputs] == ["day-0.csv", "day-1.csv", "day-2.csv"]


@pytest.mark.slow
def test_delivery_that_is_overtaken_again_and_again_gives_up(
    tmp_path: Path, days: list[Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(days[0], home)
    s = append(days[1], home)
    others = iter(range(9))

    def overtaken(s: RetrainSettings) -> Landed:
        landed = land(s)
        number = next(others)
        saved = shutil.copytree(landed.staging, tmp_path / f"saved-{number}")
        add(write(tmp_path / f"other-{number}.csv", lines(day_rows(5 + number))), home)
        shutil.copytree(saved, landed.staging)
        return landed

    monkeypatch.setattr("pipeline.stages.validate.land", overtaken)
    with pytest.raises(BusyError, match="run it again later"):
        validate(s, overtaken(s))


def test_landing_anew_gives_the_same_bytes(days: list[Path], home: Path) -> None:
    write(days[1], lines([*day_rows(1), "1,2"]))
    add(days[0], home)
    s = append(days[1], home)
    found = []
    for _ in range(2):
        landed = land(s)
        found.append((contents(landed.staging), contents(home / "quarantine")))
        shutil.rmtree(landed.staging)
    assert found[0] == found[1]


def test_staging_is_kept_while_what_it_is_based_on_stands(days: list[Path], home: Path) -> None:
    add(days[0], home)
    landed = land(append(days[1], home))
    before = landed.staging.stat().st_ino
    assert land(append(days[1], home)).staging.stat().st_ino == before


@pytest.mark.parametrize("partition", ["month", "year"])
def test_partitions_of_any_span_are_added_to(tmp_path: Path, home: Path, events: Path, partition: str) -> None:
    for number, time in enumerate([1451606399, 1451606400, 1456704000, 1483228799]):
        raw = write(tmp_path / f"{number}.data", f"1\t{number}\t3\t{time}\n")
        land_and_publish(settings("movielens", raw, home, ingest={"mode": "append", "partition": partition}))
    manifest = read_manifest(home / "events" / "dataset=movielens")
    assert sum(one.rows for one in manifest.partitions) == 4
    assert [(str(one.event_date), one.rows) for one in manifest.partitions] == (
        [("2015-12-01", 1), ("2016-01-01", 1), ("2016-02-01", 1), ("2016-12-01", 1)]
        if partition == "month"
        else [("2015-01-01", 1), ("2016-01-01", 3)]
    )


def test_times_before_1970_have_partitions_too() -> None:
    import duckdb

    from pipeline.storage.statements import statement

    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(statement("ingest/04_partition_of"))
        connection.execute("set variable partition = 'day'")
        found = connection.execute(
            "select cast(partition_of(make_timestamptz(us)) as varchar) "
            "from (values (-86400000001), (-1), (0), (86399999999), (86400000000)) as times (us)"
        ).fetchall()
    assert [row[0] for row in found] == ["1969-12-30", "1969-12-31", "1970-01-01", "1970-01-01", "1970-01-02"]


@pytest.mark.slow
def test_large_partition_has_the_same_bytes_however_it_came(tmp_path: Path) -> None:
    """More rows than a row group holds, by threads and by deliveries."""
    rows = [f"{n * 7919 % 50_021},{n * 31 % 10_007},{n % 7},pv,{MIDNIGHT + n * 37 % DAY}" for n in range(400_000)]
    halves = [write(tmp_path / f"{n}.csv", lines(rows[n::2])) for n in range(2)]
    found = []
    for threads in (1, 2, 4):
        home = tmp_path / f"home-{threads}"
        for path in halves if threads != 2 else reversed(halves):
            add(path, home, engine={"threads": threads, "memory_limit": "1GB"})
        found.append(contents(home / "events" / "dataset=taobao"))
    whole = settings("taobao", tmp_path / "*.csv", tmp_path / "whole")
    land_and_publish(whole)
    assert found == [contents(whole.paths.events("taobao"))] * 3


@pytest.mark.slow
def test_hundreds_of_partitions_are_added_to(tmp_path: Path, home: Path) -> None:
    rows = [f"{n % 3}\t{n}\t3\t{1_000_000_000 + n * DAY // 2}" for n in range(600)]
    s = {"mode": "append", "partition": "day"}
    land_and_publish(settings("movielens", write(tmp_path / "0.data", lines(rows[::2])), home, ingest=s))
    land_and_publish(settings("movielens", write(tmp_path / "1.data", lines(rows[1::2])), home, ingest=s))
    events = home / "events" / "dataset=movielens"
    assert [event.item_id for event in sorted(read_events(events), key=lambda event: event.time)] == list(range(600))
    assert len(read_manifest(events).partitions) in (300, 301)
