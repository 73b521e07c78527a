"""The pages of our own: accounts, verdicts and figures on one page that asks nothing of the network."""

import re
from pathlib import Path

import pytest

from hmar.errors import DataError
from pipeline.checks.page import EVENTS_PAGE
from pipeline.stages.ingest import land
from pipeline.stages.validate import validate
from tests.support.raw_logs import lines, settings, taobao_rows, write

pytestmark = pytest.mark.slow


def addresses(page: str) -> list[str]:
    """What a browser would fetch."""
    return [
        found
        for found in re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", page)
        if not found.startswith("#")
    ]


def test_accounts_reasons_and_verdicts_are_shown(tmp_path: Path, home: Path) -> None:
    rows = [*taobao_rows(60), taobao_rows(60)[0], "<script>alert(1)</script>,2"]
    s = settings(
        "taobao", write(tmp_path / "UserBehavior.csv", lines(rows)), home, ingest={"max_quarantined_share": 0.1}
    )
    published = validate(s, land(s))
    page = (s.paths.data_docs(s.name) / EVENTS_PAGE).read_text(encoding="utf-8")
    assert "expectations hold" in page
    assert published.digest in page
    cells = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "UserBehavior.csv Taobao UserBehavior.csv" in cells
    assert re.search(r"all 62 60 1 1 ", cells)
    assert "missing_columns 1 UserBehavior.csv 62" in cells
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;,2" in page
    assert page.count("<svg") == 2
    assert addresses(page) == []


def test_what_failed_is_shown(tmp_path: Path, home: Path) -> None:
    raw = write(tmp_path / "UserBehavior.csv", lines(taobao_rows(60)))
    s = settings("taobao", raw, home, expectations={"min_events": 61})
    with pytest.raises(DataError, match=r"events\.html"):
        validate(s, land(s))
    page = (s.paths.data_docs(s.name) / EVENTS_PAGE).read_text(encoding="utf-8")
    assert "this delivery was not published" in re.sub(r"<[^>]+>", "", page)
    assert re.search(r"events<small>.*</small></td><td>at least 61</td><td>60</td><td class=\"bad\">fails", page)


def test_a_day_with_a_tenth_of_the_events_is_refused(tmp_path: Path, home: Path) -> None:
    day = 86_400
    start = 1_511_571_600
    rows = [
        f"{u},{i},1,{'buy' if i == 3 else 'pv'},{start + d * day + 60 * u + i}"
        for d in range(5)
        for u in range(40)
        for i in range(4)
    ]
    newest = [f"1,2,3,pv,{start + 5 * day}", f"1,3,3,buy,{start + 5 * day + 9}"]
    limits = {"min_volume": 0.1, "max_behavior_drift": 0.9}
    s = settings("taobao", write(tmp_path / "UserBehavior.csv", lines([*rows, *newest])), home, expectations=limits)
    with pytest.raises(DataError, match=r"volume is 0\.0125, expected from 0\.1 to 5"):
        validate(s, land(s))
    limits = {"min_volume": 0.01, "max_behavior_drift": 0.2}
    s = settings("taobao", s.raw, home, expectations=limits)
    with pytest.raises(DataError, match=r"behavior_drift is 0\.25, expected at most 0\.2"):
        validate(s, land(s))
    s = settings("taobao", s.raw, home, expectations={"min_volume": 0.01, "max_behavior_drift": 0.3})
    assert validate(s, land(s)).changed
