"""What a snapshot must say, from a list of events, in plain Python and source ids: slow and easy to believe."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

from tests.support.events import Event

Tie = Callable[[Event], int]


@dataclass
class Expected:
    users: list[Any]
    items: list[Any]
    sequences: dict[Any, list[Event]]
    hbi: dict[Any, list[tuple[int, ...]]]
    targets: dict[str, dict[str, set[Event]]]
    trained: dict[str, dict[Any, list[Event]]]
    first_seen: dict[Any, float]

    def history(self, target: Event) -> list[Event]:
        return [event for event in self.sequences[target[0]] if event[3] < target[3]]

    def catalog(self, target: Event) -> int:
        return sum(seen < target[3] for seen in self.first_seen.values())


def expect(
    events: Sequence[Event], behaviors: Sequence[str], target: str, consumed_by: Sequence[str], core: tuple[int, int],
    tie: Tie, quantiles: tuple[float, float] = (0.8, 0.9),
) -> Expected:  # fmt: skip
    kept = k_core(list(events), *core)
    first_user, first_item = first_times(kept, 0), first_times(kept, 1)
    order = lambda event: (event[3], behaviors.index(event[2]), tie(event))  # noqa: E731
    sequences = {user: sorted((e for e in kept if e[0] == user), key=order) for user in first_user}
    hbi = {
        user: [counts(own[: n + 1], own[n][1], behaviors) for n in range(len(own))] for user, own in sequences.items()
    }
    eligible = {
        user: [e for n, e in enumerate(own) if e[2] == target and not any(used(p, e[1], consumed_by) for p in own[:n])]
        for user, own in sequences.items()
    }
    times = sorted(e[3] for own in eligible.values() for e in own)
    t1, t2 = (times[max(0, ceil(Fraction(str(q)) * len(times)) - 1)] if times else 0 for q in quantiles)
    last = {user: leave_one_out(own) for user, own in eligible.items()}
    temporal = [e for own in eligible.values() for e in own if e[3] >= t1]
    return Expected(
        users=sorted(first_user, key=lambda u: (first_user[u], u)),
        items=sorted(first_item, key=lambda i: (first_item[i], i)),
        sequences=sequences,
        hbi=hbi,
        targets={
            "leave_one_out": {p: {own[p] for own in last.values() if p in own} for p in ("validation", "test")},
            "temporal": {"validation": {e for e in temporal if e[3] < t2}, "test": {e for e in temporal if e[3] >= t2}},
        },
        trained={
            "leave_one_out": {
                user: [e for e in own if "validation" not in last[user] or e[3] < last[user]["validation"][3]]
                for user, own in sequences.items()
            },
            "temporal": {user: [e for e in own if e[3] < t1] for user, own in sequences.items()},
        },
        first_seen=first_item,
    )


def k_core(events: list[Event], user_bound: int, item_bound: int) -> list[Event]:
    users, items = Counter(e[0] for e in events), Counter(e[1] for e in events)
    kept = [e for e in events if users[e[0]] >= user_bound and items[e[1]] >= item_bound]
    return kept if len(kept) == len(events) else k_core(kept, user_bound, item_bound)


def first_times(events: list[Event], column: int) -> dict[Any, float]:
    return {e[column]: min(o[3] for o in events if o[column] == e[column]) for e in events}


def counts(so_far: list[Event], item: Any, behaviors: Sequence[str]) -> tuple[int, ...]:
    return tuple(sum(e[1] == item and e[2] == name for e in so_far) for name in behaviors)


def used(event: Event, item: Any, consumed_by: Sequence[str]) -> bool:
    return event[1] == item and event[2] in consumed_by


def leave_one_out(eligible: list[Event]) -> dict[str, Event]:
    if len(eligible) < 2:
        return {}
    last = eligible[-1]
    earlier = [e for e in eligible if e[3] < last[3]]
    if len(eligible) == 2 or not earlier:
        return {"validation": last}
    return {"validation": earlier[-1], "test": last}
