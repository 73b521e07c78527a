"""Layered settings: defaults < preset < YAML < environment < command line or conf, and a clear line for every slip."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hmar.errors import SettingsError
from hmar.settings import deep_merge, nearest, read_yaml
from pipeline.settings import PRESETS, RetrainSettings, SnapshotSettings, preset_names

BASE = {"dataset": "movielens", "raw": "log"}


def _yaml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _fails(**options: Any) -> str:
    with pytest.raises(SettingsError) as raised:
        RetrainSettings.resolve(**options)
    return str(raised.value)


def test_each_layer_wins_over_the_ones_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def target(**options: Any) -> tuple[str, str, int, int]:
        s = RetrainSettings.resolve(**options)
        return s.ingest.partition, s.snapshot.target, s.snapshot.candidates, s.recommend.k

    assert SnapshotSettings().target == ""
    assert target(values=BASE) == ("month", "like", 99, 20), "the preset over the defaults"
    file = _yaml(tmp_path, "ingest: {partition: year}\nsnapshot: {candidates: 50}\nrecommend: {k: 5}\n")
    assert target(values=BASE, yaml_file=file) == ("year", "like", 50, 5), "the file over the preset"
    monkeypatch.setenv("HMAR_SNAPSHOT__CANDIDATES", "40")
    monkeypatch.setenv("HMAR_RECOMMEND__K", "6")
    assert target(values=BASE, yaml_file=file) == ("year", "like", 40, 6), "the environment over the file"
    flags = ["--dataset", "movielens", "--raw", "log", "--recommend.k", "7"]
    assert target(arguments=flags, yaml_file=file) == ("year", "like", 40, 7), "the command line over the environment"
    conf = {**BASE, "recommend": {"k": 8}}
    assert target(values=conf, yaml_file=file) == ("year", "like", 40, 8), "a conf over the environment"
    assert target(values=conf, use_environment=False) == ("month", "like", 99, 8)


def test_layers_meet_inside_one_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _yaml(tmp_path, "snapshot: {k_core: {user: 3}}\n")
    monkeypatch.setenv("HMAR_SNAPSHOT__K_CORE__ITEM", "4")
    flags = ["--dataset", "movielens", "--raw", "log", "--snapshot.seed", "9"]
    snapshot = RetrainSettings.resolve(arguments=flags, yaml_file=file).snapshot
    assert (snapshot.k_core.user, snapshot.k_core.item, snapshot.seed, snapshot.target) == (3, 4, 9, "like")


def test_dataset_may_stand_in_any_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RetrainSettings.resolve({"raw": "log"}, yaml_file=_yaml(tmp_path, "dataset: taobao")).source == "taobao"
    monkeypatch.setenv("HMAR_DATASET", "taobao")
    assert RetrainSettings.resolve({"raw": "log"}).snapshot.target == "buy"


@pytest.mark.parametrize("dataset", preset_names())
def test_every_preset_is_valid_and_complete(dataset: str) -> None:
    own: dict[str, Any] = {}
    if dataset == "table":
        own = {"name": "table", "table": {"user": "u", "item": "i", "time": "t", "behaviors": ["buy"]}}
    s = RetrainSettings.resolve({"dataset": dataset, "raw": "log", **own}, use_environment=False)
    assert s.name == dataset
    assert s.snapshot.target in s.snapshot.behaviors
    assert (PRESETS / f"{dataset}.yaml").read_text(encoding="utf-8").startswith("# "), "a preset says what it is"


def test_model_settings_are_free_mappings_on_the_command_line() -> None:
    flags = ["--dataset", "movielens", "--raw", "log", "--models", "hmar,recent"]
    flags += ["--overrides", '{"hmar": {"config": {"d": 64}}}', "--train", '{"max_epochs": 5}']
    s = RetrainSettings.resolve(arguments=flags)
    assert s.models == ("hmar", "recent")
    assert s.overrides == {"hmar": {"config": {"d": 64}}}
    assert s.train == {"max_epochs": 5}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modles": ["hmar"]}, "modles: unknown setting; did you mean 'models'?"),
        ({"snapshot": {"k_coer": {"user": 1}}}, "snapshot.k_coer: unknown setting; did you mean 'k_core'?"),
        ({"snapshot": {"k_core": {"usr": 1}}}, "snapshot.k_core.usr: unknown setting; did you mean 'user'?"),
        ({"promote": {"zzz": 1}}, "promote.zzz: unknown setting; known: confidence, metric, min_gain, resamples, seed"),
        ({"dataset": "movielen"}, "dataset: unknown preset 'movielen'; did you mean 'movielens'?"),
        ({"snapshot": {"target": "lik"}}, "snapshot: target: unknown behavior 'lik'; did you mean 'like'?"),
        ({"recommend": {"k": 0}}, "recommend.k: Input should be greater than or equal to 1 (given: 0)"),
        ({"recommend": {"k": "many"}}, "recommend.k: Input should be a valid integer"),
        ({"split": "random"}, "split: Input should be 'leave_one_out', 'temporal' or 'published' (given: 'random')"),
        ({"name": "a/b"}, "name: a name is letters, digits"),
        ({"snapshot": {"validation_quantile": 0.95}}, "snapshot: validation_quantile must be below test_quantile"),
    ],
)
def test_slips_are_named_with_the_nearest_known_key(values: dict[str, Any], message: str) -> None:
    told = _fails(values={**BASE, **values}, use_environment=False)
    assert message in told
    assert "\n" not in told
    assert len(told) < 160


def test_missing_settings_are_named() -> None:
    assert _fails(values={"dataset": "movielens"}, use_environment=False) == "raw: is required"


def test_every_slip_gets_its_line() -> None:
    told = _fails(values={**BASE, "modles": 1, "recommend": {"k": 0}}, use_environment=False)
    assert sorted(line.split(":")[0] for line in told.splitlines()) == ["modles", "recommend.k"]


def test_unknown_key_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = _yaml(tmp_path, "snapshot: {k_coer: {user: 3}}\n")
    assert _fails(values=BASE, yaml_file=file) == f"{file}: snapshot.k_coer: unknown setting; did you mean 'k_core'?"


def test_unknown_variable_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HMAR_SNAPSHTO__SEED", "1")
    assert _fails(values=BASE) == (
        "environment variable HMAR_SNAPSHTO__SEED: unknown setting 'snapshto'; did you mean 'snapshot'?"
    )


def test_unknown_key_inside_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HMAR_SNAPSHOT__SEDE", "1")
    assert "snapshot.sede: unknown setting; did you mean 'seed'?" in _fails(values=BASE)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--modles", "unknown flag --modles; did you mean '--models'?"),
        ("--snapshot.k-coer.user=3", "unknown flag --snapshot.k-coer.user=3; did you mean '--snapshot.k-core.user'?"),
        ("stray", "unknown flag stray"),
    ],
)
def test_unknown_flag_names_the_nearest(flag: str, message: str) -> None:
    assert _fails(arguments=["--dataset", "movielens", "--raw", "log", flag]).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "line 1, column 9"),
        ("a: b: c", "line 1, column 5"),
        ("- a\n- b\n", "expected a mapping of keys, found list"),
    ],
)
def test_broken_file_is_located(tmp_path: Path, text: str, message: str) -> None:
    told = _fails(values=BASE, yaml_file=_yaml(tmp_path, text))
    assert f"settings file {tmp_path / 'my.yaml'}" in told
    assert message in told


def test_missing_file(tmp_path: Path) -> None:
    assert _fails(values=BASE, yaml_file=tmp_path / "no.yaml") == (
        f"settings file {tmp_path / 'no.yaml'}: No such file or directory"
    )


def test_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert read_yaml(_yaml(tmp_path, "# nothing yet\n")) == {}


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    assert "settings file" in _fails(
        values=BASE, yaml_file=_yaml(tmp_path, "raw: !!python/object/apply:os.getcwd []\n")
    )


def test_settings_cannot_be_changed_afterwards() -> None:
    s = RetrainSettings.resolve(BASE, use_environment=False)
    with pytest.raises(ValidationError, match="frozen"):
        s.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        s.snapshot.seed = 1


def test_settings_survive_json_whole() -> None:
    s = RetrainSettings.resolve({**BASE, "ingest": {"since": "2001-02-03"}}, use_environment=False)
    again = RetrainSettings.resolve(json.loads(s.model_dump_json()), use_environment=False)
    assert again == s
    assert type(again) is RetrainSettings


def test_schema_describes_every_field() -> None:
    schema = RetrainSettings.model_json_schema()
    assert schema["required"] == ["dataset", "raw"]
    assert schema["additionalProperties"] is False
    described = {name for name, field in schema["properties"].items() if "description" in field or "$ref" in field}
    assert set(schema["properties"]) - described == {"seed"}
    assert schema["$defs"]["RecommendSettings"]["properties"]["k"]["minimum"] == 1
    json.dumps(schema)


def test_deep_merge_changes_neither_side() -> None:
    weak, strong = {"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}, "b": {"z": 1}}
    assert deep_merge(weak, strong) == {"a": {"x": 1, "y": 3}, "b": {"z": 1}}
    assert (weak, strong) == ({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}, "b": {"z": 1}})


def test_nearest_falls_back_to_the_list() -> None:
    assert nearest("xyz", {"beta", "alpha"}) == "; known: alpha, beta"


def test_what_no_single_key_is_to_blame_for_names_no_class() -> None:
    told = _fails(values={"dataset": "table", "raw": "log", "name": "shop"}, use_environment=False)
    assert told == "table: is required; it says which column is what (docs/your-own-log.md)"


def test_a_missing_dataset_is_missed_once() -> None:
    assert _fails(values={"raw": "log"}, use_environment=False) == "dataset: is required"
