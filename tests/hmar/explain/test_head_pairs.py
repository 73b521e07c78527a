"""What pairs of heads pass from one feedback to another."""

from pathlib import Path

import numpy as np
import pytest

from hmar.data.snapshot import Snapshot
from hmar.explain.head_pairs import PairMass, pair_mass, picture
from hmar.explain.looks import looks
from hmar.models.ranker import Ranker
from tests.support.arrays import random_users, write_impressions, write_snapshot
from tests.support.models import build


@pytest.fixture(scope="module", name="shop")
def written(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    path: Path = tmp_path_factory.mktemp("pairs") / "snapshot"
    return write_impressions(write_snapshot(path, random_users(30, 14, 3, 18, seed=7, shortest=2), items=14))


def told(config: dict[str, str], snapshot: Snapshot) -> PairMass:
    model = build("dfar", {"d": 8, **config}, snapshot)
    assert isinstance(model, Ranker)
    return pair_mass(looks(model, snapshot, "leave_one_out", "training", max_length=9, moments=40), model)


def test_a_masked_pair_looks_at_its_own_feedbacks_only(shop: Snapshot) -> None:
    found = told({}, shop)
    assert found.pairs == ("no 1 > no 1", "no 1 > yes 1", "yes 1 > no 1", "yes 1 > yes 1")
    assert found.events.min() > 20
    for pair in range(4):
        source, target = divmod(pair, 2)
        passed = found.mass[pair, source, target]
        assert found.mass[pair].sum() == passed
        # An event sees itself, so what has the query's own feedback is never empty.
        assert passed == pytest.approx(1) if source == target else 0.3 < passed < 1


def test_without_a_mask_all_attention_goes_somewhere(shop: Snapshot) -> None:
    for config, pairs in (({"mask": "none"}, 4), ({"mask": "none", "pairs": "own"}, 2), ({"mask": "product"}, 4)):
        found = told(config, shop)
        np.testing.assert_allclose(found.mass.sum(-1), np.ones((pairs, 2)), rtol=1e-5)
        assert found.mass.min() > 0


def test_the_picture_has_a_matrix_per_pair(shop: Snapshot) -> None:
    figure = picture(told({}, shop), "films")
    titles = [place.get_title() for place in figure.axes]
    assert titles[:4] == ["no 1 > no 1", "no 1 > yes 1", "yes 1 > no 1", "yes 1 > yes 1"]
    assert figure.axes[0].texts[0].get_text() == "1.00"
    assert figure.get_suptitle() == "films"
