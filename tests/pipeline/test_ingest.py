"""Every line of a raw log becomes an event, a duplicate, a quarantined row or a counted blank; all else is a defect."""

import gzip
import logging
import os
import random
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from hmar.errors import BusyError, DataError, HmarError, StorageError
from pipeline.ingest.candidates import Candidates
from pipeline.ingest.lines import BLOCK, LONGEST
from pipeline.stages.ingest import land
from pipeline.storage.events_store import read_manifest
from pipeline.storage.lock import dataset_lock
from tests.support.raw_logs import (
    DAY,
    START,
    Event,
    Rejected,
    contents,
    land_and_publish,
    lines,
    quarantine,
    read_events,
    settings,
    staged_events,
    taobao_rows,
    write,
)

GOOD = f"1,2,3,pv,{START + 60}"
ENOUGH = lines(taobao_rows(30))
"""Rows that make a file with bad ones in it still a Taobao log."""


def test_taobao_row_becomes_an_event(tmp_path: Path, home: Path) -> None:
    raw = write(tmp_path / "raw" / "UserBehavior.csv", f"1,2268318,2520377,buy,{START}\n")
    landed = land(settings("taobao", raw, home))
    assert staged_events(landed) == [Event(1, 2268318, "buy", START, 2520377, None, "UserBehavior.csv", 1)]
    assert landed.accounts.model_dump() == {
        "rows": 1, "events": 1, "duplicates": 0, "quarantined": 0, "reasons": {}, "blank_lines": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rating", "behavior"),
    [
        ("0.5", "dislike"), ("1", "dislike"), ("2", "dislike"), ("2.0", "dislike"), ("2.5", "neutral"),
        ("3", "neutral"), ("3.5", "neutral"), ("4", "like"), ("4.0", "like"), ("4.5", "like"), ("5", "like"),
    ],
)  # fmt: skip
def test_rating_becomes_a_behavior(tmp_path: Path, home: Path, rating: str, behavior: str) -> None:
    raw = write(tmp_path / "ratings.csv", f"userId,movieId,rating,timestamp\n7,8,{rating},964982703\n")
    landed = land(settings("movielens", raw, home))
    assert staged_events(landed) == [Event(7, 8, behavior, 964982703, None, float(rating), "ratings.csv", 2)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("u.data", "7\t8\t4\t964982703\n9\t8\t1\t964982704\n"),
        ("ratings.dat", "7::8::4::964982703\n9::8::1::964982704\n"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n7,8,4.0,964982703\n9,8,1.0,964982704\n"),
    ],
)
def test_movielens_layouts_give_the_same_events(tmp_path: Path, home: Path, name: str, text: str) -> None:
    landed = land(settings("movielens", write(tmp_path / name, text), home))
    assert [event[:6] for event in staged_events(landed)] == [
        (7, 8, "like", 964982703, None, 4.0),
        (9, 8, "dislike", 964982704, None, 1.0),
    ]


@pytest.mark.parametrize(
    "tag",
    ["funny", '"slow, but good"', '"he said ""no"""', '"', "a::b", "", "  ", "7,8,9", "\x01", "it's", "né", "\u2028"],
)
@pytest.mark.parametrize("name", ["tags.csv", "tags.dat"])
def test_tag_text_never_shifts_a_column(tmp_path: Path, home: Path, name: str, tag: str) -> None:
    rows = [("12", "34", tag, "1445714994"), ("12", "35", "plain", "1445714995")]
    text = (
        "userId,movieId,tag,timestamp\n" + lines(",".join(row) for row in rows)
        if name == "tags.csv"
        else lines("::".join(row) for row in rows)
    )
    first = 2 if name == "tags.csv" else 1
    landed = land(settings("movielens", write(tmp_path / name, text), home))
    assert staged_events(landed) == [
        Event(12, 34, "tag", 1445714994, None, None, name, first),
        Event(12, 35, "tag", 1445714995, None, None, name, first + 1),
    ]


def test_ratings_and_tags_of_a_directory_land_together(tmp_path: Path, home: Path) -> None:
    write(tmp_path / "raw" / "ratings.csv", "userId,movieId,rating,timestamp\n1,2,4.0,964982703\n")
    write(tmp_path / "raw" / "tags.csv", "userId,movieId,tag,timestamp\n1,2,fun,964982703\n")
    landed = land(settings("movielens", tmp_path / "raw", home))
    assert [(e.behavior, e.source_file, e.source_row) for e in staged_events(landed)] == [
        ("like", "ratings.csv", 2),
        ("tag", "tags.csv", 2),
    ]
    assert {one.name: one.events for one in read_manifest(landed.staging).inputs} == {"ratings.csv": 1, "tags.csv": 1}


REJECTED = {
    "missing_columns": "1,2,3",
    "extra_columns": f"{GOOD},",
    "bad_user_id": f"a,2,3,pv,{START}",
    "bad_item_id": f"1, 2,3,pv,{START}",
    "bad_category_id": f"1,2,,pv,{START}",
    "negative_id": f"1,-2,3,pv,{START}",
    "id_overflow": f"9223372036854775808,2,3,pv,{START}",
    "unknown_behavior": f"1,2,3,PV,{START}",
    "bad_timestamp": "1,2,3,pv,1.5e9",
    "timestamp_in_milliseconds": f"1,2,3,pv,{START}000",
    "timestamp_out_of_range": "1,2,3,pv,4102444800",
    "outside_window": "1,2,3,pv,4102444799",
}


@pytest.mark.parametrize("reason", REJECTED)
def test_bad_taobao_row_is_quarantined_with_its_reason(tmp_path: Path, home: Path, reason: str) -> None:
    raw = write(tmp_path / "UserBehavior.csv", f"{ENOUGH}{REJECTED[reason]}\n{GOOD}\n")
    s = settings("taobao", raw, home)
    landed = land(s)
    assert quarantine(s, landed) == [Rejected("UserBehavior.csv", 31, reason, REJECTED[reason])]
    assert (landed.accounts.rows, landed.accounts.events, landed.accounts.reasons) == (32, 31, {reason: 1})


@pytest.mark.parametrize(
    ("rating", "reason"),
    [
        ("0", "rating_off_scale"), ("5.5", "rating_off_scale"), ("3.25", "rating_off_scale"),
        ("-1", "rating_off_scale"), ("nan", "bad_rating"), ("1e0", "bad_rating"), ("", "bad_rating"),
    ],
)  # fmt: skip
def test_bad_rating_is_quarantined(tmp_path: Path, home: Path, rating: str, reason: str) -> None:
    rows = [f"{n}\t1\t3\t881250949" for n in range(1, 10)]
    raw = write(tmp_path / "u.data", lines([*rows, f"99\t1\t{rating}\t881250949"]))
    s = settings("movielens", raw, home)
    assert quarantine(s, land(s)) == [Rejected("u.data", 10, reason, f"99\t1\t{rating}\t881250949")]


@pytest.mark.parametrize("lenient", [" 1", "1 ", "+1", "1.0", "1e0", "1_0", "0x1", "\u0661"])
def test_only_plain_digits_are_an_id(tmp_path: Path, home: Path, lenient: str) -> None:
    raw = write(tmp_path / "UserBehavior.csv", f"{ENOUGH}{lenient},2,3,pv,{START}\n")
    s = settings("taobao", raw, home)
    assert [row.reason for row in quarantine(s, land(s))] == ["bad_user_id"]


def test_largest_id_is_kept_whole(tmp_path: Path, home: Path) -> None:
    raw = write(tmp_path / "UserBehavior.csv", f"9223372036854775807,2,3,pv,{START}\n")
    assert staged_events(land(settings("taobao", raw, home)))[0].user_id == 2**63 - 1


@pytest.mark.parametrize("cut", ["1,2,3,pv", "1,2,", f"1,2,3,pv,{START // 1000}", "1,2,3,pv,"])
def test_cut_last_line_is_quarantined_as_such(tmp_path: Path, home: Path, cut: str) -> None:
    raw = write(tmp_path / "UserBehavior.csv", ENOUGH + cut)
    s = settings("taobao", raw, home)
    landed = land(s)
    assert quarantine(s, landed) == [Rejected("UserBehavior.csv", 31, "cut_line", cut)]
    assert landed.accounts.events == 30


def test_cut_timestamp_is_found_where_the_window_only_counts(tmp_path: Path, home: Path) -> None:
    cut = f"1,2,3,pv,{START // 1000}"
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", ENOUGH + cut), home, ingest={"outside_window": "keep"})
    assert quarantine(s, land(s)) == [Rejected("UserBehavior.csv", 31, "cut_line", cut)]


def test_whole_last_line_without_a_line_end_is_an_event(tmp_path: Path, home: Path) -> None:
    landed = land(settings("taobao", write(tmp_path / "UserBehavior.csv", ENOUGH + GOOD), home))
    assert (landed.accounts.events, landed.accounts.quarantined) == (31, 0)


def test_line_numbers_are_those_of_an_editor(tmp_path: Path, home: Path) -> None:
    """Blank lines, a BOM, CRLF and quotes shift nothing; blank lines are no rows."""
    text = f'\ufeff\r\n{GOOD}\r\n\n   \n"\r\n{GOOD[:-1]}5\n\x01,1\x01\n\n'
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", text + ENOUGH), home)
    landed = land(s)
    assert quarantine(s, landed) == [
        Rejected("UserBehavior.csv", 5, "missing_columns", '"'),
        Rejected("UserBehavior.csv", 7, "missing_columns", "\x01,1\x01"),
    ]
    assert {event.source_row for event in staged_events(landed)} == {2, 6, *range(9, 39)}
    assert (landed.accounts.rows, landed.accounts.blank_lines) == (34, 4)


def test_header_is_line_one(tmp_path: Path, home: Path) -> None:
    text = "\ufeffuserId,movieId,rating,timestamp\r\n\r\n1,2,4.0,964982703\r\n"
    landed = land(settings("movielens", write(tmp_path / "ratings.csv", text), home))
    assert [event.source_row for event in staged_events(landed)] == [3]
    assert (landed.accounts.rows, landed.accounts.blank_lines) == (1, 1)


def test_bytes_that_are_not_utf8_are_quarantined_and_shown(tmp_path: Path, home: Path) -> None:
    text = ENOUGH.encode() + b"1,2,3,p\xe9\xff,15\n" + GOOD.encode() + b"\n"
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", text), home)
    landed = land(s)
    assert quarantine(s, landed) == [Rejected("UserBehavior.csv", 31, "invalid_utf8", r"1,2,3,p\xe9\xff,15")]
    assert landed.accounts.events == 31


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("zipped", [False, True])
def test_line_numbers_are_exact_over_many_blocks(tmp_path: Path, home: Path, threads: int, zipped: bool) -> None:
    """The category of each row says where it stands; blank lines and long garbage stand between."""
    text: list[str] = []
    while sum(map(len, text[-1:])) or len(text) * 25 < 3 * BLOCK:
        number = len(text) + 1
        if number % 97 == 0:
            text.append("")
        elif number % 10_007 == 0:
            text.append("x" * 300_000)
        else:
            text.append(f"{number % 501},{number},{number},pv,{START + number % DAY}")
        if len(text) > 80_000:
            break
    data = lines(text).encode()
    raw = write(tmp_path / "UserBehavior.csv", gzip.compress(data, 1) if zipped else data)
    landed = land(settings("taobao", raw, home, engine={"threads": threads}))
    found = staged_events(landed)
    assert len(data) > 3 * BLOCK
    assert all(event.source_row == event.category_id for event in found)
    assert len(found) == sum(1 for line in text if line.count(",") == 4)
    assert landed.accounts.blank_lines == text.count("")


def test_equal_events_are_counted_once_and_the_first_is_kept(tmp_path: Path, home: Path) -> None:
    """Same user, item, behavior and time: the smallest by value, category, file and row stays."""
    one = f"1,2,9,pv,{START}"
    text = lines([one, f"1,2,5,pv,{START}", f"1,2,5,pv,{START}", f"1,2,5,buy,{START}", f"1,2,5,pv,{START + 1}"])
    landed = land(settings("taobao", write(tmp_path / "UserBehavior.csv", text), home))
    assert [(e.behavior, e.time, e.category_id, e.source_row) for e in staged_events(landed)] == [
        ("buy", START, 5, 4),
        ("pv", START, 5, 2),
        ("pv", START + 1, 5, 5),
    ]
    assert (landed.accounts.rows, landed.accounts.events, landed.accounts.duplicates) == (5, 3, 2)


def test_lower_rating_of_one_behavior_at_one_time_is_kept(tmp_path: Path, home: Path) -> None:
    landed = land(settings("movielens", write(tmp_path / "u.data", "1\t2\t5\t900000000\n1\t2\t4\t900000000\n"), home))
    assert [(event.value, event.source_row) for event in staged_events(landed)] == [(4.0, 2)]


@pytest.mark.parametrize(("policy", "events"), [("quarantine", 2), ("keep", 4)])
def test_rows_outside_the_window_are_treated_and_counted_by_name(
    tmp_path: Path, home: Path, policy: str, events: int
) -> None:
    times = [START - 1, START, START + 9 * DAY - 1, START + 9 * DAY]
    text = lines(f"1,{n},3,pv,{time}" for n, time in enumerate(times))
    window = {"since": "2017-11-24T16:00:00Z", "until": "2017-12-03T16:00:00Z", "outside_window": policy}
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", text), home, ingest=window)
    landed = land(s)
    assert (landed.accounts.rows, landed.accounts.events) == (4, events)
    assert landed.accounts.reasons == {"outside_window": 2}
    assert read_manifest(landed.staging).outside_window == 2


@pytest.mark.parametrize(
    ("partition", "dates"),
    [
        ("day", ["2015-12-31", "2016-01-01", "2016-02-29"]),
        ("month", ["2015-12-01", "2016-01-01", "2016-02-01"]),
        ("year", ["2015-01-01", "2016-01-01"]),
    ],
)
def test_partitions_are_utc_days_months_or_years(tmp_path: Path, home: Path, partition: str, dates: list[str]) -> None:
    times = [1451606399, 1451606400, 1456704000]
    raw = write(tmp_path / "u.data", lines(f"1\t{n}\t3\t{time}" for n, time in enumerate(times)))
    manifest = read_manifest(land(settings("movielens", raw, home, ingest={"partition": partition})).staging)
    assert [str(one.event_date) for one in manifest.partitions] == dates
    assert manifest.partitions[-1].max_time.timestamp() == times[-1]
    assert sum(one.rows for one in manifest.partitions) == 3


def test_more_partitions_than_are_read_together(tmp_path: Path, home: Path) -> None:
    rows = [f"1\t{day}\t3\t{1_000_000_000 + day * DAY}" for day in range(100)]
    landed = land(settings("movielens", write(tmp_path / "u.data", lines(rows)), home, ingest={"partition": "day"}))
    assert [event.item_id for event in staged_events(landed)] == list(range(100))
    assert len(read_manifest(landed.staging).partitions) == 100


def test_bytes_depend_on_content_alone(tmp_path: Path) -> None:
    """Threads, order of rows and how often it runs change no published byte but source_row."""
    rows = taobao_rows(6000)
    raw = write(tmp_path / "raw" / "UserBehavior.csv", lines(rows))
    found = []
    for threads in (1, 2, 4):
        home = tmp_path / f"home-{threads}"
        land_and_publish(settings("taobao", raw, home, engine={"threads": threads, "memory_limit": "1GB"}))
        found.append(contents(home, "locks"))
    assert found[0] == found[1] == found[2]
    assert sum(name.endswith(".parquet") for name in found[0]) > 9

    write(raw, lines(reversed(rows)))
    s = settings("taobao", raw, tmp_path / "reversed")
    reversed_ = read_manifest(land(s).staging)
    first = read_manifest(settings("taobao", raw, tmp_path / "home-1").paths.events("taobao"))
    assert reversed_.digest == first.digest
    assert [p.content_digest for p in reversed_.partitions] == [p.content_digest for p in first.partitions]
    assert [p.sha256 for p in reversed_.partitions] != [p.sha256 for p in first.partitions]


def test_digest_does_not_depend_on_files_or_partitions(tmp_path: Path) -> None:
    rows = [f"{n % 9}\t{n}\t{n % 5 + 1}\t{1_000_000_000 + n * DAY}" for n in range(50)]
    s = settings("movielens", write(tmp_path / "u.data", lines(rows)), tmp_path / "a")
    zipped = write(tmp_path / "other.dat", gzip.compress(lines(rows).encode()))
    t = settings("movielens", zipped, tmp_path / "b", ingest={"partition": "year"})
    assert read_manifest(land(s).staging).digest == read_manifest(land(t).staging).digest


def test_digest_tells_contents_apart(tmp_path: Path) -> None:
    base = ["1", "2", "4", "1000000000"]
    others = [["9", "2", "4", "1000000000"], ["1", "9", "4", "1000000000"], ["1", "2", "5", "1000000000"],
              ["1", "2", "1", "1000000000"], ["1", "2", "4", "1000000001"], ["2", "1", "4", "1000000000"]]  # fmt: skip
    digests = {
        read_manifest(
            land(
                settings("movielens", write(tmp_path / f"{n}" / "u.data", "\t".join(row) + "\n"), tmp_path / f"h{n}")
            ).staging
        ).digest
        for n, row in enumerate([base, *others])
    }
    assert len(digests) == 1 + len(others)


def test_same_delivery_again_changes_nothing(tmp_path: Path, home: Path) -> None:
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", ENOUGH), home)
    first = land_and_publish(s)
    shutil.rmtree(first.staging)
    events = s.paths.events(s.name)
    before = {path: path.stat().st_mtime_ns for path in sorted(events.rglob("*"))}
    again = land(s)
    assert again.reused
    assert again.accounts == first.accounts
    assert {path: path.stat().st_mtime_ns for path in sorted(events.rglob("*"))} == before
    assert not again.staging.exists()


def test_a_missing_published_file_is_made_again(tmp_path: Path, home: Path) -> None:
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", ENOUGH), home)
    shutil.rmtree(land_and_publish(s).staging)
    events = s.paths.events(s.name)
    before = contents(events)
    (events / read_manifest(events).partitions[0].path).unlink()
    assert not land_and_publish(s).reused
    assert contents(events) == before


def test_next_delivery_replaces_the_last_and_keeps_equal_files(tmp_path: Path, home: Path) -> None:
    raw = tmp_path / "UserBehavior.csv"
    monday, tuesday, wednesday = (f"1,2,3,pv,{START + day * DAY}" for day in range(3))
    s = settings("taobao", write(raw, lines([monday, tuesday])), home)
    land_and_publish(s)
    events = s.paths.events(s.name)
    kept = next(events.glob("event_date=2017-11-24/*"))
    changed = kept.stat().st_mtime_ns

    write(raw, lines([monday, "", wednesday]))
    land_and_publish(s)
    assert [event.time for event in read_events(events)] == [START, START + 2 * DAY]
    assert [path.name for path in sorted(events.glob("event_date=*"))] == [
        "event_date=2017-11-24",
        "event_date=2017-11-26",
    ]
    assert kept.stat().st_mtime_ns == changed


@pytest.mark.parametrize(
    "change",
    [{"ingest": {"partition": "month"}}, {"expectations": {"min_events": 3}}, {"snapshot": {"target": "cart"}}],
)
def test_settings_that_decide_make_another_delivery(
    tmp_path: Path, home: Path, change: dict[str, dict[str, object]]
) -> None:
    raw = write(tmp_path / "UserBehavior.csv", ENOUGH)
    first = land_and_publish(settings("taobao", raw, home))
    other = land(settings("taobao", raw, home, **change))
    assert not other.reused
    assert other.fingerprint != first.fingerprint


def test_settings_of_other_stages_do_not(tmp_path: Path, home: Path) -> None:
    raw = write(tmp_path / "UserBehavior.csv", ENOUGH)
    land_and_publish(settings("taobao", raw, home))
    assert land(settings("taobao", raw, home, seed=3, models=("recent",), engine={"threads": 1})).reused


def test_what_killed_runs_left_is_swept(tmp_path: Path, home: Path) -> None:
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", ENOUGH), home)
    land_and_publish(s)
    events = s.paths.events(s.name)
    before = contents(events)
    write(s.paths.staging(s.name) / ".tmp-x" / "a", "x")
    write(s.paths.staging(s.name) / "0123456789abcdef" / "a", "x")
    write(s.paths.quarantine(s.name) / ".tmp-y.parquet", "x")
    write(events / "event_date=2017-11-24" / ".tmp-z.parquet", "x")
    write(events / "event_date=2017-11-24" / "0000000000000000.parquet", "x")
    write(events / "event_date=1999-01-01" / "0000000000000000.parquet", "x")
    land(s)
    assert contents(events) == before
    assert not (events / "event_date=1999-01-01").exists()
    assert not [path for path in home.rglob("*") if path.name.startswith(".tmp-")]
    assert not (s.paths.staging(s.name) / "0123456789abcdef").exists()


def test_accounts_are_logged_per_file(tmp_path: Path, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = write(tmp_path / "UserBehavior.csv", f"{ENOUGH}\n1,2,3\n{GOOD}\n{GOOD}\n")
    with caplog.at_level(logging.INFO, logger="pipeline.ingest"):
        land(settings("taobao", raw, home))
    assert caplog.messages == [
        "UserBehavior.csv: 33 rows = 31 events + 1 duplicates + 1 quarantined (missing_columns 1); 1 blank lines"
    ]


def test_accounts_that_do_not_add_up_stop_the_run(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line ends counted while reading are held against what SQL says: a lost line cannot go unseen."""
    rows = Candidates.rows

    def lossy(self: Candidates, name: str) -> list[tuple[object, ...]]:
        return rows(self, name)[1:] if name == "ingest/60_rejections" else rows(self, name)

    monkeypatch.setattr(Candidates, "rows", lossy)
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", f"{ENOUGH}1,2\n"), home)
    with pytest.raises(HmarError, match="31 lines were read but 30 are accounted for; nothing was published"):
        land(s)
    assert not s.paths.events(s.name).exists()


def test_busy_dataset_is_left_alone(tmp_path: Path, home: Path) -> None:
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", ENOUGH), home)
    with dataset_lock(s.paths.lock(s.name), "another run"), pytest.raises(BusyError, match="another run"):
        land(s)
    assert not s.paths.staging(s.name).exists()


def test_cut_zstandard_is_named(tmp_path: Path, home: Path) -> None:
    text = lines(taobao_rows(200_000)).encode()
    packed = bytes(pa.compress(text, "zstd", asbytes=True))
    raw = write(tmp_path / "UserBehavior.csv.zst", packed[:-40_000])
    with pytest.raises(
        DataError, match=r"UserBehavior\.csv\.zst: the Zstandard data is damaged or cut .*; fetch the file again"
    ):
        land(settings("taobao", raw, home))


def test_zip_is_refused(tmp_path: Path, home: Path) -> None:
    raw = tmp_path / "UserBehavior.csv"
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("UserBehavior.csv", ENOUGH)
    with pytest.raises(DataError, match="a zip archive; unzip it and give the file in it"):
        land(settings("taobao", raw, home))


def test_cut_gzip_is_named(tmp_path: Path, home: Path) -> None:
    text = lines(taobao_rows(200_000)).encode()
    raw = write(tmp_path / "UserBehavior.csv.gz", gzip.compress(text)[:-40_000])
    with pytest.raises(
        DataError, match=r"UserBehavior\.csv\.gz: the gzip data is damaged or cut .*; fetch the file again"
    ):
        land(settings("taobao", raw, home))


def test_endless_line_is_named(tmp_path: Path, home: Path) -> None:
    raw = write(tmp_path / "UserBehavior.csv", ENOUGH.encode() + b"x" * (LONGEST + 2 * BLOCK))
    with pytest.raises(DataError, match=r"UserBehavior\.csv, line 31: longer than 16 MiB; this is no text log"):
        land(settings("taobao", raw, home))


def test_file_that_grows_while_it_is_read_is_not_published(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = write(tmp_path / "UserBehavior.csv", ENOUGH)
    read = Candidates.read

    def growing(self: Candidates, ingest: object) -> None:
        read(self, ingest)  # type: ignore[arg-type]
        with raw.open("a") as stream:
            stream.write(GOOD)

    monkeypatch.setattr(Candidates, "read", growing)
    s = settings("taobao", raw, home)
    with pytest.raises(StorageError, match="changed while it was read; nothing was published, run again"):
        land(s)
    assert not any(s.paths.staging(s.name).iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_full_disk_is_a_storage_error_and_publishes_nothing(tmp_path: Path, small_disk: Path) -> None:
    raw = tmp_path / "UserBehavior.csv"
    s = settings("taobao", write(raw, ENOUGH), small_disk / "home")
    land_and_publish(s)
    before = contents(s.paths.events(s.name))
    draw = random.Random(7)
    write(raw, lines(f"{draw.getrandbits(40)},{draw.getrandbits(40)},1,pv,{START + n}" for n in range(200_000)))
    with pytest.raises(StorageError, match="nothing was published, free space"):
        land(s)
    assert contents(s.paths.events(s.name)) == before
    assert not [path for path in (small_disk / "home").rglob("*") if path.name.startswith(".tmp-")]

    write(raw, lines([*taobao_rows(30), GOOD]))
    assert land(s).accounts.events == 31


def test_two_datasets_land_side_by_side(tmp_path: Path, home: Path) -> None:
    raw = write(tmp_path / "UserBehavior.csv", ENOUGH)
    runs = [settings("taobao", raw, home, name=name) for name in ("one", "two")]
    threads = [threading.Thread(target=land_and_publish, args=(s,)) for s in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one, two = (contents(s.paths.events(s.name), "manifest") for s in runs)
    assert one == two
    assert one


def test_generated_flaws_are_accounted_for_one_by_one(taobao_log: Path, home: Path) -> None:
    accounts = land(settings("taobao", taobao_log, home)).accounts
    assert accounts.duplicates == 7
    assert accounts.reasons == {"cut_line": 1, "missing_columns": 2, "outside_window": 5, "unknown_behavior": 3}
    assert accounts.quarantined == 11


def test_generated_movielens_releases_land_whole(movielens_log: Path, movielens_latest_log: Path, home: Path) -> None:
    for name, raw in (("first", movielens_log), ("latest", movielens_latest_log)):
        landed = land(settings("movielens", raw, home, name=name))
        assert landed.accounts.quarantined == 0
        assert landed.accounts.events > 5_000
        behaviors = read_manifest(landed.staging).behaviors
        assert ("tag" in behaviors) == (name == "latest")
        assert {"dislike", "neutral", "like"} <= set(behaviors)


def test_real_taobao_log_is_accounted_for(real_data: Path, home: Path) -> None:
    s = settings("taobao", real_data / "taobao", home)
    landed = land(s)
    assert (landed.accounts.rows, landed.accounts.quarantined) == (84_476, 36)
    assert landed.accounts.reasons == {"cut_line": 1, "outside_window": 35}
    (cut,) = [row for row in quarantine(s, landed) if row.reason == "cut_line"]
    assert (cut.source_file, cut.source_row) == ("UserBehavior.csv", 84_476)
    kept = settings("taobao", real_data / "taobao", home, name="kept", ingest={"outside_window": "keep"})
    assert land(kept).accounts.events == 84_475


@pytest.mark.parametrize(
    ("folder", "dataset", "rows", "events", "duplicates"),
    [
        ("movielens/ml-100k", "movielens", 100_000, 100_000, 0),
        ("movielens/ml-latest-small", "movielens", 104_519, 104_259, 260),
        ("taobao_2hour", "taobao", 110_300, 110_300, 0),
    ],
)
def test_real_log_is_accounted_for(
    real_data: Path, home: Path, folder: str, dataset: str, rows: int, events: int, duplicates: int
) -> None:
    accounts = land(settings(dataset, real_data / folder, home)).accounts
    assert (accounts.rows, accounts.events, accounts.duplicates) == (rows, events, duplicates)
    assert accounts.quarantined == 0
