"""Moving what is made of tensors to another device."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")


def each_tensor(value: T, change: Callable[[Tensor], Tensor]) -> T:
    """The same value with every tensor in it changed: those in dataclasses and tuples too; what else it has, stays."""
    changed: Any = value
    if isinstance(value, Tensor):
        changed = change(value)
    elif isinstance(value, tuple):
        changed = tuple(each_tensor(one, change) for one in value)
    elif is_dataclass(value) and not isinstance(value, type):
        given = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        changed = type(value)(**{name: each_tensor(one, change) for name, one in given.items()})
        if plans := getattr(value, "plans", None):
            changed.plans.update({name: each_tensor(plan, change) for name, plan in plans.items()})
    return cast(T, changed)


def moved(value: T, device: torch.device) -> T:
    """The same value on ``device``.

    From pinned memory a GPU fetches it while this thread goes on; from a GPU it is waited for, since the host would
    otherwise read what is not there yet.
    """
    return each_tensor(value, lambda tensor: tensor.to(device, non_blocking=device.type == "cuda"))


def pinned(value: T) -> T:
    """The same value in memory that a GPU can fetch by itself; it needs CUDA."""
    return each_tensor(value, lambda tensor: tensor if tensor.is_pinned() else tensor.pin_memory())
