"""Optimizer and learning rate."""

import torch
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hmar.train.settings import TrainSettings


def make_optimizer(settings: TrainSettings, model: torch.nn.Module, device: str) -> Optimizer:
    """Adam or AdamW over all weights, in its fused form wherever that exists.

    (The fused form undoes loss scaling by itself, which leaves clipping nothing to measure: not with 16-mixed.)
    """
    kind = {"adam": Adam, "adamw": AdamW}[settings.optimizer]
    scaled = settings.precision == "16-mixed" and settings.clip is not None
    optimizer: Optimizer = kind(
        model.parameters(),
        lr=settings.lr,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=device in ("cpu", "cuda") and not scaled,
    )
    return optimizer


def make_schedule(settings: TrainSettings, optimizer: Optimizer) -> LambdaLR:
    """A linear rise over ``warmup`` steps to lr, constant from there."""
    warmup = settings.warmup
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup) if warmup else 1.0)
