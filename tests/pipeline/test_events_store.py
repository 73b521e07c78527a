"""The events manifest is the only way in: what it does not name is not there, what it names and lacks is an error."""

import json
import os
from pathlib import Path

import pytest

from hmar.errors import DataError
from pipeline.ingest.writing import content_digest
from pipeline.settings import RetrainSettings
from pipeline.stages.ingest import land
from pipeline.storage.events_store import MANIFEST, files, is_published, publish, read_manifest
from tests.support.raw_logs import contents, land_and_publish, lines, read_events, settings, taobao_rows, write


@pytest.fixture
def run(tmp_path: Path, home: Path) -> RetrainSettings:
    return settings("taobao", write(tmp_path / "UserBehavior.csv", lines(taobao_rows(200))), home)


@pytest.fixture
def events(run: RetrainSettings) -> Path:
    """A published events directory."""
    land_and_publish(run)
    return run.paths.events(run.name)


def test_manifest_names_every_file_and_counts_every_event(events: Path) -> None:
    manifest = read_manifest(events)
    assert files(manifest, events) == sorted(events.glob("event_date=*/*.parquet"))
    assert (
        sum(partition.rows for partition in manifest.partitions) == manifest.accounts.events == len(read_events(events))
    )
    assert sum(manifest.behaviors.values()) == manifest.accounts.events
    assert (manifest.user_id_type, manifest.item_id_type, manifest.source) == ("int64", "int64", "taobao")
    for partition in manifest.partitions:
        assert Path(partition.path).stem == partition.sha256[:16]
        assert (events / partition.path).stat().st_size == partition.bytes
        assert str(partition.event_date) in partition.path


def test_manifest_holds_no_path_of_this_machine(events: Path, tmp_path: Path) -> None:
    assert str(tmp_path) not in (events / MANIFEST).read_text(encoding="utf-8")


def test_events_are_sorted_and_typed(events: Path) -> None:
    import pyarrow.parquet as pq

    path = files(read_manifest(events), events)[0]
    table = pq.read_table(path)
    assert {name: str(table.schema.field(name).type) for name in table.schema.names} == {
        "user_id": "int64",
        "item_id": "int64",
        "behavior": "string",
        "event_time": "timestamp[us, tz=UTC]",
        "category_id": "int64",
        "value": "double",
        "source_file": "string",
        "source_row": "int64",
    }
    rows = [tuple(row[name] for name in ("user_id", "event_time", "item_id", "behavior")) for row in table.to_pylist()]
    assert rows == sorted(rows)


def test_nothing_published_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no events are published here; run `hmar ingest` first"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(("text", "word"), [("{", "the file"), ('{"dataset": "x"}', "source"), ("[]", "the file")])
def test_damaged_manifest_is_named(tmp_path: Path, text: str, word: str) -> None:
    write(tmp_path / MANIFEST, text)
    with pytest.raises(DataError, match=rf"not an events manifest of version 2 \({word}: .*; delete"):
        read_manifest(tmp_path)


def test_missing_file_is_named(events: Path) -> None:
    manifest = read_manifest(events)
    first = files(manifest, events)[0]
    first.unlink()
    with pytest.raises(DataError, match=rf"{first.name}: named by the manifest but missing"):
        files(manifest, events)


def test_published_means_whole(run: RetrainSettings, events: Path) -> None:
    fingerprint = read_manifest(events).fingerprint
    assert is_published(events, fingerprint)
    assert not is_published(events, "0" * 64)
    first = files(read_manifest(events), events)[0]
    first.write_bytes(first.read_bytes()[:-1])
    assert not is_published(events, fingerprint)
    write(events / MANIFEST, json.dumps({}))
    assert not is_published(events, fingerprint)


def test_publishing_again_is_allowed_and_changes_nothing(run: RetrainSettings, events: Path) -> None:
    staging = next(run.paths.staging(run.name).glob("*/manifest.json")).parent
    before = {path: path.stat().st_mtime_ns for path in events.rglob("*.parquet")}
    publish(read_manifest(staging), staging, events)
    assert {path: path.stat().st_mtime_ns for path in events.rglob("*.parquet")} == before


def test_file_system_without_hard_links(run: RetrainSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    landed = land(run)
    events = run.paths.events(run.name)
    publish(read_manifest(landed.staging), landed.staging, events)
    assert contents(events) == contents(landed.staging, "measures.json")


def test_digest_is_of_the_whole_whatever_its_parts() -> None:
    assert content_digest([(3, 10, 20)]) == content_digest([(1, 4, 5), (2, 6, 15)])
    assert content_digest([(3, 10, 20)]) != content_digest([(3, 10, 21)])


def test_digest_of_known_events_is_what_it_was(tmp_path: Path, home: Path) -> None:
    """Snapshots are named after it: a DuckDB that hashes otherwise, or a change of ours, must not go unseen."""
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", lines(taobao_rows(5))), home)
    assert read_manifest(land(s).staging).digest == ("d6142d0b6079cfad3c87fb4c9d0ab262d9b26f9787bba2df60e5ddd0696153a8")
