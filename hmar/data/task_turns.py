"""Labelled impressions of several tasks: one batch of one task after the other, as ATRank's all-in-one model trains."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hmar.data.counting import PriorCounts
from hmar.data.impressions import ImpressionBatch, ImpressionData
from hmar.data.snapshot import Snapshot


class TaskTurns:
    """The batches of several tasks as one epoch.

    Every task has all its batches in an epoch, spread over it evenly: tasks of equally many batches take strict turns,
    one with three times as many has three turns to the other's one. Like theirs, a batch is a function of (seed, epoch,
    step).
    """

    def __init__(self, tasks: Sequence[ImpressionData]) -> None:
        """
        Args:
            tasks: of one snapshot and split, in the order of the turns.
        """
        self.tasks = tuple(tasks)

    @property
    def snapshot(self) -> Snapshot:
        return self.tasks[0].snapshot

    @property
    def prior(self) -> PriorCounts:
        return self.tasks[0].prior

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return sum(task.steps for task in self.tasks)

    @property
    def tokens(self) -> int:
        """Candidates per epoch."""
        return sum(task.tokens for task in self.tasks)

    @cached_property
    def turns(self) -> NDArray[np.int64]:
        """int64 [steps]: whose batch each step has."""
        whose = np.repeat(np.arange(len(self.tasks)), [task.steps for task in self.tasks])
        when = np.concatenate([(np.arange(task.steps) + 0.5) / task.steps for task in self.tasks])
        turns: NDArray[np.int64] = whose[np.lexsort((whose, when))]
        return turns

    def users(self, epoch: int, step: int) -> NDArray[np.int64]:
        """The users of one batch, dense ids, each once."""
        task = int(self.turns[step])
        before = int((self.turns[:step] == task).sum())
        return self.tasks[task].users(epoch, before)

    def batches(self, epoch: int, start: int = 0) -> Iterator[ImpressionBatch]:
        """The batches of an epoch from step ``start`` on."""
        for batch, _ in self.shares(epoch, start):
            yield batch

    def shares(self, epoch: int, start: int = 0, rank: int = 0, size: int = 1) -> Iterator[tuple[ImpressionBatch, int]]:
        """As :meth:`hmar.data.impressions.ImpressionData.shares`."""
        done = np.bincount(self.turns[:start], minlength=len(self.tasks))
        own = [task.shares(epoch, int(first), rank, size) for task, first in zip(self.tasks, done, strict=True)]
        for task in self.turns[start:]:
            yield next(own[task])
