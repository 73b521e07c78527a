"""The figures show what the summary says, and cope with strata that are not there."""

from pathlib import Path

import pytest

from hmar.evaluate.names import RANK_METRICS, full_name
from hmar.evaluate.plots import behavior_mix, hr_by_length, metric_bars, write


def summary(*strata: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for stratum in strata:
        for candidates in ("full", "sampled"):
            found[full_name("test", candidates, stratum, "targets")] = 7
            for metric in RANK_METRICS:
                name = full_name("test", candidates, stratum, metric)
                found |= {name: 0.25, f"{name}/low": 0.125, f"{name}/high": 0.5}
    return found


def test_hr_by_length_has_a_point_with_interval_per_stratum_that_has_targets() -> None:
    figure = hr_by_length(summary("all", "length_1-5", "length_101-up"), "test")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1-5", "101+"]
    assert [text.get_text() for text in axes.texts] == ["n=7", "n=7"]
    bars = [container[2][0].get_segments()[0] for container in axes.containers]
    assert [segment[:, 1].tolist() for segment in bars] == [[0.125, 0.5], [0.125, 0.5]]


def test_a_kind_of_target_that_does_not_occur_is_not_in_the_legend() -> None:
    left, right = metric_bars(summary("all", "new"), "test").axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["full", "sampled"]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["new"]


def test_an_interval_beside_its_value_is_drawn() -> None:
    skewed = summary("all", "new") | {"test/full/all/mrr/low": 0.3}
    assert len(metric_bars(skewed, "test").axes) == 2


@pytest.mark.parametrize("strata", [(), ("all",)])
def test_no_strata_no_failure(strata: tuple[str, ...], tmp_path: Path) -> None:
    for name, figure in (("a", hr_by_length(summary(*strata), "test")), ("b", metric_bars(summary(*strata), "test"))):
        assert write(figure, tmp_path / f"{name}.png").stat().st_size > 0


def test_behaviors_stand_in_funnel_order_with_their_share(tmp_path: Path) -> None:
    figure = behavior_mix({"view": 3, "buy": 1, "never": 0})
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["3 (75.0%)", "1 (25.0%)", "0 (0.0%)"]
    first = write(figure, tmp_path / "a.png").read_bytes()
    assert write(behavior_mix({"view": 3, "buy": 1, "never": 0}), tmp_path / "b.png").read_bytes() == first
