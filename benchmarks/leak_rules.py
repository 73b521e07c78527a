"""The rules beside every row of the price list, judged on the row's own snapshot and candidates."""

from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from hmar.data.histories import Histories
from hmar.data.snapshot import Snapshot
from hmar.models.base import CandidateCounts, Recommender, Rule, Vocabulary
from hmar.settings import Section

RULES = ("popularity", "recent", "seen_first")


class SeenFirst(Rule):
    """Items of the whole history, in any behavior, before all others; both by popularity, ties being ties.

    What a ranking among unseen negatives gives away, and nothing more.
    """

    Config = Section

    def score(self, histories: Histories, seen: CandidateCounts, items: Tensor) -> Tensor:
        return self.score_all(histories, seen).gather(1, items)

    def score_all(self, histories: Histories, seen: CandidateCounts) -> Tensor:
        scores = self.popularity.expand(len(histories), -1).clone()
        scores[seen.row, seen.item] += self.popularity.max() + 1
        return scores


def rule(name: str, snapshot: Snapshot, split: str) -> Recommender:
    """A rule of :data:`RULES`, counted on the split's training events."""
    from hmar.models import model_class

    kind: type[Recommender] = SeenFirst if name == "seen_first" else model_class(name)
    model = kind(kind.Config(), Vocabulary.of(snapshot))
    model.fit_counts(snapshot, split)
    return model.eval()


def outcome(name: str, snapshot: Snapshot, split: str, max_length: int, kept: Path) -> pa.Table:
    """The rule's outcome per test target (:mod:`hmar.evaluate.per_target`), read from ``kept`` or judged and kept."""
    from hmar import leaks
    from hmar.evaluate import per_target
    from hmar.evaluate.judge import judge

    if not kept.is_file():
        torch.set_num_threads(1)
        judged = judge(rule(name, snapshot, split), snapshot, split, "test", max_length=max_length, top=0)
        per_target.write(per_target.table(judged, snapshot, leaks.of_split(snapshot, split)), kept)
    return per_target.read(kept)
