"""What a raw path stands for: files, directories, patterns, compressed or not, and a day's path."""

import gzip
import os
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hmar.errors import DataError, SettingsError
from pipeline import preflight
from pipeline.ingest.raw_path import dated, given, wants_day
from pipeline.sources import delivery, source, source_of
from pipeline.stages.ingest import land
from pipeline.storage.events_store import read_manifest
from tests.support.raw_logs import lines, settings, taobao_rows, write

TAOBAO = lines(taobao_rows(30))
TABLE: dict[str, Any] = {"user": "u", "item": "i", "time": "t", "behaviors": ["buy"]}


def log(first: int, count: int = 5) -> str:
    return lines(["u,i,t", *(f"u{n},i{n % 3},{1_511_539_200 + n}" for n in range(first, first + count))])


def zstd(text: str) -> bytes:
    return bytes(pa.compress(text.encode(), "zstd", asbytes=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log in five files of four kinds, and what lies about in such a directory."""
    raw = tmp_path / "raw"
    write(raw / "a.csv", log(0))
    write(raw / "2017" / "b.csv.gz", gzip.compress(log(5).encode()))
    write(raw / "2017" / "11" / "c.tsv.zst", zstd(log(10).replace(",", "\t")))
    write(
        raw / "2017" / "d.jsonl", lines(f'{{"u": "u{n}", "i": "i{n % 3}", "t": {1_511_539_200 + n}}}' for n in (15, 16))
    )
    write(raw / "E.CSV", log(17))
    for other in ("README.md", ".hidden.csv", "_SUCCESS", "_temporary/f.csv", ".cache/g.csv", "h.csv.crc", "i.xlsx"):
        write(raw / other, "no log")
    return raw


def names(raw: Path, home: Path, **table: Any) -> list[str]:
    s = settings("table", raw, home, name="shop", table={**TABLE, **table})
    return [file.name for file in delivery(source_of(s), raw)]


def test_directory_gives_every_file_of_the_source_at_any_depth(folder: Path, home: Path) -> None:
    assert names(folder, home) == ["2017/11/c.tsv.zst", "2017/b.csv.gz", "2017/d.jsonl", "E.CSV", "a.csv"]
    assert names(folder, home, format="csv") == ["2017/b.csv.gz", "E.CSV", "a.csv"]
    assert names(folder, home, files="*.csv.gz") == ["2017/b.csv.gz"]


def test_mixed_formats_become_one_log(folder: Path, home: Path) -> None:
    s = settings("table", folder, home, name="shop", table=TABLE)
    landed = land(s)
    assert (landed.accounts.rows, landed.accounts.events, landed.accounts.quarantined) == (22, 22, 0)
    assert {one.name: one.rows for one in read_manifest(landed.staging).inputs} == {
        "2017/11/c.tsv.zst": 5, "2017/b.csv.gz": 5, "2017/d.jsonl": 2, "E.CSV": 5, "a.csv": 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.csv", ["a.csv"]),
        ("2017/*.csv.gz", ["2017/b.csv.gz"]),
        ("*/b.csv.gz", ["2017/b.csv.gz"]),
        ("**/*.zst", ["2017/11/c.tsv.zst"]),
        ("[ab].csv", ["a.csv"]),
        ("?.csv", ["a.csv"]),
        (".h*.csv", [".hidden.csv"]),
    ],
)
def test_pattern_gives_what_it_matches(folder: Path, home: Path, pattern: str, found: list[str]) -> None:
    write(folder / ".hidden.csv", log(0))
    base = folder / "2017" if pattern.startswith("2017") else folder
    expected = [str(Path(name).relative_to("2017")) for name in found] if base != folder else found
    assert names(folder / pattern, home) == expected


def test_order_of_the_files_is_not_that_of_the_directory(tmp_path: Path, home: Path) -> None:
    for name in ("b.csv", "c.csv", "a.csv"):
        write(tmp_path / "raw" / name, log(0))
    assert names(tmp_path / "raw", home) == names(tmp_path / "raw" / "*.csv", home) == ["a.csv", "b.csv", "c.csv"]


def test_name_with_wildcards_in_it_is_a_name_where_it_exists(tmp_path: Path, home: Path) -> None:
    write(tmp_path / "log[1].csv", log(0))
    write(tmp_path / "log1.csv", log(0))
    assert names(tmp_path / "log[1].csv", home) == ["log[1].csv"]


def test_pattern_without_a_match_is_refused(folder: Path, home: Path) -> None:
    for pattern, words in (("*.parquet", "matches no file in"), ("nowhere/*.csv", "is no directory")):
        with pytest.raises(DataError, match=words):
            names(folder / pattern, home)
        with pytest.raises(DataError, match=words):
            preflight.check_raw(folder / pattern)
    preflight.check_raw(folder / "*.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_of_a_pattern_that_may_not_be_read_is_found_before_any_work(folder: Path) -> None:
    (folder / "a.csv").chmod(0)
    with pytest.raises(DataError, match=r"a\.csv may not be read"):
        preflight.check_raw(folder / "*.csv")


@pytest.mark.parametrize("pattern", ["", "*"])
def test_log_that_is_there_plain_and_compressed_is_refused(tmp_path: Path, home: Path, pattern: str) -> None:
    write(tmp_path / "raw" / "a.csv", log(0))
    write(tmp_path / "raw" / "a.csv.zst", zstd(log(0)))
    with pytest.raises(DataError, match=r"holds both a\.csv and a\.csv\.zst; remove one"):
        names(tmp_path / "raw" / pattern, home)


def test_directory_without_a_file_of_the_format_is_refused(folder: Path, home: Path) -> None:
    with pytest.raises(DataError, match="no file of this source in it"):
        names(folder, home, format="parquet")


@pytest.mark.parametrize("packed", [gzip.compress(TAOBAO.encode()), zstd(TAOBAO)], ids=["gzip", "zstd"])
def test_fixed_source_finds_its_file_compressed(tmp_path: Path, home: Path, packed: bytes) -> None:
    ending = ".gz" if packed[:2] == b"\x1f\x8b" else ".zst"
    write(tmp_path / "raw" / f"UserBehavior.csv{ending}", packed)
    landed = land(settings("taobao", tmp_path / "raw", home))
    assert (landed.accounts.rows, landed.accounts.events) == (30, 30)


def test_fixed_source_takes_a_pattern_over_days(tmp_path: Path, home: Path) -> None:
    rows = taobao_rows(30)
    for day, part in (("2017-11-25", rows[:10]), ("2017-11-26", rows[10:])):
        write(tmp_path / day / "UserBehavior.csv", lines(part))
    landed = land(settings("taobao", tmp_path / "*" / "UserBehavior.csv", home))
    assert [one.name for one in read_manifest(landed.staging).inputs] == [
        "2017-11-25/UserBehavior.csv", "2017-11-26/UserBehavior.csv",
    ]  # fmt: skip
    assert landed.accounts.events == 30
    with pytest.raises(DataError, match=r"2017-11-25/ has one: give that directory, or all of them as '.*/\*/User"):
        delivery(source("taobao"), tmp_path)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/logs/{date}/log.csv", "/logs/2017-11-05/log.csv"),
        ("/logs/{date:%Y%m%d}.csv", "/logs/20171105.csv"),
        ("/logs/{date:%Y}/{date:%m}/{date:%d}/*.csv", "/logs/2017/11/05/*.csv"),
        ("/logs/{{1}}.csv", "/logs/{1}.csv"),
        ("/logs/plain.csv", "/logs/plain.csv"),
    ],
)
def test_day_is_filled_in(raw: str, path: str) -> None:
    assert dated(raw, date(2017, 11, 5)) == dated(Path(raw), date(2017, 11, 5)) == Path(path)
    assert wants_day(raw) == ("{date" in raw)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("/logs/{day}.csv", "unknown placeholder {day}; known: {date}"),
        ("/logs/{}.csv", "unknown placeholder {}"),
        ("/logs/{date!r}.csv", "unknown placeholder {date}"),
        ("/logs/{date:yyyy}.csv", "'yyyy' is no format of a date"),
        ("/logs/{date", "a brace that belongs to the name is written twice"),
    ],
)
def test_other_placeholders_are_refused(raw: str, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        dated(raw, date(2017, 11, 5))
    assert words in str(refused.value)


def test_path_that_needs_a_day_gets_it_from_the_settings(tmp_path: Path, home: Path) -> None:
    write(tmp_path / "2017-11-25.csv", TAOBAO)
    s = settings("taobao", tmp_path / "{date}.csv", home, day="2017-11-25")
    assert given(s) == tmp_path / "2017-11-25.csv"
    assert land(s).accounts.events == 30
    with pytest.raises(SettingsError, match=r"needs a day; set day \(--day 2017-11-25\)"):
        land(settings("taobao", tmp_path / "{date}.csv", home))
