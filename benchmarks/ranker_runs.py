"""Rankers trained on the impressions of one snapshot, epoch by epoch: what each epoch cost and reached.

Cost is processor time of a process with one thread, steps only: it says the same on a busy machine as on a quiet one,
but for what shared caches take.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hmar.atomic import read_json, write_text
from hmar.data.snapshot import Snapshot
from hmar.train.settings import TrainSettings


def run(values: Mapping[str, Any], work: Path) -> dict[str, Any]:
    """Train as the values (:class:`hmar.train.settings.TrainSettings`, without ``out``) say, until ``patience`` epochs
    brought no better validation AUC; judge the best epoch on the test part. A run that ``work`` holds is not repeated.

    Returns:
        epochs: of each its ``seconds`` and validation ``auc``, the mean over the tasks; best_epoch, from 1; weights:
        how many; test: by task its ``auc``, ``gauc``, and ``by_user``: user -> AUC, for those with both labels.
    """
    key = hashlib.sha256(json.dumps(dict(values), sort_keys=True, default=str).encode()).hexdigest()[:16]
    path = work / f"{values['model']}-{values['seed']}-{key}.json"
    # A damaged file is none: a run can be made again.
    found: dict[str, Any] | None = read_json(path)
    if found is None:
        settings = TrainSettings.resolve({**values, "out": str(work / "nowhere")}, use_environment=False)
        write_text(path, json.dumps(_run(settings)))
        found = read_json(path)
    assert found is not None
    return found


def impressions_by_user(snapshot: Snapshot, split: str, task: str) -> dict[str, int]:
    """User -> impressions of the test part: what GAUC weights users with. The keys are those of ``by_user``."""
    shown = snapshot.impressions(split, "test", task)
    users, place = np.unique(shown.user, return_inverse=True)
    counts = np.bincount(place, weights=np.diff(shown.offsets))
    return dict(zip(map(str, users.tolist()), counts.astype(int).tolist(), strict=True))


def _run(settings: TrainSettings) -> dict[str, Any]:
    import torch

    from benchmarks.fitting import fit
    from hmar.evaluate.impressions import asked_about, judge_impressions
    from hmar.export import parameters
    from hmar.losses import loss_function
    from hmar.models import model_class
    from hmar.models.base import Vocabulary
    from hmar.models.ranker import Ranker
    from hmar.train.data import training_data
    from hmar.train.optimizer import make_optimizer
    from hmar.train.validation import validation

    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    snapshot = Snapshot(settings.snapshot)
    kind = model_class(settings.model)
    model = kind(kind.Config.parse(settings.config), Vocabulary.of(snapshot))
    assert isinstance(model, Ranker)
    model.fit_counts(snapshot, settings.split)
    loss = loss_function(settings.loss)
    data = training_data(settings, snapshot, model, loss)
    optimizer = make_optimizer(settings, model, "cpu")
    validate = validation(model, snapshot, settings.split, settings.max_length, data.prior, metric="auc")
    assert validate is not None, "no impressions to validate on"
    course, best_epoch = fit(
        model, loss, data.batches, optimizer, lambda: validate()["auc"], settings.max_epochs, settings.patience
    )
    epochs = [{"seconds": epoch["seconds"], "auc": epoch["value"]} for epoch in course]
    test: dict[str, Any] = {}
    for task in asked_about(model):
        judged = judge_impressions(
            model, snapshot, settings.split, "test", max_length=settings.max_length, prior=data.prior, task=task
        )
        users = judged.users
        by_user = zip(users.user[users.judged].tolist(), users.auc[users.judged].tolist(), strict=True)
        test[task or snapshot.manifest.target] = {
            "auc": judged.mean("auc"),
            "gauc": judged.mean("gauc"),
            "by_user": dict(by_user),
        }
    return {"epochs": epochs, "best_epoch": best_epoch, "weights": parameters(model), "test": test}
