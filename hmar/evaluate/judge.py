"""One pass over the targets of a split: every target's rank among all candidates and among the sampled ones."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from hmar.data.counting import PriorCounts
from hmar.data.snapshot import Part, Snapshot, Targets
from hmar.data.targets import histories_for
from hmar.errors import DataError
from hmar.evaluate import metrics
from hmar.evaluate.names import LIST_CUTOFFS
from hmar.evaluate.ranking import consumed_cells, own_cells, ranks_among, refuse_nan, rows_per_chunk
from hmar.evaluate.scan import Excluded, block_width, scan
from hmar.models.base import Recommender
from hmar.models.catalog import Catalog


@dataclass(frozen=True)
class Judgement:
    """The raw outcome, aligned with ``targets``.

    Attributes:
        rank_full, rank_sampled: float64 [N], 1 is best, inf is a miss: the model could not score the target or nobody
            had seen it yet. ``rank_sampled`` is None where it was not asked for.
        top: int32 [N, K], the best K items of the full ranking, best first, -1 where there are fewer; K may be 0.
        history_length: int64 [N], events before the target, in every behavior.
    """

    snapshot: str
    split: str
    part: Part
    targets: Targets
    rank_full: NDArray[np.float64]
    rank_sampled: NDArray[np.float64] | None
    top: NDArray[np.int32]
    history_length: NDArray[np.int64]

    def mean(self, metric: str, candidates: str = "full") -> float:
        """The mean over targets of a rank metric, for example ``mean("ndcg@10")``; NaN without targets.

        This is the number early stopping reads; strata and intervals are :func:`hmar.evaluate.summary.summarize`.
        """
        ranks = self.ranks[candidates]
        return float(metrics.of_ranks(ranks, metric).mean()) if len(ranks) else float("nan")

    @cached_property
    def ranks(self) -> dict[str, NDArray[np.float64]]:
        """Ranks by kind of candidates."""
        sampled = {} if self.rank_sampled is None else {"sampled": self.rank_sampled}
        return {"full": self.rank_full, **sampled}


def judge(
    model: Recommender,
    snapshot: Snapshot,
    split: str,
    part: Part,
    *,
    max_length: int,
    sampled: bool = True,
    top: int = max(LIST_CUTOFFS),
    memory_mb: int = 256,
    prior: PriorCounts | None = None,
    advance: Callable[[int], None] | None = None,
    unseen: bool = False,
) -> Judgement:
    """Rank every target of ``part`` of ``split`` with ``model``, on the device the model is on.

    Full ranking: all items that anyone had seen before the target's time, less (where items do not recur) those the
    user had consumed before it. Equal scores count against the model.

    For a quick validation number during training: ``judge(..., sampled=False, top=0).mean("ndcg@10")``.

    Args:
        max_length: events of a history that the model reads.
        sampled: also rank among the snapshot's stored candidates.
        top: length of the kept top lists; 0 keeps none, which is faster.
        memory_mb: bound of the scores held at once and all that is made from them.
        prior: the snapshot's counts index, to build it once for many calls.
        advance: called with the number of targets done after each chunk.
        unseen: leave out of the full ranking all that the user ever had, but for the target itself.

    Raises:
        ModelError: NaN scores; model and user are named.
        DataError: no such split; a target that its user had consumed before.
    """
    targets = snapshot.targets(split, part)
    prior = prior or PriorCounts(snapshot)
    candidates = snapshot.candidates(split, targets) if sampled else None
    count = len(targets)
    rank_full = np.full(count, np.inf)
    rank_sampled = np.full(count, np.inf) if sampled else None
    lists = np.full((count, top), -1, np.int32)
    # Rows of one chunk have nearly the same catalog, so that almost nothing beyond it needs a mask.
    order = np.argsort(targets.catalog, kind="stable")
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            catalog = model.catalog()
            rows = rows_per_chunk(catalog, snapshot.n_items, memory_mb)
            for start in range(0, count, rows):
                chosen = order[start : start + rows]
                chunk = _Chunk(model, catalog, snapshot, targets.take(chosen), prior, max_length)
                rank_full[chosen], lists[chosen] = chunk.full(top, memory_mb, unseen)
                if rank_sampled is not None and candidates is not None:
                    rank_sampled[chosen] = chunk.sampled(candidates[chosen])
                if advance is not None:
                    advance(len(chosen))
    finally:
        model.train(was_training)
    return Judgement(
        snapshot=snapshot.manifest.id,
        split=split,
        part=part,
        targets=targets,
        rank_full=rank_full,
        rank_sampled=rank_sampled,
        top=lists,
        history_length=targets.history_end - snapshot.offsets[targets.user],
    )


class _Chunk:
    """B targets, their histories gathered and encoded once for both kinds of candidates."""

    def __init__(
        self,
        model: Recommender,
        catalog: Catalog,
        snapshot: Snapshot,
        targets: Targets,
        prior: PriorCounts,
        max_length: int,
    ) -> None:
        self.model, self.snapshot, self.targets = model, snapshot, targets
        self.device = model.popularity.device
        histories = histories_for(snapshot, targets, max_length, model.reads)
        seen = prior.history_items(targets.user, targets.history_end)
        if model.published is not None:
            past = prior.of(targets.user)
            histories, seen = model.published.evaluation(snapshot, targets, past, histories, seen)
        self.scores = catalog.scores(histories.to(self.device), seen.to(self.device))
        self.item = torch.from_numpy(targets.item.astype(np.int64)).to(self.device)

    def full(self, top: int, memory_mb: int, unseen: bool) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Ranks [B] among all candidates, and the best items [B, K]."""
        row, item = consumed_cells(self.snapshot, self.targets.user, self.targets.history_end)
        self._refuse_consumed_targets(row, item)
        if unseen:
            row, item = own_cells(self.snapshot, self.targets.user, self.targets.history_end)
            others = item != self.targets.item[row]
            row, item = row[others], item[others]
        found = scan(
            self.scores,
            Excluded(row, item, self.targets.catalog),
            top,
            block_width(len(self.item), self.snapshot.n_items, memory_mb, self.device),
            self.item,
            lambda largest: refuse_nan(largest[:, None], self.model, self._who),
        )
        return found.rank.cpu().numpy(), found.items.to(torch.int32).cpu().numpy()

    def sampled(self, candidates: NDArray[np.int32]) -> NDArray[np.float64]:
        """Ranks [B] among the stored candidates, int32 [B, N], -1 where there is none."""
        negatives = torch.from_numpy(candidates.astype(np.int64)).to(self.device)
        items = torch.cat([self.item[:, None], negatives.clamp(min=0)], dim=1)
        scores = self.scores.pick(items)
        refuse_nan(scores, self.model, self._who)
        scores = scores.masked_fill(torch.nn.functional.pad(negatives < 0, (1, 0)), -torch.inf)
        unknown = torch.from_numpy(self.targets.item >= self.targets.catalog).to(self.device)
        target_score = scores[:, 0].masked_fill(unknown, -torch.inf)
        return ranks_among(scores, target_score).cpu().numpy()

    def _who(self, row: int) -> str:
        return f"user {self.snapshot.users.column('user_id')[int(self.targets.user[row])].as_py()!r}"

    def _refuse_consumed_targets(self, row: NDArray[np.int64], item: NDArray[np.int64]) -> None:
        used = row[item == self.targets.item[row]]
        if len(used):
            target = self.targets.target[used[0]]
            raise DataError(
                f"{self.snapshot.path}: target {target} is an item its user had consumed before, "
                "though items do not recur; rebuild the snapshot"
            )
