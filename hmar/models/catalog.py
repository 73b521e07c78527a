"""Scores of many histories for the whole catalog, a block of items at a time: a block is still in the cache when it is
masked, compared and searched, and nobody holds [B, V].

Shapes: B rows, V items, N items of a block, D width, R behaviors, P cells.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.errors import ModelError

if TYPE_CHECKING:
    from hmar.models.base import CandidateCounts, Encoder, Recommender


class Catalog(ABC):
    """A model's catalog under its present weights: made once, asked for any number of batches of histories."""

    whole: ClassVar[bool] = False
    """Whether the scores of a batch lie in memory as [B, V]."""

    @abstractmethod
    def scores(self, histories: Histories, seen: "CandidateCounts") -> "CatalogScores":
        """The scores of B histories."""


class CatalogScores(ABC):
    """The scores of B histories, to be had in blocks of items."""

    @abstractmethod
    def buffer(self, width: int) -> Tensor:
        """Memory for a block, [B, width]."""

    @abstractmethod
    def blocks(self, buffer_BN: Tensor, stop: int) -> Iterator[int]:
        """For start = 0, N, 2 N, ... below ``stop``, overwrite the buffer with the scores of items start : start + N
        and yield start. Columns of items from ``stop`` on mean nothing."""

    @abstractmethod
    def of(self, item_B: Tensor, width: int) -> Tensor:
        """Each row's score of one item, [B]: what a block of ``width`` items has there. A matrix product rounds by
        shape, so this is very likely the same number bit by bit, and not certainly."""

    @abstractmethod
    def pick(self, items_BN: Tensor) -> Tensor:
        """Scores of chosen items, [B, N]."""


class Cells:
    """Chosen cells (row, item), int64 [P] each, of a [B, V] matrix, to be found in its blocks of ``width`` items."""

    def __init__(self, row: Tensor, item: Tensor, width: int) -> None:
        item, self.order = item.sort()
        self.row = row[self.order]
        self._place = self.row * width + item % width
        self._width = width
        last = int(item[-1]) // width if len(item) else -1
        bounds = torch.arange(last + 2, device=item.device) * width
        self._bounds = torch.searchsorted(item, bounds).tolist()

    def of(self, start: int) -> tuple[slice, Tensor]:
        """Of the block from item ``start`` on: which of the ordered cells, and their places in its flat buffer."""
        number = start // self._width
        if number + 1 >= len(self._bounds):
            return slice(0, 0), self._place[:0]
        chosen = slice(self._bounds[number], self._bounds[number + 1])
        return chosen, self._place[chosen]


class ScoredCatalog(Catalog):
    """The catalog of a model that is nothing but :meth:`hmar.models.base.Recommender.score_all`."""

    whole = True

    def __init__(self, model: "Recommender") -> None:
        self._model = model

    def scores(self, histories: Histories, seen: "CandidateCounts") -> "Matrix":
        shape = (len(histories), self._model.vocabulary.items)
        return Matrix(checked(self._model.score_all(histories, seen), self._model, shape))


@dataclass(frozen=True)
class Matrix(CatalogScores):
    """Scores that lie in memory, [B, V]."""

    scores: Tensor

    def buffer(self, width: int) -> Tensor:
        return self.scores.new_empty(len(self.scores), width)

    def blocks(self, buffer_BN: Tensor, stop: int) -> Iterator[int]:
        width = buffer_BN.shape[1]
        for start in range(0, stop, width):
            end = min(start + width, stop)
            buffer_BN[:, : end - start] = self.scores[:, start:end]
            yield start

    def of(self, item_B: Tensor, width: int) -> Tensor:
        return self.pick(item_B[:, None])[:, 0]

    def pick(self, items_BN: Tensor) -> Tensor:
        return self.scores.gather(1, items_BN)


class VectorCatalog(Catalog):
    """The catalog of an encoder: a vector per item, made once.

    Where vectors depend on counts they do so linearly, o_j(c) = o_j(0) + c C, and the behavior that is asked for adds
    the same to all items of a row, <h, C_asked>: one more column, [h, <h, C_asked>] and [o_j(0), 1], whatever the rows
    ask for. History items have counts of their own and are single cells, <h, o_j(0)> + <h, C_asked> + <h, c C>; and so
    they are where evidence adds to the score, <q, o_j> + <g, phi>.
    """

    def __init__(self, encoder: "Encoder") -> None:
        self._encoder = encoder
        popularity = encoder.popularity
        every = torch.arange(encoder.vocabulary.items, device=popularity.device)
        if encoder.uses_hbi:
            never_R = popularity.new_zeros(1, len(encoder.vocabulary.behaviors))
            vectors_VD = encoder.item_vectors(every, never_R)
            self._vectors_VD = nn.functional.pad(vectors_VD, (0, 1), value=1.0)
        else:
            self._vectors_VD = encoder.item_vectors(every, None)

    def scores(self, histories: Histories, seen: "CandidateCounts") -> "Products":
        encoder, vectors_VD = self._encoder, self._vectors_VD
        queries_BD = encoder.last_queries(histories)
        row, item = seen.row[:0], seen.item[:0]
        own_P = queries_BD.new_zeros(0)
        if encoder.uses_counts:
            weights_BF = encoder.evidence_weights(queries_BD)
            if encoder.uses_hbi:
                queries_BD = torch.cat([queries_BD, weights_BF.gather(1, histories.asked[:, None])], dim=1)
            row, item = seen.row, seen.item
            features_PF = encoder.features(seen.evidence(histories.now))
            own_P = (queries_BD[row] * vectors_VD[item]).sum(-1) + (weights_BF[row] * features_PF).sum(-1)
        empty = (histories.lengths == 0).nonzero()[:, 0]
        return Products(queries_BD, vectors_VD, row, item, own_P, empty, encoder.popularity.to(queries_BD.dtype))


@dataclass(frozen=True)
class Products(CatalogScores):
    """<states_b, vectors_j>, but ``own`` at the cells (row, item), and popularity_j in all of the rows ``empty``.

    states [B, D], vectors [V, D]; row and item int64 [P], own [P]; empty int64; popularity [V]. All blocks are products
    of one shape, the last filled up with zeros, so that items with equal vectors are equals wherever they stand.
    """

    states: Tensor
    vectors: Tensor
    row: Tensor
    item: Tensor
    own: Tensor
    empty: Tensor
    popularity: Tensor

    def buffer(self, width: int) -> Tensor:
        return self.states.new_empty(len(self.states), width)

    def blocks(self, buffer_BN: Tensor, stop: int) -> Iterator[int]:
        width = buffer_BN.shape[1]
        cells = Cells(self.row, self.item, width)
        own_P = self.own[cells.order]
        for start in range(0, stop, width):
            torch.mm(self.states, self._part(start, width).T, out=buffer_BN)
            chosen, place = cells.of(start)
            buffer_BN.view(-1).scatter_(0, place, own_P[chosen])
            if len(self.empty):
                known_N = self.popularity[start : start + width]
                buffer_BN[self.empty, : len(known_N)] = known_N
            yield start

    def _part(self, start: int, width: int) -> Tensor:
        """[N, D] from item ``start`` on, filled up with zeros after the last."""
        vectors_ND = self.vectors[start : start + width]
        missing = width - len(vectors_ND)
        return nn.functional.pad(vectors_ND, (0, 0, 0, missing)) if missing else vectors_ND

    def of(self, item_B: Tensor, width: int) -> Tensor:
        scores_B = self.states.new_empty(len(item_B))
        for start in range(0, len(item_B), width):
            # Filled up to the width of a block: a product of the same shape adds in the same order.
            items = item_B.new_zeros(width)
            part = item_B[start : start + width]
            items[: len(part)] = part
            product_BN = self.states @ self.vectors[items].T
            scores_B[start : start + width] = product_BN[start : start + width].diagonal()[: len(part)]
        own = (self.item == item_B[self.row]).nonzero()[:, 0]
        scores_B[self.row[own]] = self.own[own]
        scores_B[self.empty] = self.popularity[item_B[self.empty]]
        return scores_B

    def pick(self, items_BN: Tensor) -> Tensor:
        scores_BN = torch.bmm(self.vectors[items_BN], self.states[:, :, None])[:, :, 0]
        if len(self.row):
            keys_P, order = (self.row * len(self.vectors) + self.item).sort()
            wanted_BN = torch.arange(len(items_BN), device=items_BN.device)[:, None] * len(self.vectors) + items_BN
            place_BN = torch.searchsorted(keys_P, wanted_BN).clamp(max=len(keys_P) - 1)
            scores_BN = torch.where(keys_P[place_BN] == wanted_BN, self.own[order[place_BN]], scores_BN)
        scores_BN[self.empty] = self.popularity[items_BN[self.empty]]
        return scores_BN

    def matrix(self) -> Tensor:
        """All of them, [B, V], with gradients."""
        scores_BV = self.states @ self.vectors.T
        scores_BV = scores_BV.index_put((self.row, self.item), self.own)
        if len(self.empty) == 0:
            return scores_BV
        return scores_BV.index_put((self.empty,), self.popularity)


def checked(scores: Tensor, model: "Recommender", shape: tuple[int, ...]) -> Tensor:
    """The scores that a model gave, as float32; they may be views of its own tensors.

    Raises:
        ModelError: they have not the shape they should.
    """
    if tuple(scores.shape) != shape:
        raise ModelError(f"{type(model).__name__} gave scores of shape {tuple(scores.shape)}, expected {shape}")
    return scores.float()
