"""One pass over the targets of a split: every target's rank among all candidates and among the sampled ones."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmar.data.counting import PriorCounts
from hmar.data.snapshot import Part, Snapshot, Targets
from hmar.data.targets import histories_for
from hmar.errors import DataError
from hmar.evaluate import metrics
from hmar.evaluate.names import LIST_CUTOFFS
from hmar.evaluate.ranking import consumed_cells, mask, own_scores, rank_in_place, refuse_nan, rows_per_chunk, top_k
from hmar.models.base import Recommender


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
) -> Judgement:
    """Rank every target of ``part`` of ``split`` with ``model``, on the device the model is on.

    Full ranking: all items that anyone had seen before the target's time, less (where items do not recur) those the
    user had consumed before it. Equal scores count against the model.

    For a quick validation number during training: ``judge(..., sampled=False, top=0).mean("ndcg@10")``.

    Args:
        max_length: events of a history that the model reads.
        sampled: also rank among the snapshot's stored candidates.
        top: length of the kept top lists; 0 keeps none, which is faster.
        memory_mb: bound of one chunk's scores, [rows, V] float32.
        prior: the snapshot's counts index, to build it once for many calls.
        advance: called with the number of targets done after each chunk.

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
    rows = rows_per_chunk(snapshot.n_items, memory_mb)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, count, rows):
                chosen = order[start : start + rows]
                chunk = _Chunk(model, snapshot, targets.take(chosen), prior, max_length)
                rank_full[chosen], best = chunk.full(top)
                lists[chosen, : best.shape[1]] = best
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
    """B targets, their histories gathered once for both kinds of candidates."""

    def __init__(
        self,
        model: Recommender,
        snapshot: Snapshot,
        targets: Targets,
        prior: PriorCounts,
        max_length: int,
    ) -> None:
        self.model, self.snapshot, self.targets = model, snapshot, targets
        self.device = model.popularity.device
        self.histories = histories_for(snapshot, targets, max_length, model.reads).to(self.device)
        self.seen = prior.history_items(targets.user, targets.history_end).to(self.device)
        self.item = torch.from_numpy(targets.item.astype(np.int64)).to(self.device)

    def full(self, top: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Ranks [B] among all candidates, and the best items [B, K]."""
        scores = own_scores(
            self.model.score_all(self.histories, self.seen), self.model, (len(self.item), self.snapshot.n_items)
        )
        row, item = consumed_cells(self.snapshot, self.targets.user, self.targets.history_end)
        self._refuse_consumed_targets(row, item)
        scores = mask(scores, row, item, self.targets.catalog)
        refuse_nan(scores, self.model, self._who)
        lists = _top_items(scores, top)
        known = torch.from_numpy(self.targets.item < self.targets.catalog).to(self.device)
        place = torch.where(known, self.item, 0)
        target_score = scores.gather(1, place[:, None])[:, 0].masked_fill_(~known, -torch.inf)
        return rank_in_place(scores, target_score).cpu().numpy(), lists

    def sampled(self, candidates: NDArray[np.int32]) -> NDArray[np.float64]:
        """Ranks [B] among the stored candidates, int32 [B, N], -1 where there is none."""
        negatives = torch.from_numpy(candidates.astype(np.int64)).to(self.device)
        items = torch.cat([self.item[:, None], negatives.clamp(min=0)], dim=1)
        scores = own_scores(self.model.score(self.histories, self.seen, items), self.model, tuple(items.shape))
        refuse_nan(scores, self.model, self._who)
        scores[:, 1:].masked_fill_(negatives < 0, -torch.inf)
        unknown = torch.from_numpy(self.targets.item >= self.targets.catalog).to(self.device)
        target_score = scores[:, 0].masked_fill(unknown, -torch.inf)
        return rank_in_place(scores, target_score).cpu().numpy()

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


def _top_items(scores: Tensor, top: int) -> NDArray[np.int32]:
    if top == 0:
        return np.zeros((len(scores), 0), np.int32)
    values, items = top_k(scores, top)
    lists: NDArray[np.int32] = items.masked_fill_(values == -torch.inf, -1).to(torch.int32).cpu().numpy()
    return lists
