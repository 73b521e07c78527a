"""What a snapshot lacks for the trainings that are wanted is said before they begin."""

from pathlib import Path
from typing import Any

import pytest

from hmar.errors import DataError
from pipeline.results import Built
from pipeline.settings import RetrainSettings
from pipeline.stages.snapshot import build
from pipeline.stages.suited import labelled, suited
from tests.support.events import Event, publish_events
from tests.support.tiny_snapshot import random_events, snapshot_run


def _built(home: Path, events: list[Event], **values: Any) -> tuple[RetrainSettings, Built]:
    s = snapshot_run(home, candidates=5, **values)
    return s, build(s, publish_events(s.paths.events(s.name), events))


def test_a_log_in_which_nobody_buys_twice_is_not_trained_on(tmp_path: Path) -> None:
    events: list[Event] = [
        (user, user % 5, act, 10 * user + n) for user in range(9) for n, act in enumerate(("view", "buy"))
    ]
    s, built = _built(tmp_path, events)
    with pytest.raises(
        DataError, match=r"leave_one_out has no validation targets, .*: no user has two 'buy' events"
    ) as no:
        suited(s, built)
    assert "\n" not in str(no.value)


def test_a_whole_log_is_suited_to_all_models(tmp_path: Path) -> None:
    s, built = _built(tmp_path, random_events(20, 10, 400, seed=1), impressions={"sampled": 2})
    s = s.model_copy(update={"models": ("sasrec", "din", "recent")})
    assert suited(s, built) == built


@pytest.mark.parametrize(
    ("impressions", "message"),
    [
        (
            {"negative": ["wish"]},
            "din is a ranker, .* nothing that says no; set snapshot.impressions.sampled or .negative",
        ),
        (
            {"positive": ["wish"], "sampled": 2},
            "din is a ranker, .* no event of wish to say yes; set .*impressions.positive",
        ),
    ],
)
def test_a_ranker_needs_both_labels(tmp_path: Path, impressions: dict[str, Any], message: str) -> None:
    behaviors = ("wish", "view", "cart", "buy")
    s, built = _built(tmp_path, random_events(20, 10, 400, seed=1), behaviors=behaviors, impressions=impressions)
    for check in (suited, labelled):
        with pytest.raises(DataError, match=message):
            check(s.model_copy(update={"models": ("sasrec", "din")}), built)
    assert suited(s.model_copy(update={"models": ("sasrec",)}), built) == built
    if "positive" not in impressions:
        lent = {"models": ("din",), "overrides": {"din": {"in_batch": 2}}}
        assert suited(s.model_copy(update=lent), built) == built
