"""The pictures of ATRank's and DFAR's papers: for the right models, of the newest part, of an older model, too."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hmar.data.snapshot import Snapshot
from hmar.evaluate.adapt import adapt
from hmar.explain.case_studies import MOMENTS, CaseStudy, case_studies
from hmar.explain.head_pairs import pair_mass
from hmar.explain.looks import looks
from hmar.explain.spaces import mean_attention
from hmar.export import LoadedModel, load, save
from hmar.models.ranker import Ranker
from tests.support.arrays import Event, random_users, write_impressions, write_snapshot
from tests.support.models import build

SPLIT, L, ITEMS = "leave_one_out", 9, 14
USERS = random_users(30, ITEMS, 3, 18, seed=7, shortest=2)


def written(path: Path, users: list[list[Event]], items: int) -> Snapshot:
    return write_impressions(write_snapshot(path, users, items=items), tasks=("view",))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return written(tmp_path_factory.mktemp("studies") / "snapshot", USERS, ITEMS)


def exported(name: str, config: Mapping[str, Any], snapshot: Snapshot, path: Path) -> LoadedModel:
    return load(save(path, build(name, {"d": 8, **config}, snapshot), snapshot, SPLIT, max_length=L))


def studied(loaded: LoadedModel, snapshot: Snapshot) -> dict[str, CaseStudy]:
    return {one.name: one for one in case_studies(loaded, adapt(loaded, snapshot), snapshot, SPLIT, "a model")}


def test_spaces_of_every_task_that_was_learned(shop: Snapshot, tmp_path: Path) -> None:
    loaded = exported("atrank", {"spaces": 2, "tasks": ["buy", "view"]}, shop, tmp_path / "model")
    found = studied(loaded, shop)
    assert list(found) == ["spaces", "spaces_view"]
    for name, task in (("spaces", "buy"), ("spaces_view", "view")):
        told = json.loads(json.dumps(found[name].figures, allow_nan=False))
        assert told["task"] == task
        how = {"max_length": L, "moments": MOMENTS, "task": task}
        expected = mean_attention(looks(loaded.model, shop, SPLIT, told["part"], **how), shop.behaviors)
        assert list(told["layers"]) == list(expected) == ["blocks.0", "attention"]
        for layer, one in expected.items():
            np.testing.assert_array_equal(np.array(told["layers"][layer]["weight"], float), one.weight)
            np.testing.assert_array_equal(told["layers"][layer]["events"], one.events)
    assert found["spaces"].picture.get_suptitle() == "What the spaces look at: a model"
    assert found["spaces_view"].picture.get_suptitle() == "What the spaces look at: a model, asked about view"


def test_head_pairs_of_dfar(shop: Snapshot, tmp_path: Path) -> None:
    loaded = exported("dfar", {}, shop, tmp_path / "model")
    (found,) = studied(loaded, shop).values()
    told = json.loads(json.dumps(found.figures, allow_nan=False))
    assert isinstance(loaded.model, Ranker)
    expected = pair_mass(looks(loaded.model, shop, SPLIT, told["part"], max_length=L, moments=MOMENTS), loaded.model)
    assert (found.name, told["pairs"], told["said"]) == ("head_pairs", list(expected.pairs), ["no", "yes"])
    np.testing.assert_array_equal(told["mass"], expected.mass)
    np.testing.assert_array_equal(told["events"], expected.events)


def test_the_newest_part_with_a_history(tmp_path: Path) -> None:
    """Users who buy once, last: there are no test impressions, and those of training have no history."""
    once = [[(item, 0, 10 * item + 1) for item in range(3)] + [(5, 2, 90)] for _ in range(4)]
    snapshot = write_impressions(write_snapshot(tmp_path / "once", once, items=ITEMS), negative=())
    loaded = exported("dfar", {}, snapshot, tmp_path / "model")
    assert studied(loaded, snapshot)["head_pairs"].figures["part"] == "validation"
    bare = write_impressions(write_snapshot(tmp_path / "bare", [[(1, 2, 10)]], items=ITEMS), negative=())
    assert studied(loaded, bare) == {}


def test_other_models_and_snapshots_without_impressions_have_none(shop: Snapshot, tmp_path: Path) -> None:
    assert studied(exported("din", {}, shop, tmp_path / "din"), shop) == {}
    bare = write_snapshot(tmp_path / "bare", USERS, items=ITEMS)
    assert studied(exported("atrank", {"spaces": 2}, shop, tmp_path / "atrank"), bare) == {}


@pytest.mark.parametrize(("name", "config"), [("atrank", {"spaces": 2}), ("dfar", {"mask": "none"})])
def test_an_older_model_looks_at_events_of_the_items_it_knows(
    name: str, config: dict[str, Any], shop: Snapshot, tmp_path: Path
) -> None:
    """Each history has one more event, the newest but one, of an item that did not exist; all others moved by two."""
    moved = [[(item + 2, behavior, time) for item, behavior, time in events] for events in USERS]
    unknown = [[*events[:-1], (0, 1, events[-1][2] - 5), events[-1]] for events in moved]
    newer = written(tmp_path / "newer", unknown, ITEMS + 2)
    loaded = exported(name, config, shop, tmp_path / "model")
    ids = newer.items.column("item_id").combine_chunks()
    loaded = LoadedModel(loaded.model, ids[2:], loaded.meta, loaded.directory)
    assert isinstance(ids, pa.Array)
    (found,) = studied(loaded, newer).values()
    if name == "dfar":
        mass = np.array(found.figures["mass"], float)
        np.testing.assert_allclose(mass.sum(-1), np.ones_like(mass.sum(-1)), rtol=1e-5)
        events = found.figures["events"]
    else:
        events = found.figures["layers"]["attention"]["events"]
        weight = np.array(found.figures["layers"]["attention"]["weight"], float)
        mean = np.nansum(weight * np.array(events), axis=(1, 2)) / np.sum(events)
        np.testing.assert_allclose(mean, np.ones(2), rtol=1e-5)
    assert np.sum(events) > 0


@pytest.mark.parametrize("name", ["atrank", "dfar"])
def test_a_model_that_knows_none_of_the_items_has_nothing_to_look_at(name: str, shop: Snapshot, tmp_path: Path) -> None:
    loaded = exported(name, {}, shop, tmp_path / "model")
    others = pa.array(range(-ITEMS, 0))
    assert studied(LoadedModel(loaded.model, others, loaded.meta, loaded.directory), shop) == {}
