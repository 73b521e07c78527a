"""What a snapshot must say, from a list of events, in plain Python and source ids: slow and easy to believe.

An event is (user, item, behavior, time). A place is an event's number in its user's sequence.
"""

from collections import Counter
from fractions import Fraction
from itertools import takewhile
from math import ceil


class Expected:
    def __init__(self, events, behaviors, target, consumed_by, core, tie, unseen=False, known=((), ())):
        self.may, self.consumed_by, self.unseen, times = {}, consumed_by, unseen, []
        kept = sorted(k_core(list(events), *core), key=lambda e: (e[3], behaviors.index(e[2]), tie(e)))
        first = [{e[side]: e[3] for e in reversed(kept)} for side in (0, 1)]
        new = [sorted(sorted(first[side].keys() - {*known[side]}), key=first[side].get) for side in (0, 1)]
        self.users, self.items, self.first_seen = [*known[0], *new[0]], [*known[1], *new[1]], first[1]
        self.sequences = {u: [e for e in kept if e[0] == u] for u in self.users}
        pasts = [own[: n + 1] for own in self.sequences.values() for n in range(len(own))]
        self.hbi = [tuple(sum(e[1:3] == (past[-1][1], name) for e in past) for name in behaviors) for past in pasts]
        for user, own in self.sequences.items():
            self.may[user] = [n for n, e in enumerate(own) if e[2] == target and e[1] not in self.used(own[:n])]
            times = sorted([*times, *(own[n][3] for n in self.may[user])])
        self.bounds = [times[max(0, ceil(Fraction(q) * len(times)) - 1)] if times else 0 for q in ("0.8", "0.9")]

    def split(self, name, user):
        """The places of its validation targets, of its test targets; how many events are trained on."""
        own, may, last, (t1, t2) = self.sequences[user], self.may[user], self.may[user][-1:], self.bounds
        if name == "published":
            held_out = last if len(own) >= 3 else []
            return [n for n in held_out if n], [n for n in held_out if n], held_out[0] if held_out else len(own)
        if name == "temporal":
            test, late = ([n for n in may if own[n][3] >= t] for t in (t2, t1))
            return [n for n in late if n not in test], test, sum(e[3] < t1 for e in own)
        earlier = [n for n in may if own[n][3] < own[last[0]][3]]
        test = last if len(may) >= 3 and earlier else []
        validation = earlier[-1:] if test else last if len(may) >= 2 else []
        return validation, test, len(self.history(name, user, validation[0])) if validation else len(own)

    def history(self, split, user, place):
        own = self.sequences[user]
        return own[:place] if split == "published" else [e for e in own if e[3] < own[place][3]]

    def admissible(self, split, user, place):
        """The candidates that may be drawn, out of the catalog of the time."""
        _, target, _, time = self.sequences[user][place]
        catalog = list(takewhile(lambda item: split == "published" or self.first_seen[item] < time, self.items))
        gone = self.used(self.history(split, user, place), self.unseen or split == "published")
        return {*catalog} - gone - {target}, len(catalog)

    def used(self, past, in_any_way=False):
        return {e[1] for e in past if in_any_way or e[2] in self.consumed_by}


def k_core(events, user_bound, item_bound):
    users, items = Counter(e[0] for e in events), Counter(e[1] for e in events)
    kept = [e for e in events if users[e[0]] >= user_bound and items[e[1]] >= item_bound]
    return kept if len(kept) == len(events) else k_core(kept, user_bound, item_bound)
