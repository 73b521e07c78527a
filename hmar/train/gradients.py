"""The gradients of a step, in as many passes as memory asks for."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hmar.data.impressions import ImpressionBatch
from hmar.errors import ModelError
from hmar.models.base import TrainingBatch
from hmar.train.parts import part, terms
from hmar.train.step import Box

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_MESSAGES = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "bad_alloc")
"""What torch says, in a plain RuntimeError, where memory ran out outside its GPU allocator."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a tensor found no room, on a GPU or off it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


class Gradients:
    """Makes the gradients of a batch; where memory runs out, again in parts of half as many users, and so from there.

    The parts' gradients add up to the batch's (:mod:`hmar.train.parts`); only noise (dropout) is drawn anew, from where
    the step began to draw.

    Attributes:
        users: of one pass at most; None as long as every batch went through whole.
    """

    def __init__(self, fabric: "Fabric", step: nn.Module, warn: Callable[[str], None]) -> None:
        """
        Args:
            step: the module that gives a batch's loss, as Fabric wrapped it. warn: hears of every smaller size.
        """
        self.fabric, self.step, self.warn = fabric, step, warn
        self.users: int | None = None

    def of(self, batch: TrainingBatch | ImpressionBatch, positions: int, where: str) -> Tensor:
        """Leave the gradients in the parameters, which had none, and return the loss, a scalar without a graph.

        Args:
            batch: what this process has to do of a step; may be without users. positions: of the whole step, over all
            processes: what its loss is a mean over (:func:`hmar.train.parts.terms`). where: names the step in messages.

        Raises:
            ModelError: no memory for one user alone.
        """
        noise = self._noise()
        while True:
            try:
                return self._passes(batch, positions)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            # Out here, because the traceback of the error holds the tensors of the failed pass.
            self._halve(batch, reason, where)
            self._take_up(noise)

    def _passes(self, batch: TrainingBatch | ImpressionBatch, positions: int) -> Tensor:
        users = len(batch.histories)
        size = min(self.users or users, users)
        total = torch.zeros((), device=self.fabric.device)
        for start in range(0, users, max(size, 1)):
            some = batch if size == users else part(batch, start, min(start + size, users))
            loss: Tensor = self.step(Box(some.to(self.fabric.device)))
            share = terms(some)
            if share != positions:
                loss = loss * (share / positions)
            self.fabric.backward(loss)
            total = loss.detach() if size == users else total + loss.detach()
        return total

    def _halve(self, batch: TrainingBatch | ImpressionBatch, reason: str, where: str) -> None:
        for parameter in self.step.parameters():
            parameter.grad = None
        if self.fabric.device.type == "cuda":
            torch.cuda.empty_cache()
        users = min(self.users or len(batch.histories), len(batch.histories))
        if users <= 1:
            raise ModelError(
                f"out of memory at {where} with one user at a time ({reason}); lower max_length or the model's width"
            )
        self.users = -(-users // 2)
        self.warn(f"out of memory at {where} ({reason}); going on in passes of {self.users} users, to the same result")

    def _noise(self) -> Sequence[Any]:
        cuda = self.fabric.device.type == "cuda"
        return torch.get_rng_state(), torch.cuda.get_rng_state(self.fabric.device) if cuda else None

    def _take_up(self, noise: Sequence[Any]) -> None:
        torch.set_rng_state(noise[0])
        if noise[1] is not None:
            torch.cuda.set_rng_state(noise[1], self.fabric.device)
