"""Nothing at or after a target's time reaches what the target is judged with."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hmar.data.snapshot import PARTS, Snapshot
from tests.support.events import Event, moment
from tests.support.tiny_snapshot import SHOP, make_snapshot

CUT = 10
WATCHED = 1
"""The user whose last target event is at CUT, whatever the future brings."""
BOUGHT: list[Event] = [(WATCHED, 6, "buy", 2), (WATCHED, 7, "buy", 5), (WATCHED, 8, "buy", 5), (WATCHED, 9, "buy", CUT)]


def events_in(first: int, last: int) -> st.SearchStrategy[list[Event]]:
    """Events of three users, of whom the watched one buys nothing."""
    event = st.tuples(
        st.integers(1, 3), st.integers(1, 12), st.sampled_from([*SHOP, "buy"]), st.integers(first, last)
    ).filter(lambda event: (event[0], event[2]) != (WATCHED, "buy"))
    return st.lists(event, max_size=30)


@st.composite
def two_futures(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """Two logs with one past before CUT and different events from CUT on."""
    past = draw(events_in(0, CUT - 1)) + BOUGHT
    one, other = draw(events_in(CUT, 2 * CUT)), draw(events_in(CUT, 2 * CUT))
    return list(dict.fromkeys(past + one)), list(dict.fromkeys(past + other))


def evidence(snapshot: Snapshot) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """All that a target up to CUT is judged with, in source ids, by (split, part, user, item, time)."""
    users, items = (snapshot.users["user_id"].to_pylist(), snapshot.items["item_id"].to_pylist())
    cut = round(moment(CUT).timestamp() * 1_000_000)
    found = {}
    for split in ("leave_one_out", "temporal"):
        for part in PARTS:
            targets = snapshot.targets(split, part)
            drawn = snapshot.candidates(split, targets)
            for n in range(len(targets)):
                time = int(snapshot.time[targets.event[n]])
                if time > cut:
                    continue
                rows = range(snapshot.offsets[targets.user[n]], targets.history_end[n])
                found[split, part, users[targets.user[n]], items[targets.item[n]], time] = (
                    [
                        (
                            items[snapshot.item[row]],
                            int(snapshot.behavior[row]),
                            int(snapshot.time[row]),
                            snapshot.hbi[row].tolist(),
                        )
                        for row in rows
                    ],
                    [items[item] if item >= 0 else None for item in drawn[n]],
                    sorted(items[: targets.catalog[n]]),
                    bool(targets.repeat[n]),
                    bool(targets.cold_user[n]),
                )
    return found


@pytest.mark.slow
@given(logs=two_futures(), repeats=st.booleans(), unseen=st.booleans())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_future_changes_nothing(logs: tuple[list[Event], list[Event]], repeats: bool, unseen: bool) -> None:
    used_by = () if repeats else ("buy",)
    found = []
    with tempfile.TemporaryDirectory() as home:
        for log in logs:
            found.append(evidence(make_snapshot(Path(home), log, repeats=repeats, consumed_by=used_by, unseen=unseen)))
    one, other = found
    shared = one.keys() & other.keys()
    assert any(split == "leave_one_out" and user == WATCHED for split, part, user, _, _ in shared if part == "test")
    for target in shared:
        assert one[target] == other[target]
