"""How the tokens of a packed batch fall into segments, in the form that each attention kernel reads.

A segment is a run of consecutive tokens that see each other, each the ones up to itself: one row's history, or one
row's events of one behavior. Every form is planned from the segments' lengths alone, once per batch for any number of
layers, where possible on the CPU while a GPU computes on the batch before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any, TypeVar

import torch
from torch import Tensor

from hmar.data.histories import Histories
from hmar.data.moving import moved

Form = TypeVar("Form")

BLOCK = 128
"""Tokens of a block: the unit in which FlexAttention skips what its mask excludes."""


@dataclass(frozen=True)
class Buckets:
    """Segments in buckets of similar length, padded at the end to the longest of their bucket.

    Bucket bounds grow by half at most, hence at most a third of a bucket is padding, which repeats a segment's last
    token.

    Attributes:
        shapes: of each bucket, its segments and the cells of each: a grid [n, length].
        token: int64 [C], the token in every cell of all buckets, end to end. cell: int64 [T], the cell of each token.
        padding: int64 [C - T], the other cells.
    """

    shapes: tuple[tuple[int, int], ...]
    token: Tensor
    cell: Tensor
    padding: Tensor

    @property
    def cells(self) -> list[int]:
        """Of each bucket."""
        return [segments * length for segments, length in self.shapes]

    @classmethod
    def of(cls, lengths: Tensor) -> "Buckets":
        """For consecutive segments of ``lengths`` int64 [S], zeros allowed; T is their sum."""
        start = lengths.cumsum(0) - lengths
        lengths, by_length = lengths.sort(stable=True)
        start = start[by_length]
        longest = int(lengths[-1]) if len(lengths) else 0
        bounds = torch.tensor([0, *_bounds(longest)])
        first, *ends = torch.searchsorted(lengths, bounds, right=True).tolist()
        none = torch.zeros(0, dtype=torch.int64)
        shapes, tokens, real = [], [none], [none.bool()]
        for end in ends:
            if end == first:
                continue
            sizes = lengths[first:end, None]
            length = int(sizes[-1])
            steps = torch.arange(length)
            shapes.append((end - first, length))
            tokens.append((start[first:end, None] + torch.minimum(steps, sizes - 1)).view(-1))
            real.append((steps < sizes).view(-1))
            first = end
        token, is_real = torch.cat(tokens), torch.cat(real)
        filled = is_real.nonzero()[:, 0]
        cell = torch.empty_like(filled)
        cell[token[filled]] = filled
        return cls(tuple(shapes), token, cell, (~is_real).nonzero()[:, 0])


def _bounds(longest: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, 24, ... up to the first that reaches ``longest``."""
    bounds = [1]
    for power in count(1):
        if bounds[-1] >= longest:
            break
        bounds += [2**power] if power == 1 else [3 * 2 ** (power - 2), 2**power]
    return bounds


@dataclass(frozen=True)
class Ends:
    """Segments end to end, as variable-length kernels read them.

    Attributes:
        cumulative: int32 [S'+1], where each of the segments that are not empty begins, and T.
        longest: tokens of the longest.
    """

    cumulative: Tensor
    longest: int

    @classmethod
    def of(cls, lengths: Tensor) -> "Ends":
        """For consecutive segments of ``lengths`` int64 [S], zeros allowed."""
        filled = lengths[lengths > 0]
        cumulative = torch.cat([torch.zeros(1, dtype=torch.int64), filled.cumsum(0)])
        return cls(cumulative.to(torch.int32), int(filled.max()) if len(filled) else 0)


@dataclass(frozen=True)
class Blocks:
    """The block mask of FlexAttention over ``padded`` tokens: for each block of queries, the blocks of keys to visit.

    Every token of padding is a segment of its own. The number of tokens is rounded up by an eighth at most, so that
    batches have few sizes and the kernel, which is compiled for each, is compiled a few times only.

    Attributes:
        segment: int32 [padded], the segment of each token.
        partial_count: int32 [N], for each of the N blocks of queries how many blocks of keys need the mask;
        partial: int32 [N, N], which, in the first so many columns. full_count, full: those of which every key is seen
        by every query.
    """

    tokens: int
    padded: int
    segment: Tensor
    partial_count: Tensor
    partial: Tensor
    full_count: Tensor
    full: Tensor

    @classmethod
    def of(cls, lengths: Tensor) -> "Blocks":
        """For consecutive segments of ``lengths`` int64 [S], zeros allowed."""
        tokens = int(lengths.sum())
        padded = _few_sizes(tokens)
        lengths = torch.cat([lengths, torch.ones(padded - tokens, dtype=lengths.dtype)])
        segment = torch.repeat_interleave(lengths)
        start = (lengths.cumsum(0) - lengths)[segment].view(-1, BLOCK)
        block = torch.arange(padded // BLOCK)
        # Earlier tokens of a query's segment reach from its start to itself. Seen from a block of queries, keys are
        # needed from the first query's start on, and all are seen by all from the last query's start on.
        needed = start[:, 0] // BLOCK
        whole = torch.maximum(-(-start[:, -1] // BLOCK), needed)
        whole = torch.minimum(whole, block)
        partial = ((block >= needed[:, None]) & (block < whole[:, None])) | (block == block[:, None])
        full = (block >= whole[:, None]) & (block < block[:, None])
        return cls(tokens, padded, segment.to(torch.int32), *_listed(partial), *_listed(full))


def _few_sizes(tokens: int) -> int:
    """The smallest multiple of BLOCK, of at most four significant binary digits, that is not below ``tokens``."""
    blocks = max(1, -(-tokens // BLOCK))
    unit: int = 2 ** max(0, blocks.bit_length() - 4)
    return -(-blocks // unit) * unit * BLOCK


def _listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many columns of each row are chosen, and which; the rest of a row is filled with the others."""
    return chosen.sum(1).to(torch.int32), chosen.to(torch.int8).argsort(dim=1, descending=True, stable=True).to(
        torch.int32
    )


FORMS: dict[str, Callable[[Tensor], Any]] = {"bucketed": Buckets.of, "varlen": Ends.of, "flex": Blocks.of}
"""What each kernel of :mod:`hmar.layers.kernels` reads."""


@dataclass(frozen=True)
class Segments:
    """Consecutive segments of packed tokens.

    Attributes:
        lengths: int64 [S], zeros allowed, wherever the tokens are.
    """

    lengths: Tensor

    @classmethod
    def of(cls, lengths: Tensor) -> "Segments":
        return cls(lengths)

    @classmethod
    def of_rows(cls, histories: Histories) -> "Segments":
        """A segment for each row."""
        segments: Segments = histories.planned("rows", lambda: cls(histories.lengths))
        return segments

    @cached_property
    def plans(self) -> dict[str, Any]:
        """The forms that were asked for; they move along to other devices."""
        return {}

    def form(self, kernel: str) -> Any:
        """What ``kernel`` reads, planned on the CPU. Where nobody planned it before the tokens were moved to a GPU,
        this waits for the GPU."""
        if kernel not in self.plans:
            self.plans[kernel] = moved(FORMS[kernel](self.lengths.cpu()), self.lengths.device)
        return self.plans[kernel]
