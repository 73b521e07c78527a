"""The processes of one training. Under torchrun each of them, a rank, computes its share of every batch.

The ranks hold the same weights and stay in step: the gradients that they add up are those of one process for the whole
batch, and so is everything that follows from them. Rank 0 alone judges, writes and tells; the others wait for its word.

This is data parallelism without DistributedDataParallel: that takes the mean of the ranks' gradients, while ours are
weighted by real positions before they are added, and it sends during the backward pass, of which a step that ran out of
memory could not be tried again on one rank alone.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from hmar.errors import Interrupted, SettingsError

START = timedelta(minutes=5)
"""How long a rank waits for the others to start, and for their gradients once they say that they have them."""

PATIENCE = timedelta(days=7)
"""How long it waits for their word: longer than any validation. A rank that died is noticed at once."""

_TOGETHER = 2**20
"""Gradients below so many numbers travel in one message."""

_NOISE = 2


class Ranks:
    """Which of the processes this is, and what they say to each other. Every method is called by all of them.

    Alone, nothing is said and every method returns what it was given.
    """

    def __init__(self, rank: int = 0, size: int = 1, local: int = 0, local_size: int = 1) -> None:
        self.rank, self.size, self.local, self.local_size = rank, size, local, local_size
        self._patient: dist.ProcessGroup | None = None

    @classmethod
    def of_environment(cls) -> "Ranks":
        """As torchrun says it: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE; alone where it says nothing.

        Raises:
            SettingsError: it says half of it.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        try:
            rank, local, local_size = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"))
        except KeyError as missing:
            raise SettingsError(
                f"WORLD_SIZE is {size} and {missing.args[0]} is not set; start several processes with torchrun, or "
                "unset WORLD_SIZE"
            ) from None
        return cls(rank, size, local, local_size)

    @property
    def alone(self) -> bool:
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that judges, writes and tells."""
        return self.rank == 0

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Connected with the others while the block runs: by gloo, and for tensors on GPUs by NCCL.

        Raises:
            Interrupted: another rank is gone.
        """
        if self.alone:
            yield
            return
        if self.local_size == self.size and sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: its name need not resolve
        logging.getLogger("torch.distributed").setLevel(logging.ERROR)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        with _others_gone():
            dist.init_process_group(backend, rank=self.rank, world_size=self.size, timeout=START)
            self._patient = dist.new_group(backend="gloo", timeout=PATIENCE)
        yield
        # Not after an error: it could wait for ranks that are gone, and the process ends anyway.
        dist.destroy_process_group()

    # -- what is said ------------------------------------------------------------------------------------------------

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        return flag if self.alone else bool(self._largest([flag])[0])

    def told(self, word: Any = None) -> Any:
        """What rank 0 gives, as JSON can say it; what the others give is ignored."""
        if self.alone:
            return word
        text = json.dumps(word).encode() if self.first else b""
        with _others_gone():
            length = torch.tensor([len(text)])
            dist.broadcast(length, 0, self._patient)
            content = torch.zeros(int(length), dtype=torch.uint8)
            if self.first:
                content.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
            dist.broadcast(content, 0, self._patient)
        return json.loads(content.numpy().tobytes())

    def equalize(self, tensors: Sequence[Tensor]) -> None:
        """Give every rank the content of rank 0's tensors, in place."""
        if self.alone:
            return
        with _others_gone():
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    def add_up(self, parameters: Sequence[torch.nn.Parameter], loss: Tensor) -> Tensor:
        """Sum the gradients over the ranks, in place, and return the sum of the losses.

        A parameter that got a gradient on no rank has none afterwards, as in one process; one that got none on this
        rank only, counts as zero here.
        """
        if self.alone:
            return loss
        used = self._largest([parameter.grad is not None for parameter in parameters])
        gradients = []
        for parameter, somewhere in zip(parameters, used, strict=True):
            if somewhere:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        small = [gradient for gradient in gradients if gradient.numel() < _TOGETHER]
        total = loss.detach().reshape(1).float()
        flat = torch.cat([total, *(gradient.reshape(-1).float() for gradient in small)])
        with _others_gone():
            dist.all_reduce(flat)
            for gradient in gradients:
                if gradient.numel() >= _TOGETHER:
                    dist.all_reduce(gradient)
        sums = flat[1:].split([gradient.numel() for gradient in small])
        for gradient, together in zip(small, sums, strict=True):
            gradient.copy_(together.view_as(gradient))
        return flat[0]

    def _largest(self, numbers: Sequence[int]) -> list[int]:
        together = torch.tensor(numbers, dtype=torch.int64)
        with _others_gone():
            dist.all_reduce(together, dist.ReduceOp.MAX, self._patient)
        return [int(number) for number in together]

    # -- what each one does ------------------------------------------------------------------------------------------

    def seed(self, seed: int, epoch: int, step: int) -> None:
        """Noise (dropout) of this rank's own, a function of all it is given; alone, noise goes on where it was."""
        if not self.alone:
            sequence = np.random.SeedSequence(seed, spawn_key=(_NOISE, epoch, step, self.rank))
            torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


@contextmanager
def _others_gone() -> Iterator[None]:
    """A broken connection is another rank's end, which says for itself what it was."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise Interrupted(
            f"another process of this training ended ({reason}); the same command goes on from the last checkpoint"
        ) from error
