"""The trigger form: what it offers, what it refuses, and that it means what a settings file means."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hmar.errors import SettingsError
from hmar.models import MODELS
from pipeline import form
from pipeline.benchmark.settings import BenchmarkSettings
from pipeline.settings import RetrainSettings, preset_names
from pipeline.tune_settings import TuneSettings

OF_SEARCHES = ("search", "pruning")
RATED = {"user": "u", "item": "i", "time": "t", "behavior": "stars", "behaviors": [{"low": "<= 2"}, {"like": "> 2"}]}
OF_BENCHMARKS = ("datasets", "rows", "baselines", "tune")


def fields() -> dict[str, dict[str, Any]]:
    """Those of a run and those that only a search or a benchmark has."""
    of_searches = form.fields((*OF_SEARCHES, "trials", "max_epochs", "timeout"), TuneSettings)
    return {**form.fields(), **of_searches, **form.fields(OF_BENCHMARKS, BenchmarkSettings)}


def accepts(name: str, value: Any) -> bool:
    schema = {key: part for key, part in fields()[name].items() if key != "default"}
    return bool(jsonschema.validators.validator_for(schema)(schema).is_valid(value))


def test_every_setting_but_the_placed_ones_is_a_field() -> None:
    assert set(form.fields()) == set(RetrainSettings.model_fields) - {"home", "tracking_uri"}


def test_only_dataset_and_raw_must_be_given() -> None:
    assert {name for name, field in form.fields().items() if "default" not in field} == {"dataset", "raw"}


def test_every_default_is_valid_and_every_field_explains_itself() -> None:
    for name, field in form.fields().items():
        if "default" in field:
            assert accepts(name, field["default"]), name
        assert field["title"] == name
        if name != "seed":
            assert field["description_md"].strip(), name


def test_fields_stand_alone() -> None:
    assert "$ref" not in json.dumps(form.fields())


def test_fields_are_written_in_the_dialect_they_name() -> None:
    newer = ("prefixItems", "$dynamicRef", "dependentRequired", "unevaluatedProperties", "minContains")
    for name, field in fields().items():
        schema = {key: part for key, part in field.items() if key != "default"}
        assert jsonschema.validators.validator_for(schema, default=None) is jsonschema.Draft7Validator, name
        jsonschema.Draft7Validator.check_schema(schema)
        assert not [word for word in newer if f'"{word}"' in json.dumps(schema)], name


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("dataset", preset_names()[0], "movielense"),
        ("raw", "/data", ""),
        ("models", list(MODELS), ["hmra"]),
        ("models", ["recent"], []),
        ("split", "temporal", "random"),
        ("seed", 3, "3"),
        ("train", {"max_epochs": 3}, [3]),
        ("promote", {"confidence": 0.9}, {"confidence": 1}),
        ("promote", {"metric": "mrr"}, {"metric": "accuracy"}),
        ("snapshot", {"k_core": {"user": 5}}, {"k_core": {"user": 0}}),
        ("snapshot", None, {"k_cor": {}}),
        ("ingest", {"max_quarantined_rows": None}, {"max_quarantined_rows": -1}),
        ("recommend", {"k": 1}, {"k": 0}),
        ("day", "2017-11-25", 20171125),
        ("day", None, {}),
        ("search", {"lr": None}, ["lr"]),
        ("pruning", {"kind": "halving"}, {"kind": "best"}),
        ("trials", 3, 0),
        ("max_epochs", None, 0),
        ("table", {"user": "u", "item": "i", "time": "t", "behaviors": ["view"]}, {"user": "u"}),
        ("table", {**RATED, "scale": [0.5, 5]}, {**RATED, "scale": ["0.5", 5]}),
    ],
)
def test_a_bad_value_is_refused(name: str, good: Any, bad: Any) -> None:
    assert accepts(name, good)
    assert not accepts(name, bad)


def test_examples_are_valid() -> None:
    for name, example in form.EXAMPLES.items():
        assert accepts(name, example), name
        assert json.dumps(example) in fields()[name]["description_md"]


def test_what_the_form_sends_untouched_changes_nothing(tmp_path: Path) -> None:
    untouched = {name: field.get("default") for name, field in form.fields().items()}
    sent = form.resolve({**untouched, "dataset": "movielens", "raw": str(tmp_path)})
    assert sent == RetrainSettings.resolve({"dataset": "movielens", "raw": tmp_path})


def test_conf_wins_over_a_schedules_file_key_by_key(tmp_path: Path) -> None:
    file = {"dataset": "movielens", "raw": str(tmp_path), "snapshot": {"k_core": {"user": 5}, "candidates": 50}}
    s = form.resolve({"snapshot": {"k_core": {"item": 7}}}, file)
    assert (s.snapshot.k_core.user, s.snapshot.k_core.item, s.snapshot.candidates) == (5, 7, 50)
    assert s.snapshot.target == "like"


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"modles": ["hmar"]}, "modles: unknown setting; did you mean 'models'?"),
        ({"home": "/elsewhere"}, "home: is the environment's to say (HMAR_HOME)"),
        ({"promote": {"min_gian": 1}}, "did you mean 'min_gain'?"),
    ],
)
def test_an_unknown_key_is_an_error_that_helps(conf: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        form.resolve({"dataset": "movielens", "raw": str(tmp_path), **conf})
    assert said in str(raised.value)


LOG = {"dataset": "taobao", "name": "shop", "raw": "/logs/{date}/UserBehavior.csv"}
NIGHT = datetime(2017, 11, 24, 17, tzinfo=UTC)
"""One o'clock in Shanghai, on the next day."""


@pytest.mark.parametrize(
    ("conf", "moment", "timezone", "day"),
    [
        ({}, NIGHT, "Asia/Shanghai", date(2017, 11, 25)),
        ({}, NIGHT, "UTC", date(2017, 11, 24)),
        ({"day": "2017-12-01"}, NIGHT, "UTC", date(2017, 12, 1)),
        ({"day": "2017-12-01"}, None, "UTC", date(2017, 12, 1)),
    ],
)
def test_a_daily_run_is_for_the_day_where_its_schedule_is_at_home(
    conf: dict[str, Any], moment: datetime | None, timezone: str, day: date
) -> None:
    assert form.resolve_day(conf, LOG, moment, timezone).day == day


def test_a_daily_run_without_a_day_says_what_to_do() -> None:
    with pytest.raises(
        SettingsError, match=r'^day: /logs/\{date\}/UserBehavior.csv needs one.*\{"day": "2017-11-25"\}$'
    ):
        form.resolve_day({}, LOG, None, "UTC")
    assert form.resolve_day({}, {**LOG, "raw": "/logs"}, None, "UTC").day is None


@pytest.mark.parametrize("conf", [{"name": "other"}, {"dataset": "movielens", "name": "movielens"}])
def test_a_daily_run_feeds_no_other_dataset(conf: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"^name: this DAG feeds 'shop'"):
        form.resolve_day(conf, LOG, NIGHT, "UTC")
