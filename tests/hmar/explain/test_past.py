"""What a model is given had some of a user's past never happened: as if it had been recorded that way."""

import numpy as np
import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.explain.past import Past
from tests.support.arrays import Event, random_users, write_snapshot
from tests.support.models import counts_of_rows, pack_rows

NOW = 2**60
BEHAVIORS = 3
USERS = random_users(6, 5, BEHAVIORS, 16, seed=3)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return write_snapshot(tmp_path_factory.mktemp("past") / "snapshot", USERS, items=5)


def sorted_cells(cells: object) -> list[tuple[object, ...]]:
    columns = [getattr(cells, name).tolist() for name in ("row", "item", "counts", "behavior", "events", "time")]
    return sorted(zip(*columns, strict=True), key=lambda cell: cell[:2])


@pytest.mark.parametrize("user", range(len(USERS)))
def test_every_event_and_behavior_taken_out(user: int, shop: Snapshot) -> None:
    """Against histories and counts that are packed from the lists without these events."""
    events = USERS[user]
    past = Past.of(shop, user, NOW, max_length=100, reads=None)
    cases = [np.zeros(len(events), bool), *np.eye(len(events), dtype=bool)]
    cases += [past.behavior == code for code in range(BEHAVIORS)]
    histories, seen = past.without(np.stack(cases))
    rows: list[list[Event]] = [[e for e, gone in zip(events, case, strict=True) if not gone] for case in cases]
    expected = pack_rows(rows, BEHAVIORS, asked=shop.target_behavior)
    for name in ("item", "behavior", "time", "hbi", "offsets", "asked"):
        assert torch.equal(getattr(histories, name), getattr(expected, name)), name
    assert (histories.now == NOW).all()
    assert sorted_cells(seen) == sorted_cells(counts_of_rows(rows, BEHAVIORS))


def test_the_window_stays_where_it_was(shop: Snapshot) -> None:
    """Counts are of all that remains; of the events that are read none comes in for one that is gone."""
    user = max(range(len(USERS)), key=lambda u: len(USERS[u]))
    events = USERS[user]
    past = Past.of(shop, user, NOW, max_length=4, reads=("view", "buy"))
    read = [n for n, event in enumerate(events) if event[1] != 1][-4:]
    assert np.flatnonzero(past.read).tolist() == read
    removed = np.zeros((1, len(events)), bool)
    removed[0, read[1]] = True
    histories, seen = past.without(removed)
    left = [event for n, event in enumerate(events) if n != read[1]]
    assert histories.time.tolist() == [events[n][2] * 1_000_000 for n in read if n != read[1]]
    assert sorted_cells(seen) == sorted_cells(counts_of_rows([left], BEHAVIORS))
    whole = pack_rows([left], BEHAVIORS)
    kept = [left.index(events[n]) for n in read if n != read[1]]
    assert torch.equal(histories.hbi, whole.hbi[kept])


def test_nothing_done(shop: Snapshot) -> None:
    past = Past(*(np.zeros(0, np.int64),) * 3, np.zeros(0, bool), BEHAVIORS, 0, NOW)
    histories, seen = past.without(np.zeros((2, 0), bool))
    assert histories.offsets.tolist() == [0, 0, 0]
    assert len(seen.row) == 0
