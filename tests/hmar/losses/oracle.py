"""Every loss by its definition: one position and one item at a time, counts by loops over the event table."""

import math
from collections import Counter

import torch
from torch import Tensor

from hmar.data.snapshot import Snapshot
from hmar.models.base import Encoder, TrainingBatch

SPLIT = "leave_one_out"


def asked_events(snapshot: Snapshot, batch: TrainingBatch, reads: tuple[str, ...] | None, length: int) -> list[int]:
    """The row of the event table that each position of the batch predicts."""
    found = []
    for user in batch.user.tolist():
        rows = range(snapshot.offsets[user], snapshot.train_end(SPLIT)[user])
        read = [row for row in rows if reads is None or snapshot.behaviors[snapshot.behavior[row]] in reads]
        found += read[-(length + 1) :][1:]
    return found


def score(encoder: Encoder, snapshot: Snapshot, state_D: Tensor, event: int, item: int) -> Tensor:
    """<h, o_item> when the event's behavior is asked for just before the event."""
    item_1 = torch.tensor([item])
    if not encoder.uses_hbi:
        return state_D @ encoder.item_vectors(item_1, None)[0]
    user = int((snapshot.offsets[1:] <= event).sum())
    counts = torch.zeros(1, len(snapshot.behaviors), dtype=torch.float64)
    for earlier in range(snapshot.offsets[user], event):
        if snapshot.item[earlier] == item:
            counts[0, snapshot.behavior[earlier]] += 1
    counts[0, snapshot.behavior[event]] += 1
    return state_D @ encoder.item_vectors(item_1, counts)[0]


def log_q(snapshot: Snapshot, reads: tuple[str, ...] | None, source: str, true: int | None) -> list[float]:
    """The log-probability of drawing each item, where the true one, if given, cannot be drawn."""
    weights: Counter[int] = Counter(range(snapshot.n_items))
    if source == "popularity":
        for user in range(snapshot.n_users):
            for row in range(snapshot.offsets[user], snapshot.train_end(SPLIT)[user]):
                if reads is None or snapshot.behaviors[snapshot.behavior[row]] in reads:
                    weights[int(snapshot.item[row])] += 1
    total = sum(weight for item, weight in weights.items() if item != true)
    return [-math.inf if item == true else math.log(weights[item] / total) for item in range(snapshot.n_items)]


def bce(positive: Tensor, negatives: list[Tensor], log_q: list[float], weight: float) -> Tensor:
    seen = -weight * positive.sigmoid().log()
    return seen - sum(((-negative).sigmoid().log() for negative in negatives), torch.zeros(()))


def bpr(positive: Tensor, negatives: list[Tensor], log_q: list[float], weight: float) -> Tensor:
    terms = [-(positive - negative).sigmoid().log() for negative in negatives]
    return weight * sum(terms, torch.zeros(())) / len(log_q)


def gbce(positive: Tensor, negatives: list[Tensor], log_q: list[float], weight: float, t: float, items: int) -> Tensor:
    alpha = len(log_q) / (items - 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    seen = -weight * (positive.sigmoid() ** beta).log()
    return (seen - sum(((-one).sigmoid().log() for one in negatives), torch.zeros(()))) / (len(log_q) + 1)


def sampled_softmax(positive: Tensor, negatives: list[Tensor], log_q: list[float], weight: float) -> Tensor:
    drawn = len(log_q)
    others = [one.exp() / (drawn * math.exp(q)) for one, q in zip(negatives, log_q, strict=False)]
    return -weight * (positive.exp() / (positive.exp() + sum(others, torch.zeros(())))).log()


def cross_entropy(positive: Tensor, others: list[Tensor], weight: float) -> Tensor:
    return -weight * (positive.exp() / (positive.exp() + sum((one.exp() for one in others), torch.zeros(())))).log()
