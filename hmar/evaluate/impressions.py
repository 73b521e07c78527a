"""Judging a model on labelled impressions: one score for every candidate of every moment of a part."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from hmar.data.counting import PriorCounts
from hmar.data.impressions import pack_impressions
from hmar.data.snapshot import Impressions, Part, Snapshot
from hmar.evaluate import impression_metrics
from hmar.evaluate.impression_metrics import UserValues
from hmar.evaluate.intervals import clustered
from hmar.evaluate.names import IMPRESSION_METRICS, IMPRESSION_STRATA, LENGTH_EDGES, LENGTH_STRATA, full_name
from hmar.evaluate.ranking import refuse_nan
from hmar.models.base import CandidateCounts, Recommender
from hmar.models.catalog import checked

MOMENTS = 1024
"""Scored at once at most."""
CELLS = 2**17
"""(moment, candidate) cells of one chunk, padding included."""


IMPRESSIONS = "impressions"


@dataclass(frozen=True)
class ImpressionJudgement:
    """The raw outcome.

    Attributes:
        score: float64 [I], aligned with the candidates of ``impressions``; -inf for an item the model does not know.
        history_length: int64 [M], events before each moment, in every behavior.
        candidates: what the names of the metrics have in that place: impressions, impressions_<task>.
    """

    snapshot: str
    split: str
    part: Part
    impressions: Impressions
    score: NDArray[np.float64]
    history_length: NDArray[np.int64]
    candidates: str = IMPRESSIONS

    @cached_property
    def moment(self) -> NDArray[np.int64]:
        """int64 [I]: the place 0..M-1 of each candidate's moment."""
        return np.repeat(np.arange(len(self.impressions)), np.diff(self.impressions.offsets))

    @cached_property
    def users(self) -> UserValues:
        """The values of all users of the part."""
        of = self.impressions
        return impression_metrics.of_users(of.user[self.moment], of.label, self.score)

    def mean(self, metric: str) -> float:
        """One of ``names.IMPRESSION_METRICS`` over the part; NaN where it is not defined."""
        if metric == "auc":
            return impression_metrics.auc(self.impressions.label, self.score)
        if metric == "gauc":
            return impression_metrics.gauc(self.users)
        values = getattr(self.users, metric)[self.users.judged]
        return float(values.mean()) if len(values) else float("nan")


def asked_about(model: Recommender) -> tuple[str, ...]:
    """The tasks that a model has learned; "" is the target."""
    tasks: tuple[str, ...] = getattr(model, "tasks", ())
    return tasks or ("",)


def learned(model: Recommender, snapshot: Snapshot, split: str) -> tuple[str, ...]:
    """The tasks beside the target's that a model has learned and that the snapshot has impressions of."""
    return tuple(task for task in asked_about(model) if task in snapshot.tasks(split)[1:])


def judge_impressions(
    model: Recommender,
    snapshot: Snapshot,
    split: str,
    part: Part,
    *,
    max_length: int,
    prior: PriorCounts | None = None,
    task: str = "",
) -> ImpressionJudgement:
    """Score every impression of a part, on the device the model is on.

    Args:
        task: the behavior that they ask about; the target if empty.

    Raises:
        ModelError: NaN scores; model and user are named.
        DataError: the snapshot has no labelled impressions of the split.
    """
    impressions = snapshot.impressions(split, part, task)
    prior = prior or PriorCounts(snapshot)
    device = model.popularity.device
    counted = bool(getattr(model, "uses_counts", True))
    nothing = torch.zeros(0, dtype=torch.int64)
    no_counts = CandidateCounts(nothing, nothing, torch.zeros(0, len(snapshot.behaviors))).to(device)
    widths = np.diff(impressions.offsets)
    # Moments of equally many candidates together, so that little is padding.
    order, start = np.argsort(widths, kind="stable"), 0
    score = np.zeros(len(impressions.item))
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            while start < len(order):
                stop = start + 1
                while stop < min(len(order), start + MOMENTS) and (stop + 1 - start) * widths[order[stop]] <= CELLS:
                    stop += 1
                chosen = order[start:stop]
                batch = pack_impressions(snapshot, impressions, chosen, max_length, model.reads).to(device)
                user, end = impressions.user[chosen], impressions.history_end[chosen]
                seen = prior.history_items(user, end).to(device) if counted else no_counts
                scores = model.score(batch.histories, seen, batch.items)
                scores = checked(scores, model, tuple(batch.items.shape)).masked_fill(~batch.real, -torch.inf)
                refuse_nan(scores, model, lambda row, user=user: _name(snapshot, int(user[row])))  # type: ignore[misc]
                rows = np.repeat(impressions.offsets[chosen], widths[chosen]) + _places(widths[chosen])
                score[rows] = scores[batch.real].double().cpu().numpy()
                start = stop
    finally:
        model.train(was_training)
    return ImpressionJudgement(
        snapshot=snapshot.manifest.id,
        split=split,
        part=part,
        impressions=impressions,
        score=score,
        history_length=impressions.history_end - snapshot.offsets[impressions.user],
        candidates=IMPRESSIONS if task in ("", snapshot.manifest.target) else f"{IMPRESSIONS}_{task}",
    )


def summarize_impressions(
    judgement: ImpressionJudgement, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> dict[str, float]:
    """All metrics by their full names (see ``names``), with intervals over users.

    A stratum is the impressions of the moments with such a history. It has counts always, a metric only where it is
    defined, and an interval only with two users.
    """
    impressions, moment = judgement.impressions, judgement.moment
    user = impressions.user[moment]
    summary: dict[str, float] = {}
    for stratum, chosen in _strata(judgement).items():
        label, score = impressions.label[chosen], judgement.score[chosen]
        values = impression_metrics.of_users(user[chosen], label, score)
        judged = values.judged
        counts = {"impressions": len(label), "positives": int(label.sum()), "users": int(judged.sum())}
        summary |= {full_name(judgement.part, judgement.candidates, stratum, name): n for name, n in counts.items()}
        samples: dict[str, tuple[NDArray[np.float64], NDArray[np.integer]]] = {}
        if 0 < counts["positives"] < counts["impressions"]:
            samples["auc"] = (impression_metrics.auc_parts(label, score), user[chosen])
        if judged.any():
            kept = judged[values.of]
            samples["gauc"] = (values.auc[values.of][kept], user[chosen][kept])
            samples |= {name: (getattr(values, name)[judged], values.user[judged]) for name in ("mrr", "ndcg")}
        for metric in IMPRESSION_METRICS:
            if metric not in samples:
                continue
            of_metric, users = samples[metric]
            interval = clustered(of_metric[:, None], users, confidence, resamples, seed)
            name = full_name(judgement.part, judgement.candidates, stratum, metric)
            summary[name] = float(interval.mean[0])
            if interval.users > 1:
                # A first-order interval of an AUC near 0 or 1 may reach beyond.
                low, high = np.clip([interval.low[0], interval.high[0]], 0, 1)
                summary[f"{name}/low"], summary[f"{name}/high"] = float(low), float(high)
    return summary


def table(judgement: ImpressionJudgement, snapshot: Snapshot, leaks: Collection[str] = ()) -> pa.Table:
    """One row per user with impressions in the part: user_id as the source has it, user int32, impressions and
    positives int64, auc, mrr and ndcg double (null where all labels are equal), history_length int64 of the last
    moment; snapshot, split, part and leaks stand in the schema's metadata."""
    values, impressions = judgement.users, judgement.impressions
    longest = np.zeros(len(values.user), np.int64)
    np.maximum.at(longest, np.searchsorted(values.user, impressions.user), judgement.history_length)
    columns = {
        "user_id": snapshot.users.column("user_id").take(pa.array(values.user)).combine_chunks(),
        "user": pa.array(values.user.astype(np.int32)),
        "impressions": pa.array(values.impressions),
        "positives": pa.array(values.positives),
        **{name: pa.array(getattr(values, name), mask=~values.judged) for name in ("auc", "mrr", "ndcg")},
        "history_length": pa.array(longest),
    }
    about = {
        "snapshot": judgement.snapshot,
        "split": judgement.split,
        "part": judgement.part,
        "leaks": ", ".join(leaks),
    }
    return pa.table(columns).replace_schema_metadata(about)


def _strata(judgement: ImpressionJudgement) -> dict[str, NDArray[np.bool_]]:
    """bool [I] per name in ``names.IMPRESSION_STRATA``."""
    length = judgement.history_length[judgement.moment]
    edges = (*LENGTH_EDGES, np.inf)
    by_length = {
        name: (length >= low) & (length < high)
        for name, low, high in zip(LENGTH_STRATA, edges[:-1], edges[1:], strict=True)
    }
    found = {"all": np.ones(len(length), bool), "cold_user": length == 0, **by_length}
    return {name: found[name] for name in IMPRESSION_STRATA}


def _places(widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0..w-1 for each width, end to end."""
    return np.arange(int(widths.sum())) - np.repeat(np.cumsum(widths) - widths, widths)


def _name(snapshot: Snapshot, user: int) -> str:
    return f"user {snapshot.users.column('user_id')[user].as_py()!r}"
