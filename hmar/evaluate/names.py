"""The names of metrics, decided once.

A metric's full name is ``<part>/<candidates>/<stratum>/<metric>``, for example ``test/full/all/ndcg@10``; its interval
bounds are ``<name>/low`` and ``<name>/high``; ``<part>/<candidates>/<stratum>/targets`` and ``.../users`` are counts.
Those of labelled impressions are ``<part>/impressions/<stratum>/<metric>``, with the counts ``impressions``,
``positives`` and ``users``: those with impressions of both labels, whom gauc, mrr and ndcg are means over. Where a
model has learned other tasks than the target's, theirs are ``<part>/impressions_<task>/...``.
Files and tables use these names; MLflow refuses ``@``, so there it reads ``ndcg_at_10`` (:func:`tracked`), and what was
measured with a leak (:mod:`hmar.leaks`) begins with ``leaky/``.
"""

from collections.abc import Collection
from itertools import pairwise
from typing import Literal

Candidates = Literal["full", "sampled"]
CANDIDATES: tuple[Candidates, ...] = ("full", "sampled")

CUTOFFS = (5, 10, 20)
RANK_METRICS = (*(f"hr@{k}" for k in CUTOFFS), *(f"ndcg@{k}" for k in CUTOFFS), "mrr")
"""Functions of a target's rank alone; each has an interval, in every stratum."""

LIST_CUTOFFS = (10, 20)
LIST_METRICS = (*(f"coverage@{k}" for k in LIST_CUTOFFS), *(f"popularity_percentile@{k}" for k in LIST_CUTOFFS))
"""Functions of the top-K lists: full ranking, stratum ``all``, no interval."""

LENGTH_EDGES = (1, 6, 11, 21, 51, 101)
"""Lowest history length of each length stratum."""
LENGTH_STRATA = (
    *(f"length_{low}-{high - 1}" for low, high in pairwise(LENGTH_EDGES)),
    f"length_{LENGTH_EDGES[-1]}-up",
)
STRATA = ("all", "repeat", "new", "cold_user", "cold_item", *LENGTH_STRATA)

IMPRESSION_METRICS = ("auc", "gauc", "mrr", "ndcg")
IMPRESSION_STRATA = ("all", "cold_user", *LENGTH_STRATA)

HEADLINE = "ndcg@10"


def full_name(part: str, candidates: str, stratum: str, metric: str) -> str:
    """``full_name("test", "full", "all", "ndcg@10")`` is ``"test/full/all/ndcg@10"``."""
    return f"{part}/{candidates}/{stratum}/{metric}"


def tracked(name: str, leaks: Collection[str] = ()) -> str:
    """The name under which MLflow keeps a metric: ``ndcg@10`` becomes ``ndcg_at_10``; where there are leaks
    (:mod:`hmar.leaks`), ``leaky/ndcg_at_10``."""
    return ("leaky/" if leaks else "") + name.replace("@", "_at_")
