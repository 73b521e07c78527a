"""Search spaces: what the shipped ones hold, what they stand for, and what is refused before any work."""

from typing import Any

import pytest

from hmar.errors import SettingsError
from hmar.settings import read_yaml
from hmar.train.settings import TrainSettings, preset_names
from hmar.tune.legal import NOT_SEARCHED, refuse_illegal, refuse_leaks, refuse_unknown_keys
from hmar.tune.space import SPACES, SearchSpace, search_space

SEARCHED = ("hmar", "sasrec")

LR = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}


def base(model: str = "sasrec", preset: str = "movielens", **values: Any) -> TrainSettings:
    given = {"model": model, "preset": preset, "snapshot": "/none", "out": "/none", **values}
    return TrainSettings.resolve(given, use_environment=False)


def check(space: SearchSpace, settings: TrainSettings) -> None:
    refuse_unknown_keys(space, settings.model)
    refuse_illegal(space, settings)


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("model", sorted(read_yaml(SPACES)))
def test_a_shipped_space_can_be_trained_and_begins_with_the_preset(preset: str, model: str) -> None:
    space, settings = search_space(model, preset), base(model, preset)
    check(space, settings)
    held = space.holds(settings.model_dump(mode="json"))
    assert set(held) == set(space.dimensions), "the preset's own settings lie within its space"
    again = base(model, preset, **space.settings(held))
    assert again == settings


@pytest.mark.parametrize("model", SEARCHED)
def test_what_matters_most_is_searched(model: str) -> None:
    keys = set(search_space(model, "taobao").keys())
    assert {"lr", "batch_size", "negatives", "loss", "negatives_from", "config.d", "config.dropout"} <= keys
    assert model != "hmar" or {"config.theta", "config.alpha.buy"} <= keys


def test_values_stand_for_nested_settings() -> None:
    space = SearchSpace.parse(
        {
            "lr": LR,
            "config.d": {"type": "int", "low": 8, "high": 64},
            "loss": {"type": "settings", "values": {"g": {"loss": "gbce", "negatives_from": "uniform", "gbce_t": 0.5}}},
            "config.alpha.buy": {"type": "float", "low": 0.1, "high": 1.0},
        }
    )
    assert space.settings({"lr": 0.002, "config.d": 16, "loss": "g", "config.alpha.buy": 0.5}) == {
        "lr": 0.002,
        "loss": "gbce",
        "negatives_from": "uniform",
        "gbce_t": 0.5,
        "config": {"d": 16, "alpha": {"buy": 0.5}},
    }
    assert SearchSpace.parse(space.spelled()) == space


def test_a_space_changes_line_by_line() -> None:
    own = search_space("sasrec", "movielens")
    changed = search_space(
        "sasrec", "movielens", {"lr": LR, "loss": None, "optimizer": {"type": "choice", "values": ["adam"]}}
    )
    assert set(changed.dimensions) == set(own.dimensions) - {"loss"} | {"optimizer"}
    assert changed.dimensions["lr"] != own.dimensions["lr"]
    assert changed.dimensions["config.d"] == own.dimensions["config.d"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({"lr": 0.1}, r"^search\.lr: expected a mapping with type \(float, int, choice, settings\), found 0\.1$"),
        ({"lr": {"low": 1, "high": 2}}, r"^search\.lr: expected a mapping with type"),
        ({"lr": {**LR, "type": "flot"}}, r"^search\.lr: unknown type 'flot'; did you mean 'float'\?$"),
        ({"lr": {**LR, "hgih": 2}}, r"^search\.lr: hgih: unknown setting; did you mean 'high'\?$"),
        ({"lr": {**LR, "low": 1.0}}, r"^search\.lr: low 1 is above high 0\.01$"),
        ({"lr": {**LR, "low": 0.0}}, r"^search\.lr: .*log needs low above 0"),
        ({"lr": {**LR, "high": float("inf")}}, r"^search\.lr: .*finite"),
        ({"config.d": {"type": "int", "low": 1, "high": 9, "step": 3}}, r"^search\.config\.d: .*steps of 3 from 1"),
        ({"config.d": {"type": "int", "low": 1, "high": 9, "step": 1, "log": True}}, r"log and step exclude"),
        ({"batch_size": {"type": "choice", "values": []}}, r"^search\.batch_size: values: .*at least 1"),
        ({"batch_size": {"type": "choice", "values": [8, 8]}}, r"^search\.batch_size: .*8 stands twice"),
        (
            {"a": {"type": "settings", "values": {"x": {"lr": 1}}}, "lr": LR},
            r"^search\.lr: lr is set by search\.a, too; leave one of them out$",
        ),
    ],
)  # fmt: skip
def test_what_is_no_search_space_is_refused_in_one_line(lines: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as raised:
        SearchSpace.parse(lines)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({"lrr": LR}, r"^search\.lrr: unknown setting of sasrec; did you mean 'lr'\?$"),
        ({"config.dropuot": LR}, r"^search\.config\.dropuot: unknown .*did you mean 'config\.dropout'\?$"),
        ({"config.theta": LR}, r"^search\.config\.theta: unknown setting of sasrec"),
        ({"split": {"type": "choice", "values": ["temporal"]}}, r"^search\.split: is the same for all trials;"),
        ({"x": {"type": "settings", "values": {"a": {"seed": 1}}}}, r"^search\.x: seed: is the same for all trials"),
        ({"lr": {"type": "float", "low": -1.0, "high": 1.0}}, r"^search: lr: .*greater than 0.*; among .*lr -1"),
        ({"optimizer": {"type": "choice", "values": ["adam", "sgd"]}}, r"^search: optimizer: .*optimizer sgd"),
        (
            {"loss": {"type": "choice", "values": ["bce", "gbce"]},
             "negatives_from": {"type": "choice", "values": ["uniform", "unseen"]}},
            r"^search: negatives_from: gbce calibrates.*among the combinations: .*loss gbce, negatives_from unseen",
        ),
        (
            {"config.heads": {"type": "choice", "values": [1, 4]},
             "config.d": {"type": "int", "low": 40, "high": 80, "step": 10}},
            r"^search: config: .*d must be a multiple of heads, and 50 is not one of 4",
        ),
        ({"max_length": {"type": "int", "low": 50, "high": 400}}, r"^search: max_length: the model has 200 positions"),
    ],
)  # fmt: skip
def test_what_a_training_would_refuse_is_refused_before_any_work(lines: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as raised:
        check(SearchSpace.parse(lines), base())
    assert len(str(raised.value).splitlines()) == 1


def test_pairs_that_never_meet_are_not_refused() -> None:
    lines = {
        "max_length": {"type": "choice", "values": [300]},
        "config.positions": {"type": "choice", "values": [300, 400]},
        "lr": LR,
    }
    check(SearchSpace.parse(lines), base())


def test_a_model_without_a_space_needs_one() -> None:
    with pytest.raises(SettingsError, match=r"^search: sasrec has no search space; give one"):
        search_space("sasrec", "", dict.fromkeys(search_space("sasrec").dimensions))
    with pytest.raises(SettingsError, match=r"^search: recent is a rule, nothing of it is trained (?!.*lr)"):
        search_space("recent", "movielens")
    with pytest.raises(SettingsError, match=r"^model: unknown 'hmra'; did you mean 'hmar'\?$"):
        search_space("hmra")


def test_nothing_is_chosen_on_test_targets() -> None:
    refuse_leaks(base())
    with pytest.raises(SettingsError, match=r"^select_on: a search chooses on validation targets only"):
        refuse_leaks(base(select_on="test"))
    with pytest.raises(SettingsError, match=r"^split: the validation targets of split published are its test targets"):
        refuse_leaks(base(split="published"))
    assert {"select_on", "split", "protocol"} <= NOT_SEARCHED
