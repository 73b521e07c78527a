"""Nothing at or after a target's time reaches what the target is judged with; and what would, is caught.

Two logs share their past up to a moment and differ in any way from it on: events changed, removed, added. The evidence
of every target up to that moment must be the same. The same check, given evidence as the published code gathers it,
must fail.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from hmar.data.counting import PriorCounts, popularity
from hmar.data.snapshot import PARTS, Snapshot, Targets
from tests.support.events import Event, moment
from tests.support.tiny_snapshot import SHOP, make_snapshot

pytestmark = pytest.mark.timeout(600)

CUT = 10
WATCHED = 1
"""The user whose last target event is at CUT, whatever the future brings."""
BOUGHT: list[Event] = [(WATCHED, 6, "buy", 2), (WATCHED, 7, "buy", 5), (WATCHED, 8, "buy", 5), (WATCHED, 9, "buy", CUT)]
OTHERS: list[Event] = [(2, 6, "buy", 1), (3, 7, "buy", 3), (2, 8, "buy", 6), (3, 6, "buy", 7)]
"""With these the training range of the temporal split ends before CUT, whatever the future brings."""

Facts = dict[str, Any]
Look = Callable[[Snapshot, str, Targets, int], Facts]


def events_in(first: int, last: int, behaviors: list[str], least: int = 0, most: int = 20) -> Any:
    """Events of three users, of whom the watched one buys nothing."""
    event = st.tuples(
        st.integers(1, 3), st.integers(1, 12), st.sampled_from(behaviors), st.integers(first, last)
    ).filter(lambda event: (event[0], event[2]) != (WATCHED, "buy"))
    return st.lists(event, min_size=least, max_size=most, unique=True)


@st.composite
def two_futures(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """Two logs with one past before CUT and different events from CUT on."""
    past = draw(events_in(0, CUT - 1, list(SHOP))) + OTHERS + BOUGHT
    bought = draw(st.tuples(st.integers(0, 6), st.integers(0, 6)))
    futures = [
        draw(events_in(CUT, 2 * CUT, ["view", "cart"])) + draw(events_in(CUT, 2 * CUT, ["buy"], buys, buys))
        for buys in bought
    ]
    one, other = (list(dict.fromkeys(past + future)) for future in futures)
    return one, other


def facts(snapshot: Snapshot, split: str, targets: Targets, n: int) -> Facts:
    """All that one target is judged with, in source ids."""
    user, end, items = targets.user[n], targets.history_end[n], snapshot.items["item_id"].to_pylist()
    rows = range(snapshot.offsets[user], end)
    drawn = snapshot.candidates(split, targets)[n]
    asked = np.append(drawn[drawn >= 0], targets.item[n])
    past = PriorCounts(snapshot).of(np.array([user]))
    counts = past.lookup(np.zeros(len(asked), np.int64), asked, np.full(len(asked), end))
    return {
        "history": [(items[snapshot.item[row]], int(snapshot.behavior[row]), int(snapshot.time[row])) for row in rows],
        "hbi": snapshot.hbi[rows.start : rows.stop].tolist(),
        "catalog": items[: targets.catalog[n]],
        "candidates": [items[item] if item >= 0 else None for item in drawn],
        "hbi of candidates": counts.tolist(),
        "repeat": bool(targets.repeat[n]),
        "cold_user": bool(targets.cold_user[n]),
    }


def shown_by(snapshot: Snapshot, split: str, targets: Targets, n: int) -> Facts:
    """All that the user was asked about before CUT, and from which history; in source ids."""
    items, user = snapshot.items["item_id"].to_pylist(), targets.user[n]
    found = []
    for row in pq.read_table(snapshot.path / "impressions.parquet").to_pylist():
        if row["user"] == user and row["event_time"] < moment(CUT):
            past = range(snapshot.offsets[user], row["history_end"])
            history = [(items[snapshot.item[event]], int(snapshot.behavior[event])) for event in past]
            found.append((row["event_time"], items[row["item"]], row["label"], row["sampled"], history))
    return {"impressions": sorted(found)}


def negatives_of_the_whole_file(snapshot: Snapshot, split: str, targets: Targets, n: int) -> Facts:
    return {"impressions": snapshot.items["item_id"].to_pylist()}


def trained_on(snapshot: Snapshot, split: str, targets: Targets, n: int) -> Facts:
    """The popularity of the items of the target's time, from the training events of the split."""
    counts, items = popularity(snapshot, split, None), snapshot.items["item_id"].to_pylist()
    return {"popularity": {items[item]: counts[item] for item in range(targets.catalog[n]) if counts[item]}}


def evidence(snapshot: Snapshot, split: str, look: Look) -> dict[tuple[Any, ...], Facts]:
    """What ``look`` finds for each target up to CUT, by user, item and time."""
    users, items = snapshot.users["user_id"].to_pylist(), snapshot.items["item_id"].to_pylist()
    cut = round(moment(CUT).timestamp() * 1_000_000)
    found = {}
    for part in PARTS:
        targets = snapshot.targets(split, part)
        for n in range(len(targets)):
            time = int(snapshot.time[targets.event[n]])
            if time <= cut:
                found[users[targets.user[n]], items[targets.item[n]], time] = look(snapshot, split, targets, n)
    return found


def check(
    split: str,
    look: Look,
    examples: int = 25,
    catching: bool = False,
    equally_divided: bool = False,
    **more: Any,
) -> None:
    """Compare the evidence of two logs with different futures, many times.

    Args:
        catching: stop at the first difference.
        equally_divided: of the temporal split compare only those that end the training at the same time: that is a
            quantile of all target events' times.
        more: further settings of the snapshot.
    """

    @given(logs=two_futures(), repeats=st.booleans(), unseen=st.booleans())
    @settings(
        max_examples=examples,
        database=None,
        derandomize=catching,
        phases=[Phase.generate] if catching else list(Phase),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    def the_future_changes_nothing(logs: tuple[list[Event], list[Event]], repeats: bool, unseen: bool) -> None:
        options: dict[str, Any] = {"repeats": repeats, "consumed_by": () if repeats else ("buy",), "unseen": unseen}
        options |= {"splits": [split], "validation_quantile": 0.25, "test_quantile": 0.6, **more}
        with tempfile.TemporaryDirectory() as home:
            one, other = (make_snapshot(Path(home), log, **options) for log in logs)
            if equally_divided:
                assume(one.manifest.splits[split]["validation_from"] == other.manifest.splits[split]["validation_from"])
            before, after = (evidence(snapshot, split, look) for snapshot in (one, other))
        shared = before.keys() & after.keys()
        assert (WATCHED, 9) in {(user, item) for user, item, _ in shared}, "the watched target is none"
        for target in shared:
            for name, fact in before[target].items():
                assert after[target][name] == fact, f"leak: {name}"

    the_future_changes_nothing()


@pytest.mark.slow
@pytest.mark.parametrize("split", ["leave_one_out", "temporal"])
def test_the_future_changes_nothing(split: str) -> None:
    check(split, facts)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["uniform", "popularity"])
def test_the_future_changes_no_impression(source: str) -> None:
    shown = {"negative": ["cart"], "sampled": 3, "sampled_from": source}
    check("temporal", shown_by, impressions=shown)
    with pytest.raises(AssertionError, match=r"^leak: impressions\n"):
        check("temporal", negatives_of_the_whole_file, examples=100, catching=True, impressions=shown)


@pytest.mark.slow
def test_the_future_changes_no_popularity_of_the_temporal_split() -> None:
    check("temporal", trained_on, equally_divided=True)


# -- what the published code does -------------------------------------------------------------------------------


def final_counts(snapshot: Snapshot, user: int, items: list[int]) -> list[list[int]]:
    """How often the user does each behavior with each item in the whole file."""
    own = slice(snapshot.offsets[user], snapshot.offsets[user + 1])
    return [
        [int(((snapshot.item[own] == item) & (snapshot.behavior[own] == code)).sum()) for code in range(len(SHOP))]
        for item in items
    ]


def hbi_of_the_whole_file(snapshot: Snapshot, split: str, targets: Targets, n: int) -> Facts:
    rows = slice(snapshot.offsets[targets.user[n]], targets.history_end[n])
    return {"hbi": final_counts(snapshot, int(targets.user[n]), snapshot.item[rows].tolist())}


def candidate_hbi_of_the_whole_file(snapshot: Snapshot, split: str, targets: Targets, n: int) -> Facts:
    return {"hbi of candidates": final_counts(snapshot, int(targets.user[n]), [int(targets.item[n])])}


def popularity_of_the_whole_file(snapshot: Snapshot, split: str, targets: Targets, n: int) -> Facts:
    counts = dict(zip(*(snapshot.items[name].to_pylist() for name in ("item_id", "events")), strict=True))
    items = snapshot.items["item_id"].to_pylist()[: targets.catalog[n]]
    return {"popularity": {item: counts[item] for item in items}}


def only(name: str) -> Look:
    """One of the facts, as the snapshot has it."""
    return lambda *target: {name: facts(*target)[name]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "look", "name"),
    [
        ("leave_one_out", hbi_of_the_whole_file, "hbi"),
        ("temporal", hbi_of_the_whole_file, "hbi"),
        ("leave_one_out", candidate_hbi_of_the_whole_file, "hbi of candidates"),
        ("temporal", popularity_of_the_whole_file, "popularity"),
        ("published", only("history"), "history"),
        ("published", only("hbi of candidates"), "hbi of candidates"),
        ("published", only("catalog"), "catalog"),
        ("published", only("candidates"), "candidates"),
    ],
)
def test_the_published_way_is_caught(split: str, look: Look, name: str) -> None:
    with pytest.raises(AssertionError, match=rf"^leak: {name}\n"):
        check(split, look, examples=100, catching=True)
