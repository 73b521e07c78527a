"""An ingest of a made-up log arrives at exactly the accounts that the truth names."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipeline.results import Landed
from pipeline.settings import RetrainSettings
from pipeline.simulate import Dirt, simulate
from pipeline.stages.ingest import land
from pipeline.stages.validate import validate
from pipeline.storage.events_store import EventsManifest, read_manifest
from tests.pipeline.simulate.logs import CASES, every_flaw, log_files, truth


def settings(out: Path, home: Path, raw: Path | None = None, **ingest: Any) -> RetrainSettings:
    told = truth(out)
    source = told["settings"]["source"]
    values = {
        "dataset": source,
        "raw": raw or out,
        "home": home,
        "ingest": {**told["window"], "max_quarantined_share": 1, **ingest},
        "expectations": {"max_duplicate_share": 1, "min_target_share": 0},
        "engine": {"threads": 2},
    }
    yaml = out / "shop.yaml" if source == "table" else None
    return RetrainSettings.resolve(values, yaml_file=yaml, use_environment=False)


def expect(told: dict[str, Any], landed: Landed, manifest: EventsManifest) -> None:
    found = landed.accounts
    assert {name: getattr(found, name) for name in told["accounts"]} == told["accounts"]
    assert found.reasons == told["reasons"]
    assert manifest.behaviors == {name: count for name, count in told["behaviors"].items() if count}


@pytest.mark.parametrize(("source", "layout"), CASES)
def test_every_row_is_accounted_for_as_it_should_be(tmp_path: Path, source: str, layout: str) -> None:
    out = simulate(source, tmp_path / "log", users=90, items=60, seed=3, layout=layout, dirt=every_flaw(source, layout))
    s = settings(out, tmp_path / "home")
    assert s.ingest.identical_rows == truth(out)["identical_rows"]
    landed = land(s)
    expect(truth(out), landed, read_manifest(landed.staging))


@pytest.mark.parametrize("source", ["amazon", "kuairand", "movielens", "taobao", "tianchi", "tmall", "yelp"])
def test_a_clean_log_lies_within_the_presets_window(tmp_path: Path, source: str) -> None:
    out = simulate(source, tmp_path / "log", users=40, items=50, seed=3)
    values = {"dataset": source, "raw": out, "home": tmp_path / "home"}
    landed = land(RetrainSettings.resolve(values, use_environment=False))
    assert landed.accounts.quarantined == landed.accounts.duplicates == 0
    assert landed.accounts.rows == truth(out)["accounts"]["rows"]


@pytest.mark.parametrize(
    ("source", "layout"), [("taobao", ""), ("kuairand", ""), ("yelp", "2018"), ("amazon", "csv-2014"), ("table", "csv")]
)
def test_gzip_of_several_members_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, layout: str
) -> None:
    from pipeline.simulate import command

    monkeypatch.setattr(command, "BLOCK", 15)
    dirt = every_flaw(source, layout)
    out = simulate(source, tmp_path / "log", users=50, items=60, seed=3, layout=layout, gzip=True, dirt=dirt)
    landed = land(settings(out, tmp_path / "home"))
    expect(truth(out), landed, read_manifest(landed.staging))


@pytest.mark.parametrize(
    ("source", "layout", "pattern"),
    [
        ("taobao", "", "*/UserBehavior.csv"),
        pytest.param("tianchi", "", "*/tianchi_*.csv", marks=pytest.mark.slow),
        pytest.param("yelp", "2014", "*/yelp_academic_dataset_[rt]*.json", marks=pytest.mark.slow),
        pytest.param("table", "json", "*.jsonl", marks=pytest.mark.slow),
        pytest.param("table", "parquet", "*.parquet", marks=pytest.mark.slow),
    ],
)
def test_daily_files_together_with_late_rows_and_repeated_files(
    tmp_path: Path, source: str, layout: str, pattern: str
) -> None:
    dirt = every_flaw(source, layout).model_copy(update={"late_rows": 20, "duplicate_files": 2, "cut_last_line": False})
    days = 12 if source == "yelp" else None
    out = simulate(
        source, tmp_path / "log", users=90, items=60, days=days, seed=3, layout=layout, per_day=True, dirt=dirt
    )
    told = truth(out)
    landed = land(settings(out, tmp_path / "home", raw=out / pattern))
    manifest = read_manifest(landed.staging)
    found = {one.name: (one.rows, one.events, one.duplicates, one.quarantined) for one in manifest.inputs}
    keys = ("rows", "events", "duplicates", "quarantined")
    assert found == {name: tuple(account[key] for key in keys) for name, account in told["accounts_by_file"].items()}
    assert manifest.behaviors == told["behaviors"]


@pytest.mark.slow
def test_days_that_come_one_after_another(tmp_path: Path) -> None:
    dirt = Dirt(late_rows=25, duplicates=9, unknown_codes=6, duplicate_files=1)
    out = simulate("taobao", tmp_path / "log", users=200, items=60, seed=3, per_day=True, dirt=dirt)
    told = truth(out)
    days = sorted({name.split("/")[0].removesuffix("_again") for name in log_files(out)})
    for day in days:
        s = settings(out, tmp_path / "home", raw=Path(f"{out}/{{date}}"), mode="append")
        s = s.model_copy(update={"day": date.fromisoformat(day)})
        validate(s, land(s))
    (again,) = (name for name in log_files(out) if "_again" in name)
    s = settings(out, tmp_path / "home", raw=(out / again).parent, mode="append")
    published = validate(s, land(s))
    accounts = published.accounts
    assert {name: getattr(accounts, name) for name in told["accounts"]} == told["accounts"]
    found = {one.name: one.events for one in read_manifest(published.events).inputs}
    assert found == {name: account["events"] for name, account in told["accounts_by_file"].items()}
