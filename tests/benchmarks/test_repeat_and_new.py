"""Repeat and new targets: ranks among unseen items against sets, and what an offset for what was seen does."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.repeat_and_new import RepeatAndNewSettings, markdown, measure
from hmar.data.counting import PriorCounts
from hmar.data.snapshot import Snapshot
from hmar.data.targets import histories_for
from hmar.evaluate.judge import judge
from hmar.export import save
from tests.support.arrays import random_users, write_snapshot
from tests.support.models import build, stirred

ITEMS, LENGTH = 14, 9


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    path = tmp_path_factory.mktemp("snapshot") / "shop"
    return write_snapshot(path, random_users(40, ITEMS, 3, 12, seed=3, shortest=3), items=ITEMS)


@pytest.mark.parametrize("name", ["hmar_plus", "sasrec", "recent"])
def test_ranks_are_those_of_the_judge_and_less_the_own_items(name: str, shop: Snapshot) -> None:
    model = stirred(build(name, {}, shop))
    targets = shop.targets("leave_one_out", "validation")
    among_all, among_unseen = (
        judge(model, shop, "leave_one_out", "validation", max_length=LENGTH, sampled=False, unseen=unseen).rank_full
        for unseen in (False, True)
    )
    seen = PriorCounts(shop).history_items(targets.user, targets.history_end)
    scores = model.score_all(histories_for(shop, targets, LENGTH, model.reads), seen)
    for n, (user, item, end) in enumerate(zip(targets.user, targets.item, targets.history_end, strict=True)):
        had = set(shop.item[shop.offsets[user] : end].tolist()) - {int(item)}
        as_good = [j for j in range(int(targets.catalog[n])) if scores[n][j] >= scores[n][item]]
        if np.isfinite(among_all[n]):
            assert among_all[n] == len(as_good)
            assert among_unseen[n] == len([j for j in as_good if j not in had])


def test_an_offset_for_what_was_seen_gives_to_repeat_and_takes_from_new(shop: Snapshot, tmp_path: Path) -> None:
    model = stirred(build("hmar_plus", {"d": 8}, shop))
    save(tmp_path / "model", model, shop, "leave_one_out", LENGTH)
    values = {
        "snapshot": shop.path,
        "models": {"ours": tmp_path / "model"},
        "part": "validation",
        "offsets": [-20, 0, 20],
    }
    result = measure(RepeatAndNewSettings.resolve(values, use_environment=False))
    less, same, more = result["rows"]
    assert less["repeat"] < same["repeat"] < more["repeat"]
    assert less["new"] > same["new"] > more["new"]
    assert less["new_among_unseen"] == same["new_among_unseen"] == more["new_among_unseen"]
    assert less["new"] == less["new_among_unseen"]
    assert "| ours | 20 |" in markdown(result)
