"""What every model is to the rest of the house: something that scores items for histories.

Three kinds share it. A :class:`Rule` has no gradient, it is fitted by counting. An :class:`Encoder` turns a history
into a state per position and an item into a vector; the score is their dot product, so it trains on all positions
at once and ranks a whole catalog with one matrix product. A ranker sees the candidate inside the network:
:mod:`hmar.models.ranker`.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from hmar.data.count_runs import CountRuns
from hmar.data.evidence import Evidence
from hmar.data.histories import Histories
from hmar.data.moving import each_tensor, moved
from hmar.data.snapshot import Snapshot
from hmar.layers.attention_weights import Attention, recorded
from hmar.models.catalog import Catalog, ScoredCatalog, VectorCatalog
from hmar.settings import Section

if TYPE_CHECKING:
    from hmar.data.published import PublishedContext


@dataclass(frozen=True)
class Vocabulary:
    """The sizes and meanings a model is built for; saved beside its weights."""

    items: int
    behaviors: tuple[str, ...]
    target: int
    repeats: bool
    consuming: tuple[bool, ...]
    feedback: tuple[int, ...] = ()
    """What each behavior says of its item: 1 yes, -1 no, 0 neither; empty where that was not written down."""
    users: int = 0
    """Users of the snapshot, for models that learn something about each; 0 where that was not written down."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Vocabulary":
        return cls(
            items=snapshot.n_items,
            behaviors=snapshot.behaviors,
            target=snapshot.target_behavior,
            repeats=snapshot.manifest.repeats,
            consuming=tuple(bool(flag) for flag in snapshot.consuming),
            feedback=tuple(snapshot.feedback.tolist()),
            users=snapshot.n_users,
        )


@dataclass(frozen=True)
class CandidateCounts:
    """The history items of B rows that need their own candidate vector: each (row, item) once.

    Attributes:
        row: int64 [P]. item: int64 [P]. counts: float32 [P, R], events of the row with the item before its now, over
            the *whole* history, not only the last L events that a model reads.
        behavior, events, time: int64 [P], of the last of these events: what was done, how many events of the row ago
            (1: it is the row's last), and when, microseconds. None where nobody reads them.
    """

    row: Tensor
    item: Tensor
    counts: Tensor
    behavior: Tensor | None = None
    events: Tensor | None = None
    time: Tensor | None = None

    def at(self, index: Tensor) -> "CandidateCounts":
        """The cells with these indices, int64."""
        return each_tensor(self, lambda column: column[index])

    def evidence(self, now: Tensor) -> Evidence:
        """What the cells say when the rows are asked at ``now``, int64 [B], microseconds."""
        age = None if self.time is None else now[self.row] - self.time
        return Evidence(self.counts, self.behavior, self.events, age)

    def to(self, device: torch.device) -> "CandidateCounts":
        return moved(self, device)


class Recommender(nn.Module):
    """Scores items for histories; higher is better, the unit is the model's own, NaN is a defect.

    ``popularity``, a float32 [V] buffer of target-behavior counts in the training events, answers for rows whose
    history is empty.
    """

    Config: ClassVar[type[Section]]
    family: ClassVar[Literal["rule", "encoder", "ranker"]]
    trainable: ClassVar[bool] = True
    reads: tuple[str, ...] | None = None
    """The behaviors whose events the model reads and, in training, predicts; None means all."""
    published: "PublishedContext | None" = None
    """Counts and labels of HMAR's published code, which leak, in place of point-in-time ones; None means none."""
    popularity: Tensor

    def __init__(self, config: Section, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.register_buffer("popularity", torch.zeros(vocabulary.items))

    @abstractmethod
    def score(self, histories: Histories, seen: CandidateCounts, items: Tensor) -> Tensor:
        """Scores of chosen candidates, [B, N], for items int64 [B, N]; candidate order changes nothing."""

    @abstractmethod
    def score_all(self, histories: Histories, seen: CandidateCounts) -> Tensor:
        """Scores of the whole catalog, [B, V]; equal to :meth:`score` of every item."""

    def catalog(self) -> Catalog:
        """What gives the scores of the whole catalog in blocks, for any number of batches, under the weights as they
        are now; equal to :meth:`score_all` up to rounding."""
        return ScoredCatalog(self)

    def knows(self, items: Tensor) -> Tensor:
        """Whether it can score, and read events of, items int64 [N]; bool [N]."""
        return torch.ones_like(items, dtype=torch.bool)

    def looks_at(self, history: Histories, seen: CandidateCounts, items: Tensor) -> dict[str, Attention]:
        """What the layers look at in one history when they are asked about items int64 [1, N], by name, first to last;
        the model is in evaluation mode. None where it attends to nothing, or nothing was done yet.

        Found by itself are all layers with a method ``attention_weights`` that takes what their forward pass takes. A
        model whose attention is no layer's says it here.
        """
        if len(history.item) == 0:
            return {}
        return recorded(self, lambda: self.score(history, seen, items))

    def terms(self, history: Histories, seen: CandidateCounts, items: Tensor) -> dict[str, Tensor]:
        """What the scores of items int64 [1, N] are the sum of, for one history: by name, [1, N] each. Empty where a
        score is no sum whose terms mean something, and where nothing was done yet."""
        return {}

    def fit_counts(self, snapshot: Snapshot, split: str) -> None:
        """Fill what is counted rather than learned, from the training events of ``split``: ``popularity`` here."""
        from hmar.data.counting import popularity

        self.popularity.copy_(torch.from_numpy(popularity(snapshot, split, snapshot.target_behavior)))

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        """Work out ahead what encoding will ask of the histories when they are on ``device`` and queries and keys
        in ``dtype``; the plans stay with the histories. A saving, not a need."""

    def _or_popularity(self, histories: Histories, scores: Tensor, popularity: Tensor) -> Tensor:
        """Rows without a history are answered with ``popularity``, which broadcasts to ``scores``."""
        filled = histories.lengths > 0
        if bool(filled.all()):
            return scores
        return torch.where(filled[:, None], scores, popularity.to(scores.dtype))


class Rule(Recommender):
    """A model without weights: :meth:`fit_counts` is all its training."""

    family = "rule"
    trainable = False


@dataclass(frozen=True)
class TrainingBatch:
    """Positions t that predict t+1, packed.

    Attributes:
        histories: the inputs, T tokens; ``asked`` and ``now`` are of the last target and unused in training.
        next_item: int64 [T]. next_behavior: int64 [T]. next_hbi: float32 [T, R], counts that include the target event.
        negatives: int64 [T, N], or [N] where all positions share them; N is 0 where the loss needs none.
        negative_hbi: float32 [T, N, R]: counts so far of the *negative* item in the same user's history, plus one for
            next_behavior: the same rule as for the true item. Empty where negatives are shared.
        user: int64 [B], dense ids, to name the users of a bad batch.
        negative_log_q: float32, of the negatives' shape: the log of the probability with which each was drawn.
        count_runs: the counts of all items at every position, for losses that score the same items everywhere.
        behavior_label: int64 [T], the behavior that a behavior head is to name; None means next_behavior.
        next_time: int64 [T], microseconds of the event that is predicted; None in a batch that does not say.
        next_event: int64 [T], its row of the event table, for encoders that read recency; so are the next two.
        next_evidence: [T], of the true item just before. negative_evidence: [T, N], of negatives of a position's own.
    """

    histories: Histories
    next_item: Tensor
    next_behavior: Tensor
    next_hbi: Tensor
    negatives: Tensor
    negative_hbi: Tensor
    user: Tensor
    negative_log_q: Tensor | None = None
    count_runs: CountRuns | None = None
    behavior_label: Tensor | None = None
    next_event: Tensor | None = None
    next_time: Tensor | None = None
    next_evidence: Evidence | None = None
    negative_evidence: Evidence | None = None

    def to(self, device: torch.device) -> "TrainingBatch":
        return moved(self, device)


class Encoder(Recommender):
    """A state h_t per token, from it and the behavior asked about a query q_t, and a vector o_j per item; the score is
    <q_t, o_j>, to which the user's past with the item adds <g_t, phi_tj>, weights g_t made from the query and fixed
    features phi_tj.

    That past follows one rule for every item, in training and in evaluation: the row's events with the item before the
    moment of asking. As HBI, counts that enter the item's vector, it is those plus one for the behavior asked for.
    """

    family = "encoder"
    uses_hbi: bool = False
    """Whether an item's vector depends on its counts; if not, ``hbi`` is None in :meth:`item_vectors`."""
    uses_recency: bool = False
    """Whether a score depends on what the user did last with the item, and when: :meth:`features` of the evidence."""

    @property
    def uses_counts(self) -> bool:
        """Whether the items of a row's history have scores of their own."""
        return self.uses_hbi or self.uses_recency

    @abstractmethod
    def encode(self, histories: Histories) -> Tensor:
        """States [T, D], one per token; token t sees tokens up to t of its own row only."""

    @abstractmethod
    def item_vectors(self, item: Tensor, hbi: Tensor | None) -> Tensor:
        """o_j, [..., D], for item int64 [...] and hbi float32 [..., R], which may be broadcast along items."""

    def count_vectors(self) -> Tensor:
        """What one count per behavior adds to any item's vector, C [R, D]: o_j(c) = o_j(0) + c C. Asked for only where
        ``uses_hbi``; what makes a score linear in the counts, and the whole catalog's scores one product."""
        raise NotImplementedError(f"{type(self).__name__} uses counts and does not say how they enter")

    def query(self, states: Tensor, asked: Tensor, since: Tensor | None) -> Tensor:
        """q, [N, D'], for states [N, D]; the states themselves unless a model says otherwise.

        Args:
            asked: int64 [N], the behavior asked about. since: int64 [N], microseconds from the newest event that was
                read to the moment of asking; None where the batch does not say when its events are.
        """
        return states

    def training_states(self, batch: TrainingBatch) -> Tensor:
        """The states that training's queries and auxiliary terms are made of, [T, D]. A model that needs none of them
        may leave the work out."""
        return self.encode(batch.histories)

    def training_queries(self, states_TD: Tensor, batch: TrainingBatch) -> Tensor:
        """:meth:`query` about each position's next event."""
        since_T = None if batch.next_time is None else batch.next_time - batch.histories.time
        return self.query(states_TD, batch.next_behavior, since_T)

    def evidence_weights(self, queries: Tensor) -> Tensor:
        """g, [N, F], of queries [N, D']; what one count per behavior adds to the score, unless a model says otherwise.
        Asked for only where ``uses_counts``."""
        return queries @ self.count_vectors().T

    def features(self, evidence: Evidence) -> Tensor:
        """phi, [..., F], of cells [...]: nothing learned, and zeros where the user never had the item."""
        return evidence.counts

    def feature_names(self) -> tuple[str, ...]:
        """What the F features say; :meth:`terms` adds up those of one name."""
        return tuple(f"HBI {name}" for name in self.vocabulary.behaviors)

    def left_out(self, evidence: Evidence) -> Tensor | None:
        """bool [...]: cells whose item no loss compares the true item with, because no ranking offers it; None where
        there are none. Asked for only where ``uses_recency``."""
        return None

    def auxiliary_loss(self, states_TD: Tensor, batch: TrainingBatch) -> Tensor | None:
        """A further loss term on the states (HMAR's behavior head), already weighted; None where there is none."""
        return None

    def position_weights(self, batch: TrainingBatch) -> Tensor | None:
        """float [T]: the weight of each position's positive term (HMAR's alpha); None means 1."""
        return None

    def last_states(self, histories: Histories) -> Tensor:
        """h of the newest token per row, [B, D]; zeros where a row is empty."""
        states_TD = self.encode(histories)
        last = histories.offsets[1:] - 1
        if len(states_TD) == 0:
            return states_TD.new_zeros(len(histories), states_TD.shape[-1])
        picked = states_TD[last.clamp(min=0)]
        return torch.where((histories.lengths > 0)[:, None], picked, torch.zeros_like(picked))

    def last_queries(self, histories: Histories) -> Tensor:
        """:meth:`query` of every row about what it is asked, [B, D']."""
        states_BD = self.last_states(histories)
        newest = torch.nn.functional.pad(histories.time, (0, 1))[histories.offsets[1:] - 1]
        since_B = torch.where(histories.lengths > 0, histories.now - newest, 0)
        return self.query(states_BD, histories.asked, since_B)

    def score(self, histories: Histories, seen: CandidateCounts, items: Tensor) -> Tensor:
        queries_BD = self.last_queries(histories)
        hbi_BNR = None
        if self.uses_hbi:
            hbi_BNR = self._asked(histories.asked)[:, None] + self._counts_of(seen, items)
        scores_BN = torch.einsum("bd,bnd->bn", queries_BD, self.item_vectors(items, hbi_BNR))
        if self.uses_recency:
            index_BN, found_BN = self._cells_of(seen, items)
            row, place = found_BN.nonzero(as_tuple=True)
            evidence = seen.at(index_BN[row, place]).evidence(histories.now)
            added_P = (self.evidence_weights(queries_BD)[row] * self.features(evidence)).sum(-1)
            scores_BN = scores_BN.index_put((row, place), added_P.to(scores_BN.dtype), accumulate=True)
        return self._or_popularity(histories, scores_BN, self.popularity[items])

    def terms(self, history: Histories, seen: CandidateCounts, items: Tensor) -> dict[str, Tensor]:
        """The item's vector as if it had never been seen, what the counts of the user's past with it add, and what the
        behavior that is asked for adds to every item."""
        if len(history.item) == 0:
            return {}
        query_1D = self.last_queries(history)
        never_R = self.popularity.new_zeros(len(self.vocabulary.behaviors)) if self.uses_hbi else None
        found = {"item": torch.einsum("bd,bnd->bn", query_1D, self.item_vectors(items, never_R))}
        if not self.uses_counts:
            return found
        weights_1F = self.evidence_weights(query_1D)
        index_1N, found_1N = self._cells_of(seen, items)
        features_1NF = weights_1F.new_zeros(*items.shape, weights_1F.shape[1])
        features_1NF[found_1N] = self.features(seen.at(index_1N[found_1N]).evidence(history.now))
        for place, name in enumerate(self.feature_names()):
            added_1N = weights_1F[:, place : place + 1] * features_1NF[..., place]
            found[name] = found[name] + added_1N if name in found else added_1N
        if self.uses_hbi:
            found["asked"] = weights_1F.gather(1, history.asked[:, None]).expand(items.shape)
        return found

    def score_all(self, histories: Histories, seen: CandidateCounts) -> Tensor:
        """As in the base class: one matrix product, in which every item counts as never seen, and in the cells of the
        history items the scores of their own candidate vectors."""
        return VectorCatalog(self).scores(histories, seen).matrix()

    def catalog(self) -> Catalog:
        return VectorCatalog(self)

    def _asked(self, asked: Tensor) -> Tensor:
        """One-hot of behavior codes, float32 [..., R]."""
        return nn.functional.one_hot(asked, len(self.vocabulary.behaviors)).to(self.popularity.dtype)

    def _counts_of(self, seen: CandidateCounts, items: Tensor) -> Tensor:
        """Counts of chosen candidates, float32 [B, N, R]; zeros for an item that is not in the row's history."""
        counts = seen.counts.new_zeros(*items.shape, len(self.vocabulary.behaviors))
        if len(seen.row) == 0:
            return counts
        index, found = self._cells_of(seen, items)
        return torch.where(found[..., None], seen.counts[index], counts)

    def _cells_of(self, seen: CandidateCounts, items: Tensor) -> tuple[Tensor, Tensor]:
        """For chosen candidates [B, N] the index of their cell, int64, and whether there is one."""
        rows = torch.arange(len(items), device=items.device)[:, None]
        wanted = rows * self.vocabulary.items + items
        if len(seen.row) == 0:
            return torch.zeros_like(wanted), torch.zeros_like(wanted, dtype=torch.bool)
        keys, order = (seen.row * self.vocabulary.items + seen.item).sort()
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return order[place], keys[place] == wanted
