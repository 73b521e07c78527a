"""The exported model: the same scores after loading, and one clear line where it is not what it should be."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from hmar.data.snapshot import Snapshot
from hmar.errors import DataError, SettingsError
from hmar.evaluate.judge import judge
from hmar.export import load, save
from hmar.models import MODELS
from tests.support.arrays import random_users, write_snapshot
from tests.support.judging import SPLIT, Scripted
from tests.support.untrained import untrained


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return write_snapshot(tmp_path / "snapshot", random_users(30, 40, 3, 12), items=40)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_scores_after_loading(name: str, snapshot: Snapshot, tmp_path: Path) -> None:
    model = untrained(name, snapshot)
    loaded = load(save(tmp_path / "model", model, snapshot, SPLIT, max_length=9))
    before, after = (judge(one, snapshot, SPLIT, "validation", max_length=9) for one in (model, loaded.model))
    np.testing.assert_array_equal(after.rank_full, before.rank_full)
    np.testing.assert_array_equal(after.top, before.top)
    assert loaded.meta.model == name
    assert loaded.meta.max_length == 9
    assert loaded.meta.snapshot == snapshot.manifest.id
    assert loaded.model.reads == model.reads
    assert not loaded.model.training
    assert loaded.item_ids.to_pylist() == snapshot.items.column("item_id").to_pylist()
    assert loaded.dense[1007] == 7


def test_saving_again_replaces(snapshot: Snapshot, tmp_path: Path) -> None:
    for name in ("recent", "popularity"):
        save(tmp_path / "model", untrained(name, snapshot), snapshot, SPLIT, max_length=9)
    assert load(tmp_path / "model").meta.model == "popularity"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "snapshot"]


def test_equal_models_are_equal_bytes(snapshot: Snapshot, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / name, untrained("sasrec", snapshot), snapshot, SPLIT, max_length=9)
    for file in ("config.json", "weights.safetensors", "items.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_what_could_not_be_loaded_is_not_saved(snapshot: Snapshot, tmp_path: Path) -> None:
    unregistered = Scripted(snapshot, {0: np.zeros(40)})
    with pytest.raises(SettingsError, match=r"Scripted is not in hmar\.models\.MODELS"):
        save(tmp_path / "model", unregistered, snapshot, SPLIT, max_length=9)
    assert not (tmp_path / "model").exists()


@pytest.fixture
def exported(snapshot: Snapshot, tmp_path: Path) -> Path:
    return save(tmp_path / "model", untrained("sasrec", snapshot), snapshot, SPLIT, max_length=9)


def edit(exported: Path, **values: object) -> None:
    config = exported / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | values))


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "items.parquet"])
def test_a_missing_or_damaged_file_is_named(exported: Path, name: str) -> None:
    (exported / name).write_bytes(b"not what it was")
    with pytest.raises(DataError, match=name):
        load(exported)
    (exported / name).unlink()
    with pytest.raises(DataError, match=rf"not an exported model \(no {name}\)"):
        load(exported)


def test_another_format_is_refused(exported: Path) -> None:
    edit(exported, format=2)
    with pytest.raises(DataError, match="export format 2, this code reads 1"):
        load(exported)


def test_an_unknown_key_model_or_setting_is_named(exported: Path) -> None:
    edit(exported, colour="blue")
    with pytest.raises(DataError, match=r"config\.json: colour"):
        load(exported)
    (exported / "config.json").write_text(json.dumps(_without(exported, "colour") | {"model": "sasrek"}))
    with pytest.raises(SettingsError, match="unknown model 'sasrek'; did you mean 'sasrec'"):
        load(exported)
    edit(exported, model="sasrec", config={"dee": 5})
    with pytest.raises(SettingsError, match=r"config\.json: dee: unknown setting"):
        load(exported)


def test_weights_of_another_shape_or_with_a_name_too_few_are_refused(exported: Path) -> None:
    weights = safetensors.torch.load_file(exported / "weights.safetensors")
    name = next(name for name, tensor in weights.items() if tensor.ndim == 2)
    safetensors.torch.save_file({**weights, name: torch.zeros(3, 3)}, exported / "weights.safetensors")
    with pytest.raises(DataError, match=r"weights\.safetensors: does not fit config\.json"):
        load(exported)
    del weights[name]
    safetensors.torch.save_file(weights, exported / "weights.safetensors")
    with pytest.raises(DataError, match=name):
        load(exported)


def test_another_number_of_items_is_refused(exported: Path) -> None:
    vocabulary = json.loads((exported / "config.json").read_text())["vocabulary"]
    model_rows = exported / "items.parquet"
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(model_rows).slice(1), model_rows)
    with pytest.raises(DataError, match=rf"39 items, config\.json says {vocabulary['items']}"):
        load(exported)


def _without(exported: Path, key: str) -> dict[str, object]:
    config = json.loads((exported / "config.json").read_text())
    del config[key]
    return config
