"""The report stands alone, says what PROTOCOL demands, and escapes what it is given."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.judged import Number, read_report
from pipeline.kept import REPUBLISHED, keep, known_now, read_kept, settings_of_run
from pipeline.report import figures
from pipeline.report.content import clock, environment, gather
from pipeline.report.density import density
from pipeline.report.page import render
from pipeline.report.tables import table
from pipeline.results import Accounts, Evaluated, Published, Recommended
from pipeline.settings import RetrainSettings
from pipeline.storage.atomic import write_json
from tests.support.events import publish_events
from tests.support.night import RUN, Night
from tests.support.registry import Shop
from tests.support.tiny_snapshot import random_events


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
def test_environment_is_the_trainings_own(page: _Page, night: Night) -> None:
    text = night.reported.path.read_text(encoding="utf-8")
    assert "<td><code>threads</code></td><td><code>1</code></td>" in text
    assert "Environment of sasrec" in page.words


def test_environment_of_a_run_without_tags_is_left_out(shop: Shop) -> None:
    judged = shop.judged("old", "popularity", shop.ranks(3), 0.5)
    assert environment(shop.s, judged.mlflow_run) == {}
    shop.registry.client.set_tag(judged.mlflow_run, "hmar.threads", "3")
    assert environment(shop.s, judged.mlflow_run) == {"threads": "3"}


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


def _checked(shop: Shop, found: str, of: str) -> None:
    """Leave the result of a validation of the events with the fingerprint ``of``."""
    check = {"name": "rows", "expected": "at least 1", "found": found, "success": True, "why": "w"}
    write_json(shop.s.paths.data_docs(shop.s.name) / "result.json", {"fingerprint": of, "checks": [check]})


def _fingerprint(shop: Shop) -> str:
    from pipeline.storage.events_store import read_manifest

    return read_manifest(shop.s.paths.events(shop.s.name)).fingerprint


def test_what_is_kept_of_a_run_stays_when_events_are_published_again(shop: Shop) -> None:
    _checked(shop, "2000", _fingerprint(shop))
    keep(shop.s, "old", shop.built)
    publish_events(shop.s.paths.events(shop.s.name), random_events(60, 30, 500, seed=6))
    _checked(shop, "500", _fingerprint(shop))
    kept = read_kept(shop.s, "old", shop.built)
    assert kept is not None
    assert (kept.rows.accounts.rows, kept.rows.doubt, kept.checks[0]["found"]) == (2000, "", "2000")
    now = known_now(shop.s, shop.built)
    assert (now.rows.accounts.rows, now.rows.accounts.events) == (2000, 2000), "the snapshot knows them, too"
    assert (now.rows.first, now.rows.doubt, now.checks) == ("", REPUBLISHED, ())


def test_checks_of_a_delivery_that_was_not_published_are_not_the_runs(shop: Shop) -> None:
    _checked(shop, "7", "another delivery")
    assert known_now(shop.s, shop.built).checks == ()


def test_a_run_is_reported_under_its_own_settings_and_no_password_is_kept(shop: Shop) -> None:
    mine = shop.with_settings(tracking_uri="http://me:secret@mlflow:5000", seed=9)
    keep(mine.s, "old", mine.built)
    path = mine.s.paths.kept("old", mine.built.id)
    assert "secret" not in path.read_text(encoding="utf-8")
    assert str(mine.s.home) not in path.read_text(encoding="utf-8")
    found = settings_of_run(shop.s, "old", shop.built)
    assert (found.seed, found.home, found.tracking_uri) == (9, shop.s.home, shop.s.tracking_uri)
    other = shop.s.snapshot.model_copy(update={"candidates": 77})
    none_kept = settings_of_run(shop.s.model_copy(update={"snapshot": other}), "older", shop.built)
    assert none_kept.snapshot.candidates == 10, "the snapshot's own"


def test_a_run_made_stage_by_stage_keeps_its_rows_from_the_first(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.commands.stages.built", lambda _: shop.built)
    monkeypatch.setattr("pipeline.stages.train.train", lambda *_: SimpleNamespace(directory="d"))
    words = ["train", "--dataset", shop.s.dataset, "--name", shop.s.name, "--home", str(shop.s.home), "--run", "x"]
    assert main([*words, "--models", "popularity"]) == 0
    publish_events(shop.s.paths.events(shop.s.name), random_events(60, 30, 500, seed=6))
    assert main([*words, "--models", "recent"]) == 0
    kept = read_kept(shop.s, "x", shop.built)
    assert kept is not None
    assert (kept.rows.accounts.rows, kept.rows.doubt) == (2000, "")
    assert kept.settings == {}, "every stage has its own"


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False])
def test_report_of_an_old_run_tells_of_that_run(night: Night, tmp_path: Path, kept: bool) -> None:
    home = tmp_path / "home"
    shutil.copytree(night.s.paths.root, home)
    publish_events(home / "events" / "dataset=tiny", random_events(60, 30, 500, seed=6))
    if not kept:
        (home / "trainings" / RUN / f"{night.built.id}.json").unlink()
    shutil.rmtree(home / "reports")
    words = ["--dataset", night.s.dataset, "--name", "tiny", "--home", str(home), "--run", RUN, "--recommend.k", "3"]
    shutil.copytree(night.built.snapshot, home / "snapshots" / "tiny" / night.built.id, dirs_exist_ok=True)
    assert main(["report", *words]) == 0
    page = _Page((home / "reports" / RUN / "report.html").read_text(encoding="utf-8"))
    assert "2,000 = 2,000 + 0 + 0" in page.words
    assert "the target and 10 stored uniform negatives" in page.words
    assert (REPUBLISHED in page.words) is not kept
    assert ("Events from 2020-01-01" in page.words) is kept
    assert ("overrides.sasrec.max_epochs" in page.words) is kept
    assert ("420 rows for 60 users" in page.words) is kept, "k was 7"
    assert night.reported.path.is_file()


NOTHING_FOUND = "validation ndcg@10 is 0 for every model: no target was found, and the choice among them is a tie"
NOBODY_SERVED = "recommendations were written for 0 users: nothing is left to recommend"


def _of_no_use(night: Night) -> tuple[list[Evaluated], Recommended]:
    """The night's results, had no model found a target and nobody anything left to be recommended."""
    validation = dict.fromkeys(night.evaluated["sasrec"].metrics["validation"], 0.0)
    judged = [
        one.model_copy(update={"metrics": one.metrics | {"validation": validation}}) for one in night.evaluated.values()
    ]
    return judged, night.recommended.model_copy(update={"users": 0, "rows": 0})


@pytest.mark.slow
def test_the_report_warns_of_results_that_are_of_no_use(night: Night, page: _Page, tmp_path: Path) -> None:
    assert "Warning" not in page.words
    home = tmp_path / "home"
    shutil.copytree(night.s.paths.root, home)
    s = RetrainSettings.resolve(night.s.model_dump() | {"home": home}, use_environment=False)
    written = home / night.recommended.path.relative_to(night.s.paths.root)
    pq.write_table(pq.read_table(written).slice(0, 0), written)
    content = gather(s, RUN, night.built, _of_no_use(night)[0], night.promoted)
    words = _Page(render(content)).words
    assert f"Warning: {NOTHING_FOUND}." in words
    assert f"Warning: {NOBODY_SERVED}" in words


@pytest.mark.slow
def test_the_terminal_warns_of_results_that_are_of_no_use(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judged, recommended = _of_no_use(night)
    empty = tmp_path / "recommendations.parquet"
    pq.write_table(pq.read_table(night.recommended.path).slice(0, 0), empty)
    accounts = Accounts(rows=1, events=1, duplicates=0, quarantined=0)
    done = SimpleNamespace(
        published=Published(events=tmp_path, digest="", accounts=accounts, data_docs=tmp_path / "docs" / "index.html"),
        built=night.built,
        evaluated=judged,
        registered=night.registered,
        promoted=night.promoted,
        recommended=recommended.model_copy(update={"path": empty}),
        reported=night.reported,
    )
    monkeypatch.setattr("pipeline.retrain.retrain", lambda *_: done)
    assert main(["retrain", "--dataset", "movielens", "--raw", str(tmp_path), "--home", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert f"warning: {NOTHING_FOUND}\n" in shown
    assert f"warning: {NOBODY_SERVED}" in shown
    assert str(tmp_path / "docs" / "index.html") in shown, "the page itself, as ingest prints it"


def test_density_counts_a_pair_once_however_often_it_recurs(shop: Shop) -> None:
    snapshot = shop.snapshot
    owner = np.repeat(np.arange(snapshot.manifest.users), np.diff(snapshot.offsets))
    pairs = set(zip(owner.tolist(), snapshot.item.tolist(), strict=True))
    cells = snapshot.manifest.users * snapshot.manifest.items
    assert snapshot.manifest.events > cells, "items recur"
    assert density(snapshot) == len(pairs) / cells <= 1


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
