"""Device, precision and threads of a training."""

import logging
from typing import TYPE_CHECKING

import torch

from hmar.errors import SettingsError
from hmar.threads import available_cores, limit_threads
from hmar.train.ranks import Ranks
from hmar.train.settings import TrainSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric


FORMATS = {"32": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""What matrix products are made in, by precision."""


def set_up(settings: TrainSettings, ranks: Ranks | None = None) -> torch.device:
    """Set the threads of this process and choose its device: with several processes on a machine, one GPU for each.

    Raises:
        SettingsError: a device that is not there, or a precision it does not have.
    """
    ranks = ranks or Ranks()
    limit_threads(settings.threads or max(1, available_cores() // ranks.local_size))
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    refuse_missing(device)
    if device == "cpu" and settings.precision == "16-mixed":
        raise SettingsError("precision: 16-mixed needs a GPU; use 32 or bf16-mixed")
    if device == "cpu" or ranks.alone:
        return torch.device(device)
    if ranks.local_size > torch.cuda.device_count():
        raise SettingsError(
            f"device: {ranks.local_size} processes on this machine and {torch.cuda.device_count()} GPUs; "
            "start as many processes as GPUs, or use cpu"
        )
    torch.cuda.set_device(ranks.local)
    return torch.device("cuda", ranks.local)


def refuse_missing(device: str) -> None:
    """
    Raises:
        SettingsError: this machine does not have the device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device: 'cuda' is not available on this machine; use auto or cpu")


def make_fabric(settings: TrainSettings, device: torch.device) -> "Fabric":
    """Lightning Fabric on ``device``, for its precision; how processes work together is :mod:`hmar.train.ranks`. Its
    import takes seconds."""
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    precision = "32-true" if settings.precision == "32" else settings.precision
    devices = 1 if device.index is None else [device.index]
    fabric = Fabric(accelerator=device.type, devices=devices, precision=precision)
    fabric.launch()
    return fabric


def device_label(device: torch.device) -> str:
    """What a run says it was trained on: the GPU's name, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
