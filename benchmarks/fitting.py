"""The loop of benchmarks that train without checkpoints and MLflow: epochs until validation gains nothing."""

import copy
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

from hmar.losses import total_loss
from hmar.models.base import Encoder
from hmar.models.ranker import Ranker
from hmar.train.early_stopping import EarlyStopping


def fit(
    model: Encoder | Ranker,
    loss: Any,
    batches: Callable[[int], Iterable[Any]],
    optimizer: torch.optim.Optimizer,
    validate: Callable[[], float],
    epochs: int,
    patience: int,
) -> tuple[list[dict[str, float]], int]:
    """Train until ``patience`` epochs brought no better value; the model then has the weights of the best epoch.

    Args:
        loss: as :func:`hmar.losses.loss_function` gives it.
        batches: of an epoch, counted from 0.
        validate: the value, higher is better, of the model in evaluation mode.

    Returns:
        Of each epoch its ``seconds``, processor time of the steps alone, and its ``value``; the best epoch, from 1.
    """
    stopping, weights = EarlyStopping(patience), model.state_dict()
    course: list[dict[str, float]] = []
    while len(course) < epochs and not stopping.exhausted:
        model.train()
        started = time.process_time()
        for batch in batches(len(course)):
            optimizer.zero_grad()
            total_loss(model, loss, batch).backward()
            optimizer.step()
        seconds = time.process_time() - started
        model.eval()
        value = validate()
        course.append({"seconds": round(seconds, 3), "value": value})
        if stopping.update(len(course), value):
            weights = copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    return course, stopping.best_epoch
