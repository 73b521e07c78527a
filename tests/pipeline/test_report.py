"""The report stands alone, says what PROTOCOL demands, and escapes what it is given."""

import re
from html.parser import HTMLParser

import pytest

from pipeline.judged import read_report
from pipeline.report import figures
from pipeline.report.content import clock, gather
from pipeline.report.page import render
from pipeline.report.tables import Number, table
from tests.support.night import RUN, Night
from tests.support.registry import Shop


class _Page(HTMLParser):
    """Collects tags, references and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "br", "path", "use", "link", "rect"):
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def page(night: Night) -> _Page:
    return _Page(night.reported.path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_page_needs_no_network_and_no_second_file(page: _Page, night: Night) -> None:
    assert [one for one in page.references if not one.startswith("#")] == []
    text = night.reported.path.read_text(encoding="utf-8")
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert not {"script", "iframe", "img", "link"} & set(page.tags)


@pytest.mark.slow
def test_every_table_of_models_states_its_protocol(page: _Page, night: Night) -> None:
    for stated in (
        f"Snapshot {night.built.id}", "split leave_one_out", "seed 3", "code 0.", "of training and judging on cpu",
        "the target and 10 stored uniform negatives", "95% bootstrap intervals over users",
    ):  # fmt: skip
        assert stated in page.words


@pytest.mark.slow
def test_numbers_are_those_of_the_evaluation(page: _Page, night: Night) -> None:
    for evaluated in night.evaluated.values():
        metrics = read_report(evaluated.directory, night.built.id, night.s.split)["metrics"]
        for name in ("test/full/all/hr@10", "test/sampled/all/ndcg@10", "test/full/new/ndcg@10"):
            assert f"{metrics[name]:.4f}" in page.words
        name = "test/full/all/ndcg@10"
        assert f"{metrics[f'{name}/low']:.4f} – {metrics[f'{name}/high']:.4f}" in page.words  # noqa: RUF001


@pytest.mark.slow
def test_run_decision_and_recommendations_are_told(page: _Page, night: Night) -> None:
    assert RUN in page.words
    assert f"hmar-tiny version 1 ({night.registered.model}) became champion" in " ".join(page.words.split())
    assert night.promoted.reason in page.words
    assert "420 rows for 60 users" in page.words
    assert "overrides.sasrec.max_epochs" in page.words
    assert page.tags.count("svg") == 4, "loss, validation, history length, behavior mix"


@pytest.mark.slow
def test_report_is_an_artifact_of_the_nominees_run(night: Night) -> None:
    client = Shop(night.s, night.built).registry.client
    assert [one.path for one in client.list_artifacts(night.registered.mlflow_run, "report")] == ["report/report.html"]


@pytest.mark.slow
def test_what_comes_from_data_is_escaped(night: Night) -> None:
    content = gather(night.s, RUN, night.built, list(night.evaluated.values()), night.promoted)
    hostile = "<script>alert(1)</script>"
    content["settings"]["name"] = content["decision"]["reason"] = content["run"] = hostile
    assert "<script" not in render(content)
    assert render(content).count("&lt;script&gt;") == 4


def test_labels_of_figures_are_escaped() -> None:
    svg = figures.bars({"<script>alert(1)</script>": 3})
    assert "<script>" not in svg


def test_figures_take_the_color_of_the_page() -> None:
    svg = figures.curves({"hmar": [(1, 0.5), (2, 0.4)], "popularity": []}, "loss")
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert "#010203" not in svg
    assert figures.curves({"popularity": []}, "loss") == ""
    assert svg == figures.curves({"hmar": [(1, 0.5), (2, 0.4)], "popularity": []}, "loss"), "equal input, equal bytes"


def test_best_of_a_column_is_marked_and_a_missing_stratum_is_none() -> None:
    metrics = {"a": {"x": 0.1, "x/low": 0.0, "x/high": 0.2}, "b": {"x": 0.3}, "c": {}}
    rows = {row.model: row for row in table("t", "c", metrics, {"X": "x"}, {"other": "y"}).rows}
    assert rows["a"].cells == {"X": Number(0.1, 0.0, 0.2), "other": None}
    assert {model: set(row.best) for model, row in rows.items()} == {"a": set(), "b": {"X"}, "c": set()}


@pytest.mark.parametrize(("seconds", "told"), [(0.42, "0.4 s"), (12, "12 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_clock(seconds: float, told: str) -> None:
    assert clock(seconds) == told
