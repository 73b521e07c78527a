"""The launcher of evaluations: results read back, equal settings for all models."""

import json

import pytest

from hmar.errors import DataError
from pipeline.judged import headline, intervals, read_report
from pipeline.stages.evaluate import evaluate, evaluate_export
from tests.support.night import Night

pytestmark = pytest.mark.slow


def test_headline_is_full_ranking_over_all_targets() -> None:
    metrics = {
        "test/full/all/ndcg@10": 0.5,
        "test/full/all/ndcg@10/low": 0.4,
        "test/full/all/ndcg@10/high": 0.7,
        "test/full/all/targets": 60,
        "test/full/new/ndcg@10": 0.1,
        "test/sampled/all/ndcg@10": 0.9,
        "validation/full/all/mrr": 0.3,
    }
    assert headline(metrics) == {"validation": {"mrr": 0.3}, "test": {"ndcg@10": 0.5}}
    assert intervals(metrics) == {"validation": {}, "test": {"ndcg@10": (0.4, 0.7)}}


def test_both_parts_are_judged_and_equal_what_is_on_the_disk(night: Night) -> None:
    for model, evaluated in night.evaluated.items():
        report = read_report(evaluated.directory, night.built.id, night.s.split)
        assert report["made"]["model"] == model
        for part in ("validation", "test"):
            assert evaluated.metrics[part]["ndcg@10"] == report["metrics"][f"{part}/full/all/ndcg@10"]
            low, high = evaluated.intervals[part]["ndcg@10"]
            assert 0 < low < evaluated.metrics[part]["ndcg@10"] < high < 1


def test_models_are_judged_by_equal_settings(night: Night) -> None:
    inputs = [read_report(one.directory, night.built.id, night.s.split)["inputs"] for one in night.evaluated.values()]
    assert len({json.dumps({k: v for k, v in one.items() if k != "model"}, sort_keys=True) for one in inputs}) == 1
    assert inputs[0]["confidence"] == night.s.promote.confidence


def test_finished_evaluation_is_not_repeated(night: Night) -> None:
    one = night.evaluated["popularity"]
    path = one.directory / "evaluation" / night.built.id / night.s.split / "metrics.json"
    before = path.stat().st_mtime_ns
    assert evaluate(night.s, night.built, night.trained["popularity"]) == one
    assert path.stat().st_mtime_ns == before


def test_exported_model_is_judged_the_same(night: Night, tmp_path_factory: pytest.TempPathFactory) -> None:
    own = night.evaluated["popularity"].directory
    out = evaluate_export(night.s, night.built, "a copy", own / "model", tmp_path_factory.mktemp("out"))
    found = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    assert found == read_report(own, night.built.id, night.s.split)["metrics"]


def test_what_is_no_model_is_named(night: Night, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DataError, match=f"evaluation of nothing: {empty}"):
        evaluate_export(night.s, night.built, "nothing", empty, tmp_path_factory.mktemp("out"))


def test_reading_before_judging_says_what_to_do(night: Night) -> None:
    with pytest.raises(DataError, match="not evaluated yet; run 'hmar evaluate'"):
        read_report(night.trained["sasrec"].directory, "0" * 16, night.s.split)
