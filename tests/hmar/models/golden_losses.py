"""Twenty steps of training on a fixed seed, in float64 so that another CPU gives the same.

A change that should not touch the numbers must not. After one that should:

    python -m tests.hmar.models.golden_losses [RUN ...]
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hmar.data.batches import TrainingData
from hmar.data.impressions import ImpressionData
from hmar.losses import LOSSES, RANKER_LOSSES, loss_function, total_loss
from hmar.models import model_class
from hmar.models.base import Encoder
from hmar.models.ranker import Ranker
from tests.support.arrays import random_users, write_impressions, write_snapshot
from tests.support.contract import LOSS_DATA, RANKER_LOSS_DATA
from tests.support.models import build, in_double

GOLDEN = Path(__file__).parent / "golden"
STEPS = 20

CONFIGS: dict[str, dict[str, Any]] = {
    "hmar": {"d": 16, "heads": 2, "alpha": {"view": 0.1, "cart": 0.1, "buy": 0.7}},
    "hmar_plus": {"d": 16},
    "sasrec": {"d": 16, "heads": 2},
    "gru4rec": {"d": 16},
    "caser": {"d": 16},
    "bpr_mf": {"d": 16},
    "cnn": {"d": 16},
    "bi_lstm": {"d": 16},
    "bi_lstm_attention": {"d": 16},
    "din": {"d": 16},
    "dfar": {"d": 16},
    "dien": {"d": 16},
    "tha4rec": {"d": 16},
    "atrank": {"d": 16},
    "dfn": {"d": 16},
    "feedrec": {"d": 16},
}
RUNS = {
    f"{model}-{loss}": (model, loss)
    for model in CONFIGS
    for loss in (RANKER_LOSSES if model_class(model).family == "ranker" else LOSSES)
}


def losses(run: str, directory: Path) -> list[float]:
    """The losses of the first steps; ``directory`` is where the data may be written."""
    name, loss_name = RUNS[run]
    users = random_users(64, 50, 3, 40, seed=11, shortest=3)
    snapshot = write_snapshot(directory / "snapshot", users, items=50, seed=11)
    model = build(name, CONFIGS[name], snapshot, seed=11).double().train()
    assert isinstance(model, Encoder | Ranker)
    loss = loss_function(loss_name)
    given = {"max_length": 25, "batch_size": 16, "seed": 11}
    data: TrainingData | ImpressionData
    if isinstance(model, Encoder):
        data = TrainingData(snapshot, "leave_one_out", recency=model.uses_recency, **given, **LOSS_DATA[loss_name])
    else:
        data = ImpressionData(write_impressions(snapshot), "leave_one_out", **given, **RANKER_LOSS_DATA[loss_name])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.98))
    course: list[float] = []
    epoch = 0
    while len(course) < STEPS:
        for batch in data.batches(epoch):
            value = total_loss(model, loss, in_double(batch))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            course.append(value.item())
        epoch += 1
    return course[:STEPS]


def main(runs: Sequence[str]) -> None:
    GOLDEN.mkdir(exist_ok=True)
    for run in runs or RUNS:
        with tempfile.TemporaryDirectory() as directory:
            course = losses(run, Path(directory))
        (GOLDEN / f"{run}.json").write_text(json.dumps(course, indent=1) + "\n", encoding="utf-8")
        print(f"{run}: {course[0]:.6f} ... {course[-1]:.6f}")


if __name__ == "__main__":
    main(sys.argv[1:])
