"""Ten lines of YAML, in every way they may be written; each mistake in them is named before any work."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from hmar.errors import SettingsError
from pipeline import form
from pipeline.settings import RetrainSettings
from pipeline.table_settings import TableSettings

TEN_LINES = """
dataset: table
name: shop
raw: "/data/shop/*.csv.gz"
table:
  user: customer
  item: sku
  behavior: action
  time: {column: at, format: "%Y-%m-%d %H:%M:%S", zone: Europe/Berlin}
  behaviors: [view: [pv, detail, 3], cart, buy: 4]
"""


def resolve(text: str = TEN_LINES, arguments: list[str] | None = None, **table: Any) -> RetrainSettings:
    values = yaml.safe_load(text)
    values["table"] |= table
    values["table"] = {key: value for key, value in values["table"].items() if value is not None}
    if arguments is None:
        return RetrainSettings.resolve(values, use_environment=False)
    for word in ("dataset", "name", "raw"):
        arguments += [f"--{word}", values[word]]
    return RetrainSettings.resolve(arguments=arguments, use_environment=False)


def test_nothing_has_to_be_said_twice() -> None:
    s = resolve()
    assert s.source == "table"
    assert s.snapshot.behaviors == ("view", "cart", "buy")
    assert (s.snapshot.target, s.snapshot.repeats, s.snapshot.consumed_by) == ("buy", True, ())
    assert s.ingest.identical_rows == "duplicate"
    assert s.table is not None
    assert s.table.codes == {"pv": "view", "detail": "view", "3": "view", "cart": "cart", "4": "buy"}


def test_settings_come_from_a_file_and_are_overridden_by_flags(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(TEN_LINES, encoding="utf-8")
    s = RetrainSettings.resolve(
        arguments=["--snapshot.target", "cart", "--ingest.identical-rows", "event", "--day", "2017-11-25"],
        yaml_file=file,
        use_environment=False,
    )
    assert (s.snapshot.target, s.snapshot.behaviors) == ("cart", ("view", "cart", "buy"))
    assert s.ingest.identical_rows == "event"
    assert str(s.day) == "2017-11-25"


def test_what_is_sent_to_airflow_and_back_is_the_same() -> None:
    s = resolve()
    assert s.table is not None
    assert TableSettings.parse(s.table.model_dump(mode="json")) == s.table


def test_the_trigger_form_takes_what_a_settings_file_takes() -> None:
    schema = form.fields(("table",))["table"]
    written = yaml.safe_load(TEN_LINES)["table"]
    for changed in (
        {},
        {"time": "at", "ids": "int64", "scale": [1, 5]},
        {"columns": ["customer", "sku"], "ids": {"item": "int64"}},
        {"columns": 4, "user": 1, "item": 2, "behavior": 3, "time": 4},
        {"behaviors": [{"name": "view", "codes": ["pv"]}]},
    ):
        jsonschema.validate({**written, **changed}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**written, "behaviour": "x"}, schema)


def test_items_that_do_not_recur() -> None:
    rated = {"behaviors": [{"dislike": "<= 2"}, {"neutral": "< 4"}, {"like": "else"}], "repeats": False}
    s = resolve(**rated)
    assert s.snapshot.consumed_by == ("dislike", "neutral", "like")
    assert s.table is not None
    assert s.table.mapped["value"] == "action"
    assert resolve(repeats=False).snapshot.consumed_by == ("buy",)
    assert resolve(repeats=False, consumed_by=["cart", "buy"]).snapshot.consumed_by == ("cart", "buy")


@pytest.mark.parametrize(
    ("time", "identical"),
    [
        ("at", "duplicate"),
        ({"column": "at", "unit": "date"}, "event"),
        ({"column": "at", "format": "%Y-%m-%d %H:%M"}, "event"),
        ({"column": "at", "format": "%Y-%m-%d %H:%M:%S"}, "duplicate"),
    ],
)
def test_equal_rows_are_events_where_the_clock_is_coarse(time: Any, identical: str) -> None:
    assert resolve(time=time).ingest.identical_rows == identical


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a key is misspelled": ({"behaviour": "action"}, "table.behaviour: unknown setting; did you mean 'behavior'?"),
    "a column is not named": ({"item": None}, "table.item: is required"),
    "no behaviors": ({"behaviors": []}, "behaviors: name at least one"),
    "a column is two things": ({"item": "customer"}, "item: column 'customer' is user already"),
    "a column is not among the named ones": (
        {"columns": ["custmer", "sku", "action", "at"]},
        "user: no column 'customer' in columns; did you mean 'custmer'?",
    ),
    "a column's name stands twice": ({"columns": ["customer", "sku", "sku"]}, "the name 'sku' stands twice"),
    "zone": ({"time": {"column": "at", "zone": "Europe/Berln"}}, "did you mean 'Europe/Berlin'?"),
    "zone of seconds": (
        {"time": {"column": "at", "unit": "seconds", "zone": "Europe/Berlin"}},
        "seconds since 1970 have no zone",
    ),
    "unit and format": ({"time": {"column": "at", "unit": "date", "format": "%Y"}}, "exclude each other"),
    "directive": ({"time": {"column": "at", "format": "%Y-%Q"}}, "unknown directive %Q"),
    "zone by abbreviation": ({"time": {"column": "at", "format": "%Y-%m-%d %Z"}}, "use %z"),
    "no year": ({"time": {"column": "at", "format": "%d.%m. %H:%M"}}, "has no year"),
    "yes": ({"behaviors": [{"buy": True}]}, "YAML reads this code as True; write it in quotes"),
    "a code twice": ({"behaviors": [{"a": "x"}, {"b": ["y", "x"]}]}, "code 'x' means both a and b"),
    "a name twice": ({"behaviors": ["a", "a"]}, "a name stands twice"),
    "a name with a blank": ({"behaviors": ["page view"]}, "write 'name: code'"),
    "several behaviors without a column": ({"behavior": None}, "behavior: name its column"),
    "target": ({"target": "by"}, "target: unknown behavior 'by'; did you mean 'buy'?"),
    "consumed_by of a shop": ({"consumed_by": ["buy"]}, "set repeats to false"),
    "codes and comparisons": ({"behaviors": [{"a": "< 1"}, {"b": "x"}]}, "either codes or comparisons"),
    "numbers that fall": ({"behaviors": [{"a": "< 4"}, {"b": "< 2"}]}, "the numbers must rise"),
    "the same number twice": ({"behaviors": [{"a": "<= 2"}, {"b": "<= 2"}]}, "the numbers must rise"),
    "both ways": ({"behaviors": [{"a": "< 2"}, {"b": "> 4"}]}, "all comparisons with <"),
    "scale of codes": ({"scale": [1, 5]}, "scale: only where behaviors are comparisons"),
    "separator": ({"separator": "::"}, "is one ASCII character"),
    "separator of Parquet": ({"separator": ";", "format": "parquet"}, "separator: parquet has none"),
    "columns of JSON": ({"columns": 4, "format": "jsonl"}, "columns: jsonl names its own"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistake_is_named_with_its_key(case: str) -> None:
    wrong, words = WRONG[case]
    with pytest.raises(SettingsError) as refused:
        resolve(**wrong)
    message = str(refused.value)
    assert words in message
    assert "table" in message


def test_table_belongs_to_its_dataset() -> None:
    with pytest.raises(SettingsError, match="table: is required; it says which column is what"):
        RetrainSettings.resolve({"dataset": "table", "name": "shop", "raw": "x"}, use_environment=False)
    with pytest.raises(SettingsError, match="name: is required"):
        resolve(TEN_LINES.replace("name: shop", "seed: 1"))
    with pytest.raises(SettingsError, match="taobao knows its columns"):
        resolve(TEN_LINES.replace("dataset: table", "dataset: taobao"))
    with pytest.raises(SettingsError, match=r"table\.behaviors has them already"):
        resolve(TEN_LINES + "snapshot: {behaviors: [cart, buy, view]}\n")


def test_examples_resolve(checkout: Path) -> None:
    files = sorted((checkout / "examples").glob("*.yaml"))
    assert files
    for file in files:
        assert RetrainSettings.resolve(yaml_file=file, use_environment=False).table is not None
