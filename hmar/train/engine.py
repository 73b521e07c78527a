"""Device, precision and threads: decided here and nowhere else."""

import logging
import os
from typing import TYPE_CHECKING

import torch

from hmar.errors import SettingsError
from hmar.train.settings import TrainSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def set_up(settings: TrainSettings) -> torch.device:
    """Set the threads of this process and choose its device.

    Raises:
        SettingsError: a device that is not there, or a precision it does not have.
    """
    torch.set_num_threads(settings.threads or available_cores())
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device: 'cuda' is not available here; use auto or cpu")
    if device == "cpu" and settings.precision == "16-mixed":
        raise SettingsError("precision: 16-mixed needs a GPU; use 32 or bf16-mixed")
    return torch.device(device)


def make_fabric(settings: TrainSettings, device: torch.device) -> "Fabric":
    """Lightning Fabric on ``device``: precision and, one day, more devices than one. Its import takes seconds."""
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    precision = "32-true" if settings.precision == "32" else settings.precision
    fabric = Fabric(accelerator=device.type, devices=1, precision=precision)
    fabric.launch()
    return fabric


def available_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_label(device: torch.device) -> str:
    """What a run says it was trained on: the GPU's name, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
