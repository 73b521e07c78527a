"""Great Expectations judges every delivery; what fails is named and not published, what holds is, with Data Docs."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hmar.errors import BusyError, DataError, StorageError
from pipeline.checks.check import Check
from pipeline.checks.events import suite
from pipeline.checks.judge import judge
from pipeline.results import Landed, Published
from pipeline.settings import RetrainSettings
from pipeline.stages.ingest import land
from pipeline.stages.validate import validate
from pipeline.storage.events_store import read_manifest
from pipeline.storage.lock import dataset_lock
from tests.support.raw_logs import START, contents, lines, read_events, settings, taobao_rows, write

pytestmark = pytest.mark.slow

ROWS = taobao_rows(60)


def run(s: RetrainSettings) -> Published:
    return validate(s, land(s))


def result(s: RetrainSettings) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((s.paths.data_docs(s.name) / "result.json").read_text(encoding="utf-8"))
    return found


def test_good_delivery_is_published_with_data_docs(tmp_path: Path, home: Path) -> None:
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", lines([*ROWS, ROWS[0]])), home)
    landed = land(s)
    published = validate(s, landed)
    assert published.changed
    assert published.accounts == landed.accounts
    assert len(read_events(published.events)) == 60
    assert published.digest == read_manifest(published.events).digest
    assert not landed.staging.exists()
    assert published.data_docs is not None
    assert published.data_docs.read_text(encoding="utf-8").count("taobao") > 0
    pages = list(published.data_docs.parent.glob("validations/**/*.html"))
    assert len(pages) == 1
    page = pages[0].read_text(encoding="utf-8")
    assert "quarantined_share" in page
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for name in ("rows", "events", "duplicates", "quarantined"):
        assert f" {name} " in text


def test_result_holds_what_a_report_needs(tmp_path: Path, home: Path) -> None:
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", lines([*ROWS, ROWS[0]])), home)
    published = run(s)
    found = result(s)
    assert found["success"] is True
    assert found["accounts"]["duplicates"] == 1
    assert found["metrics"]["share_buy"] == pytest.approx(10 / 60)
    assert found["metrics"]["duplicate_share"] == pytest.approx(1 / 61)
    assert (s.paths.data_docs(s.name) / found["data_docs"]) == published.data_docs
    by_name = {check["name"]: check for check in found["checks"]}
    assert by_name["users"] == {
        "name": "users", "expected": "at least 1", "found": "7", "success": True, "why": "Enough users to train on.",
    }  # fmt: skip
    assert all(check["success"] for check in found["checks"])
    assert len(found["checks"]) == len(suite(s, found["metrics"]))


def test_second_run_changes_nothing_and_says_so(tmp_path: Path, home: Path) -> None:
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", lines(ROWS)), home)
    first = run(s)
    before = {path: path.stat().st_mtime_ns for path in sorted(home.rglob("*")) if "locks" not in str(path)}
    second = run(s)
    assert not second.changed
    assert (second.digest, second.accounts, second.data_docs) == (first.digest, first.accounts, first.data_docs)
    assert {path: path.stat().st_mtime_ns for path in sorted(home.rglob("*")) if "locks" not in str(path)} == before


@pytest.mark.parametrize(
    ("rows", "change", "words"),
    [
        (ROWS, {"expectations": {"min_events": 61}}, ["events is 60, expected at least 61"]),
        (ROWS, {"expectations": {"min_users": 8}}, ["users is 7, expected at least 8"]),
        (ROWS, {"expectations": {"min_items": 100}}, ["items is 60, expected at least 100"]),
        ([*ROWS, *ROWS], {}, ["duplicate_share is 0.5, expected at most 0.2"]),
        (ROWS, {"expectations": {"max_target_share": 0.1}}, ["target_share is 0.166667, expected from 0.001 to 0.1"]),
        (
            [row for row in ROWS if "buy" not in row],
            {},
            ["target_events is 0, expected at least 1", "target_share is 0, expected from 0.001 to 1"],
        ),
        (
            [*ROWS, "1,2,3"],
            {},
            [
                "quarantined_share is 0.0163934, expected at most 0.01",
                "missing_columns in 1 row(s)",
                "line 61: '1,2,3'",
            ],
        ),
        (
            [*ROWS, "1,2", "1,2,3"],
            {"ingest": {"max_quarantined_share": 1, "max_quarantined_rows": 1}},
            [
                "quarantined is 2, expected from 0 to 1",
                "missing_columns in 2 row(s), the first UserBehavior.csv line 61",
            ],
        ),
        (
            [*ROWS[:5], f"7,8,9,view,{START}", f"7,9,9,view,{START}", *ROWS],
            {},
            ["unknown_behavior 'view' (known: pv, fav, cart, buy) in 2 row(s), the first UserBehavior.csv line 6:"],
        ),
        (
            [f"{n},2,3,pv,100" for n in range(1, 9)],
            {},
            ["events is 0, expected at least 1", "outside_window in 8 row(s)"],
        ),
    ],
)
def test_failed_expectation_is_named_and_stops_before_publishing(
    tmp_path: Path, home: Path, rows: list[str], change: dict[str, Any], words: list[str]
) -> None:
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", lines(rows)), home, **change)
    with pytest.raises(DataError) as failed:
        run(s)
    message = str(failed.value)
    assert "\n" not in message
    for word in ["taobao: validation failed, nothing was published", *words, "events.html"]:
        assert word in message
    assert not s.paths.events(s.name).exists()
    assert result(s)["success"] is False
    assert (s.paths.data_docs(s.name) / result(s)["data_docs"]).is_file()


def test_a_code_that_the_settings_do_not_know_is_named_beside_those_they_do(tmp_path: Path, home: Path) -> None:
    table = {
        "user": "who",
        "item": "what",
        "behavior": "did",
        "time": "at",
        "behaviors": [{"view": ["pv", "see"]}, "cart"],
    }
    acts = ("pv", "see", "cart", "cart", "buy")
    rows = [f'{n % 7},"{n}, blue",{acts[n % 5]},{START + n}' for n in range(60)]
    raw = write(tmp_path / "shop.csv", lines(["who,what,did,at", *rows]))
    with pytest.raises(DataError) as failed:
        run(settings("table", raw, home, name="shop", table=table))
    message = str(failed.value)
    assert "unknown_behavior 'buy' in 12 row(s), the first shop.csv line 6; " in message
    assert "; table.behaviors knows the codes pv, see, cart; add it there or fix the log, see " in message
    assert message.count("fix the log") == 1


def test_failed_delivery_leaves_the_published_one(tmp_path: Path, home: Path) -> None:
    raw = write(tmp_path / "UserBehavior.csv", lines(ROWS))
    s = settings("taobao", raw, home)
    run(s)
    before = contents(s.paths.events(s.name))
    write(raw, lines([*ROWS, *["1,2"] * 30]))
    with pytest.raises(DataError, match="quarantined_share"):
        run(s)
    assert contents(s.paths.events(s.name)) == before

    write(raw, lines(ROWS[:-1]))
    assert run(s).changed
    assert len(read_events(s.paths.events(s.name))) == 59


def test_stricter_settings_judge_the_same_log_again(tmp_path: Path, home: Path) -> None:
    raw = write(tmp_path / "UserBehavior.csv", lines(ROWS))
    run(settings("taobao", raw, home))
    with pytest.raises(DataError, match="users is 7, expected at least 50"):
        run(settings("taobao", raw, home, expectations={"min_users": 50}))


def test_cleared_staging_is_landed_again(tmp_path: Path, home: Path) -> None:
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", lines(ROWS)), home)
    landed = land(s)
    other = settings("taobao", write(tmp_path / "other" / "UserBehavior.csv", lines(ROWS[:9])), home)
    land(other)
    assert not landed.staging.exists()
    assert validate(s, landed).accounts.events == 60


def test_changed_is_about_events_not_about_settings(tmp_path: Path, home: Path) -> None:
    raw = write(tmp_path / "UserBehavior.csv", lines(ROWS))
    first = run(settings("taobao", raw, home))
    second = run(settings("taobao", raw, home, expectations={"min_users": 2}))
    assert first.changed
    assert not second.changed
    assert first.digest == second.digest


def test_two_datasets_have_projects_of_their_own(tmp_path: Path, home: Path) -> None:
    raw = write(tmp_path / "UserBehavior.csv", lines(ROWS))
    pages = [run(settings("taobao", raw, home, name=name)).data_docs for name in ("one", "two", "one.more")]
    assert len(set(pages)) == 3
    for name in ("one", "two", "one.more"):
        assert result(settings("taobao", raw, home, name=name))["dataset"] == name


def test_damaged_project_is_made_anew(tmp_path: Path, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = write(tmp_path / "UserBehavior.csv", lines(ROWS))
    s = settings("taobao", raw, home)
    run(s)
    write(s.paths.data_docs(s.name) / "gx" / "great_expectations.yml", "config_version: [")
    with caplog.at_level(logging.WARNING):
        run(settings("taobao", write(raw, lines(ROWS[:-1])), home))
    assert any("made anew" in message for message in caplog.messages)


def test_busy_dataset_is_left_alone(tmp_path: Path, home: Path) -> None:
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", lines(ROWS)), home)
    landed = land(s)
    with dataset_lock(s.paths.lock(s.name), "another run"), pytest.raises(BusyError, match="another run"):
        validate(s, landed)
    assert not s.paths.events(s.name).exists()


def test_damaged_staging_is_retryable(tmp_path: Path, home: Path) -> None:
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", lines(ROWS)), home)
    landed: Landed = land(s)
    write(landed.staging / "measures.json", "{")
    with pytest.raises(StorageError, match=r"measures\.json: not readable"):
        validate(s, landed)


def test_every_bound_of_a_check_is_judged(tmp_path: Path) -> None:
    checks = [
        Check("low", 1, None, "why"),
        Check("high", None, 1, "why"),
        Check("both", 1, 1, "why"),
        Check("edge", 1, 2, "why"),
        Check("gone", 0, None, "why"),
    ]
    metrics = {"low": 0, "high": 2, "both": 2, "edge": 2, "gone": None}
    verdicts, _ = judge(tmp_path, "edges", "edges", checks, metrics)
    assert [(v.check.measure, v.success) for v in verdicts] == [
        ("low", False), ("high", False), ("both", False), ("edge", True), ("gone", False),
    ]  # fmt: skip


def test_it_is_quiet_where_everything_is_logged(tmp_path: Path, home: Path) -> None:
    """A log at INFO, as Airflow sets up, holds our lines and none of Great Expectations'."""
    raw = write(tmp_path / "UserBehavior.csv", lines(ROWS))
    code = (
        "import logging; logging.basicConfig(level=logging.INFO, format='%(name)s')\n"
        "from tests.support.raw_logs import settings\n"
        "from pipeline.stages.ingest import land\nfrom pipeline.stages.validate import validate\n"
        f"from pathlib import Path\ns = settings('taobao', Path({str(raw)!r}), Path({str(home)!r}))\n"
        "validate(s, land(s))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set((done.stdout + done.stderr).split()) == {"pipeline.ingest", "pipeline.validate"}
