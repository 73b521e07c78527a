"""The promotion rule, what it leaves in the registry, and that a retry ends the same."""

import numpy as np
import pytest

from hmar.errors import BusyError, ServiceError
from hmar.evaluate import per_target
from hmar.evaluate.compare import Comparison
from pipeline.registry import Registry, own_tags
from pipeline.settings import PromoteSettings
from pipeline.stages.promote import promote, recorded, rule
from pipeline.storage.lock import dataset_lock
from tests.support.registry import Shop

pytestmark = pytest.mark.slow


def _comparison(gain: float, low: float, high: float) -> Comparison:
    return Comparison("ndcg@10", "full", 0.1, 0.1 + gain, gain, low, high, 0.95, 100, 90)


@pytest.mark.parametrize(
    ("low", "min_gain", "promoted"),
    [(0.001, 0.0, True), (0.0, 0.0, False), (-0.001, 0.0, False), (0.004, 0.005, False), (0.006, 0.005, True),
     (-0.01, -0.02, True)],
)  # fmt: skip
def test_rule_looks_at_the_lower_end(low: float, min_gain: float, promoted: bool) -> None:
    decision = rule(PromoteSettings(min_gain=min_gain), _comparison(0.01, low, 0.02), "1")
    assert decision.promoted is promoted
    assert f"[{low:+.4f}, +0.0200]" in decision.reason


def test_rule_without_an_interval_keeps_the_champion() -> None:
    decision = rule(PromoteSettings(), _comparison(0.5, float("nan"), float("nan")), "1")
    assert not decision.promoted
    assert "fewer than two users" in decision.reason


def test_first_version_becomes_champion(shop: Shop) -> None:
    done = promote(shop.s, shop.built, shop.registered("one", shop.ranks(5)))
    assert (done.champion, done.promoted, done.gain) == ("1", True, None)
    assert shop.aliases() == {"champion": "1"}
    assert own_tags(shop.registry.version("1"))["decision"] == "promoted"


def test_better_challenger_takes_the_alias_and_the_numbers_are_on_record(shop: Shop) -> None:
    promote(shop.s, shop.built, shop.registered("one", shop.ranks(11)))
    done = promote(shop.s, shop.built, shop.registered("two", shop.ranks(11, better=1, share=0.5)))
    users = len(np.unique(shop.snapshot.targets("leave_one_out", "test").user))
    assert (done.champion, done.promoted) == ("2", True)
    assert done.gain == pytest.approx(round(0.5 * users) / users)
    assert done.interval is not None
    assert 0 < done.interval[0] < done.gain < done.interval[1]
    assert shop.aliases() == {"champion": "2"}
    tags = own_tags(shop.registry.version("2"))
    assert tags["compared_with"] == "1"
    assert tags["compared_on"] == f"{shop.built.id} leave_one_out test"
    assert float(tags["gain"]) == done.gain
    assert (float(tags["low"]), float(tags["high"])) == done.interval
    assert (tags["metric"], tags["users"], tags["min_gain"]) == ("ndcg@10", str(users), "0.0")
    assert tags["decided_at"].endswith("Z")
    assert own_tags(shop.registry.version("1"))["replaced_by"] == "2"


def test_worse_and_equal_challengers_do_not(shop: Shop) -> None:
    promote(shop.s, shop.built, shop.registered("one", shop.ranks(1)))
    equal = promote(shop.s, shop.built, shop.registered("two", shop.ranks(1)))
    assert (equal.champion, equal.promoted, equal.gain, equal.interval) == ("1", False, 0.0, (0.0, 0.0))
    worse = promote(shop.s, shop.built, shop.registered("three", shop.ranks(2)))
    assert (worse.champion, worse.promoted) == ("1", False)
    assert worse.gain is not None
    assert worse.gain < 0
    assert shop.aliases() == {"champion": "1", "challenger": "3"}
    assert own_tags(shop.registry.version("3"))["decision"] == "kept out"


def test_min_gain_keeps_a_small_gain_out(shop: Shop) -> None:
    promote(shop.s, shop.built, shop.registered("one", shop.ranks(10)))
    strict = shop.with_settings(promote=PromoteSettings(min_gain=0.5))
    done = promote(strict.s, shop.built, strict.registered("two", shop.ranks(9)))
    assert not done.promoted
    assert done.gain is not None
    assert done.gain > 0
    assert "is not above 0.5" in done.reason


def test_calling_again_changes_nothing(shop: Shop) -> None:
    promote(shop.s, shop.built, shop.registered("one", shop.ranks(5)))
    second = shop.registered("two", shop.ranks(1))
    done = promote(shop.s, shop.built, second)
    before = own_tags(shop.registry.version("2"))
    assert promote(shop.s, shop.built, second) == done == recorded(shop.s, second.mlflow_run)
    assert own_tags(shop.registry.version("2")) == before


def test_an_old_run_does_not_take_the_alias_back(shop: Shop) -> None:
    first = shop.registered("one", shop.ranks(5))
    promote(shop.s, shop.built, first)
    promote(shop.s, shop.built, shop.registered("two", shop.ranks(1)))
    again = promote(shop.s, shop.built, first)
    assert (again.promoted, again.champion) == (True, "2")
    assert shop.aliases() == {"champion": "2"}


@pytest.mark.parametrize("step", ["tag", "point", "drop"])
def test_killed_between_two_steps_the_retry_finishes(shop: Shop, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    promote(shop.s, shop.built, shop.registered("one", shop.ranks(5)))
    second = shop.registered("two", shop.ranks(1))
    original = getattr(Registry, step)
    calls = {"tag": 2, "point": 2, "drop": 1}

    def dies(self: Registry, *arguments: object) -> object:
        calls[step] -= 1
        if calls[step] == 0:
            raise ServiceError("killed here")
        return original(self, *arguments)

    monkeypatch.setattr(Registry, step, dies)
    with pytest.raises(ServiceError, match="killed here"):
        promote(shop.s, shop.built, second)
    monkeypatch.undo()
    done = promote(shop.s, shop.built, second)
    assert (done.champion, done.promoted) == ("2", True)
    assert shop.aliases() == {"champion": "2"}
    assert own_tags(shop.registry.version("2"))["applied"] == "true"


def test_champion_whose_training_is_gone_is_judged_from_the_registry(shop: Shop) -> None:
    first = shop.registered("one", shop.ranks(1), model="popularity")
    promote(shop.s, shop.built, first)
    shop.forget_training(first)
    done = promote(shop.s, shop.built, shop.registered("two", shop.ranks(1)))
    assert done.gain is not None
    assert done.gain > 0, "rank 1 everywhere is better than what popularity really reaches"
    outcome = shop.s.paths.training("two", "popularity") / "champion_v1" / shop.built.id / "leave_one_out"
    assert (outcome / "per_target_test.parquet").is_file()


def test_champion_of_another_kind_of_log_is_not_comparable(shop: Shop) -> None:
    first = shop.registered("one", shop.ranks(1))
    promote(shop.s, shop.built, first)
    outcome = first.directory / "evaluation" / shop.built.id / "leave_one_out" / "per_target_test.parquet"
    other = shop.registered("two", [*shop.ranks(1)[:-1].tolist(), 2.0])
    rows = per_target.read(outcome)
    per_target.write(rows.slice(1).replace_schema_metadata(rows.schema.metadata), outcome)
    done = promote(shop.s, shop.built, other)
    assert (done.promoted, done.champion, done.gain) == (False, "1", None)
    assert done.reason.startswith("not comparable with champion version 1: ")


def test_two_promotions_at_once_do_not_mix(shop: Shop) -> None:
    registered = shop.registered("one", shop.ranks(1))
    with (
        dataset_lock(shop.s.paths.lock("tiny.registry"), "another run"),
        pytest.raises(BusyError, match="another run"),
    ):
        promote(shop.s, shop.built, registered)
    assert shop.aliases() == {}


def test_registry_that_does_not_answer_is_named(shop: Shop) -> None:
    registered = shop.registered("one", shop.ranks(1))
    away = shop.with_settings(tracking_uri="http://127.0.0.1:9")
    with pytest.raises(ServiceError, match=r"MLflow at http://127\.0\.0\.1:9"):
        promote(away.s, shop.built, registered)
