"""A training step under torch.compile, where a machine has what that takes."""

import torch

from hmar.errors import SettingsError
from hmar.layers import attention, whole_attention
from hmar.losses import cross_entropy
from hmar.train.step import TrainingStep

SHAPES = 64
"""Graphs that one function may get. Sizes are symbols in them, so that a new number of positions makes no new graph;
none and one of something, an empty behavior for example, do."""


def compile_step(step: TrainingStep, device: torch.device) -> None:
    """Compile what lies between the attention kernels and the catalog's loss, which are kernels already, at its first
    use.

    Raises:
        SettingsError: there is no working compiler.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:  # torch wraps what a compiler says in classes of its own
        reason = " ".join(str(error).split())[:200]
        raise SettingsError(f"compile: torch.compile does not work here ({reason}); leave it out") from None
    attention.leave_out_of_compilation()
    whole_attention.leave_out_of_compilation()
    cross_entropy.leave_out_of_compilation()
    step.compile(dynamic=True, recompile_limit=SHAPES)
