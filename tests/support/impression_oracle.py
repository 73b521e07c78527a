"""What labelled impressions must be, from a list of events, in plain Python and source ids: slow and easy to believe.

An event is (user, item, behavior, time). A moment is a (user, time).
"""


class ExpectedImpressions:
    """
    Args:
        expected: the snapshot's oracle. yes, no: behaviors by what they say.
    """

    def __init__(self, expected, yes, no):
        self.expected, self.said = expected, {}
        for user, own in expected.sequences.items():
            for event in own:
                before = [e for e in own if e[3] < event[3]]
                used = [e[1] for e in before if e[2] in expected.consumed_by]
                tied = [e for e in own if e[1] == event[1] and e[3] == event[3]]
                counted = [e for e in tied if e[2] in (*yes, *no) and self.first_use(own, e)]
                if event[2] in (*yes, *no) and counted and event[1] not in used:
                    answer = int(any(e[2] in yes for e in tied))
                    self.said.setdefault((user, event[3]), {})[event[1]] = answer

    def first_use(self, own, event):
        """Whether nothing stands before the event that uses its item up."""
        earlier = own[: own.index(event)]
        return all(e[1] != event[1] or e[2] not in self.expected.consumed_by for e in earlier)

    def parts(self, split):
        """Moment -> part; moments in no part are missing."""
        found = {}
        for user, own in self.expected.sequences.items():
            _, test, trained = self.expected.split(split, user)
            times = sorted(time for one, time in self.said if one == user)
            if split == "temporal":
                t1, t2 = self.expected.bounds
                found |= {(user, t): "training" if t < t1 else "validation" if t < t2 else "test" for t in times}
                continue
            end = own[trained][3] if trained < len(own) else own[-1][3] + 1
            tested = own[test[0]][3] if test else own[-1][3] + 1
            found |= {(user, t): "training" for t in times if t < end}
            found |= {(user, t): "validation" for t in [t for t in times if end <= t < tested][-1:]}
            found |= {(user, t): "test" for t in [t for t in times if t >= tested][-1:]}
        return found

    def admissible(self, user, time, catalog):
        """What may be drawn at a moment, out of the catalog of then."""
        history = [e for e in self.expected.sequences[user] if e[3] < time]
        gone = self.expected.used(history, self.expected.unseen)
        return {*catalog} - gone - self.said[user, time].keys()
