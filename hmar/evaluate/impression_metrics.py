"""Metrics of labelled impressions, scores of candidates that the user said yes (1) or no (0) to, without a loop.

AUC: the probability that a positive scores higher than a negative, ties counting a half. GAUC: the mean of the users'
own AUC, each weighted with the number of the user's impressions. MRR and NDCG (gain 1, no cutoff): of the list of all
of a user's impressions, best score first; among equal scores negatives stand first, so that ties count against the
model. A user has these three only with impressions of both labels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class UserValues:
    """One entry per user with impressions, in order of user: all [U].

    Attributes:
        user, impressions, positives: int64. auc, mrr, ndcg: float64, NaN where the labels are all equal.
        of: int64 [I], the entry of each impression.
    """

    user: NDArray[np.int64]
    impressions: NDArray[np.int64]
    positives: NDArray[np.int64]
    auc: Floats
    mrr: Floats
    ndcg: Floats
    of: NDArray[np.int64]

    @property
    def judged(self) -> NDArray[np.bool_]:
        """bool [U]: who has impressions of both labels."""
        return (self.positives > 0) & (self.positives < self.impressions)


def auc(label: NDArray[np.integer], score: Floats) -> float:
    """The AUC of all impressions [I] together; NaN where the labels are all equal."""
    return float(_auc(label, score, np.zeros(len(label), np.int64), 1)[0])


def of_users(user: NDArray[np.integer], label: NDArray[np.integer], score: Floats) -> UserValues:
    """The values of every user, from impressions [I] in any order."""
    known, group = np.unique(user, return_inverse=True)
    count = np.bincount(group, minlength=len(known))
    positives = np.bincount(group[label > 0], minlength=len(known))
    order = np.lexsort((label, -score, group))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count) + 1
    good = label[order] > 0
    owner, rank = group[order][good], rank[good]
    first = np.full(len(known), np.inf)
    np.minimum.at(first, owner, rank)
    gain = np.bincount(owner, weights=1 / np.log2(rank + 1), minlength=len(known))
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(positives.max(initial=0)) + 2))])[positives]
    values = UserValues(
        user=known.astype(np.int64),
        impressions=count,
        positives=positives,
        auc=_auc(label, score, group, len(known)),
        mrr=1 / first,
        ndcg=gain / np.where(ideal > 0, ideal, 1),
        of=group,
    )
    values.mrr[~values.judged] = np.nan
    values.ndcg[~values.judged] = np.nan
    return values


def gauc(values: UserValues) -> float:
    """NaN where no user has impressions of both labels."""
    judged = values.judged
    weights = values.impressions[judged]
    return float((values.auc[judged] * weights).sum() / weights.sum()) if judged.any() else float("nan")


def auc_parts(label: NDArray[np.integer], score: Floats) -> Floats:
    """Values per impression, float64 [I], whose mean is the AUC, and whose mean over resampled impressions is, to first
    order, the AUC of those (its influence function): what an interval is made of."""
    good = label > 0
    positives, negatives = int(good.sum()), int((~good).sum())
    nothing = np.zeros(len(label), np.int64)
    ranks, own = _midranks(score, nothing), np.empty(len(label))
    own[good], own[~good] = _midranks(score[good], nothing[good]), _midranks(score[~good], nothing[~good])
    won = np.where(good, (ranks - own) / negatives, 1 - (ranks - own) / positives)
    mean = won[good].mean()
    parts: Floats = mean + (won - mean) * len(label) / np.where(good, positives, negatives)
    return parts


def _auc(label: NDArray[np.integer], score: Floats, group: NDArray[np.int64], groups: int) -> Floats:
    """From the sum of the positives' ranks (Mann and Whitney's U)."""
    good = label > 0
    ranks = np.bincount(group[good], weights=_midranks(score, group)[good], minlength=groups)
    positives = np.bincount(group[good], minlength=groups).astype(np.float64)
    negatives = np.bincount(group[~good], minlength=groups).astype(np.float64)
    pairs = positives * negatives
    return np.where(pairs > 0, (ranks - positives * (positives + 1) / 2) / np.where(pairs > 0, pairs, 1), np.nan)


def _midranks(score: Floats, group: NDArray[np.int64]) -> Floats:
    """Rank of each score in its group, 1 is the lowest, equal scores share their mean rank; float64 [I]."""
    order = np.lexsort((score, group))
    ordered, owner = score[order], group[order]
    opens = np.ones(len(order), bool)
    opens[1:] = (ordered[1:] != ordered[:-1]) | (owner[1:] != owner[:-1])
    first = np.flatnonzero(opens)
    length = np.diff(first, append=len(order))
    group_opens = np.ones(len(order), bool)
    group_opens[1:] = owner[1:] != owner[:-1]
    group_first = np.flatnonzero(group_opens)
    before = np.repeat(group_first, np.diff(group_first, append=len(order)))
    ranks = np.empty(len(order))
    ranks[order] = np.repeat(first + (length + 1) / 2, length) - before
    return ranks
