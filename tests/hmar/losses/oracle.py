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
    """<q, o_item>, and <g, phi> where there is evidence, when the event's behavior is asked for just before it."""
    asked, time = int(snapshot.behavior[event]), int(snapshot.time[event])
    since = torch.tensor([time - int(snapshot.time[event - 1])])
    query_D = encoder.query(state_D[None], torch.tensor([asked]), since)[0]
    item_1 = torch.tensor([item])
    user = int((snapshot.offsets[1:] <= event).sum())
    before = [row for row in range(snapshot.offsets[user], event) if snapshot.item[row] == item]
    counts = torch.zeros(1, len(snapshot.behaviors), dtype=torch.float64)
    for row in before:
        counts[0, snapshot.behavior[row]] += 1
    if encoder.uses_recency:
        plain = query_D @ encoder.item_vectors(item_1, None)[0]
        if not before:
            return plain
        phi = evidence(
            counts[0], int(snapshot.behavior[before[-1]]), event - before[-1], time - snapshot.time[before[-1]]
        )
        return plain + encoder.evidence_weights(query_D[None])[0] @ phi
    if not encoder.uses_hbi:
        return query_D @ encoder.item_vectors(item_1, None)[0]
    counts[0, asked] += 1
    return query_D @ encoder.item_vectors(item_1, counts)[0]


def evidence(counts_R: Tensor, behavior: int, events: int, age: int) -> Tensor:
    """phi of hmar.models.hmar_plus: of an item that the user had, ``events`` events and ``age`` microseconds ago."""
    minutes = age / 60e6
    edges = [1, 10, 60, 360, *(1440 * days for days in (1, 3, 7, 30, 90, 180, 365))]
    phi = [1.0, *(math.log(1 + count) for count in counts_R.tolist())]
    phi += [float(code == behavior) for code in range(len(counts_R))]
    phi += [float(bucket == min(11, int(math.log2(events)))) for bucket in range(12)]
    phi += [float(bucket == sum(edge <= minutes for edge in edges)) for bucket in range(12)]
    return torch.tensor(phi, dtype=torch.float64)


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
