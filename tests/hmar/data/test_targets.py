"""Histories against slices of the event table."""

import numpy as np
import pytest

from hmar.data import counting
from hmar.data.snapshot import Snapshot
from hmar.data.targets import Reading, histories_before, histories_for
from hmar.errors import SettingsError


@pytest.mark.parametrize("max_length", [1, 4, 100])
@pytest.mark.parametrize("behaviors", [None, ("buy",), ("view", "buy"), ("buy", "cart", "view"), ()])
def test_the_last_events_before_a_row(shop: Snapshot, max_length: int, behaviors: tuple[str, ...] | None) -> None:
    rng = np.random.default_rng(1)
    user = rng.integers(0, shop.n_users, 50)
    end = np.array([rng.integers(shop.offsets[u], shop.offsets[u + 1] + 1) for u in user])
    now = rng.integers(0, 10**12, 50)
    histories = histories_before(shop, user, end, now, 2, max_length, behaviors)
    codes = range(3) if behaviors is None else [shop.behaviors.index(name) for name in behaviors]
    for place, (u, e) in enumerate(zip(user, end, strict=True)):
        rows = [row for row in range(shop.offsets[u], e) if shop.behavior[row] in codes][-max_length:]
        part = slice(int(histories.offsets[place]), int(histories.offsets[place + 1]))
        assert histories.item[part].tolist() == shop.item[rows].tolist()
        assert histories.behavior[part].tolist() == shop.behavior[rows].tolist()
        assert histories.time[part].tolist() == shop.time[rows].tolist()
        assert histories.hbi[part].tolist() == shop.hbi[rows].tolist()
        assert histories.from_end[part].tolist() == list(range(len(rows)))[::-1]
    assert histories.now.tolist() == now.tolist()
    assert histories.asked.tolist() == [2] * 50


def test_targets_are_asked_about_what_happened_before_them(shop: Snapshot) -> None:
    targets = shop.targets("leave_one_out", "validation")
    histories = histories_for(shop, targets, 5)
    assert histories.now.tolist() == shop.time[targets.event].tolist()
    newest = histories.time[histories.offsets[1:] - 1]
    assert (newest < histories.now).all()
    assert histories.asked.tolist() == [shop.target_behavior] * len(targets)


def test_the_asked_behavior_may_differ_by_row(shop: Snapshot) -> None:
    user = np.array([0, 1, 2])
    histories = histories_before(shop, user, shop.offsets[user + 1], user, np.array([0, 2, 1]), 5)
    assert histories.asked.tolist() == [0, 2, 1]


def test_an_unknown_behavior_is_named_with_the_nearest(shop: Snapshot) -> None:
    with pytest.raises(SettingsError, match=r"unknown 'bui'; did you mean 'buy'\?"):
        Reading(shop, ("view", "bui"))


@pytest.mark.parametrize("together", [1, 10, 10**6])
@pytest.mark.parametrize("behaviors", [None, ("buy",), ("view", "buy"), ()])
def test_read_events_are_counted_in_any_number_of_steps(
    shop: Snapshot, monkeypatch: pytest.MonkeyPatch, behaviors: tuple[str, ...] | None, together: int
) -> None:
    monkeypatch.setattr(counting, "CHUNK_EVENTS", together)
    codes = range(3) if behaviors is None else [shop.behaviors.index(name) for name in behaviors]
    first, end = shop.offsets[:-1], shop.train_end("leave_one_out")
    expected = [sum(shop.behavior[r] in codes for r in range(a, b)) for a, b in zip(first, end, strict=True)]
    assert Reading(shop, behaviors).count(first, end).tolist() == expected
