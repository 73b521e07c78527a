"""Rankers trained on the impressions of one snapshot, epoch by epoch: what each epoch cost and reached.

Cost is processor time of a process with one thread, steps only: it says the same on a busy machine as on a quiet one,
but for what shared caches take.
"""

import copy
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    if not path.is_file():
        found = _run(TrainSettings.resolve({**values, "out": str(work / "nowhere")}, use_environment=False))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found), encoding="utf-8")
    done: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return done


def _run(settings: TrainSettings) -> dict[str, Any]:
    import torch

    from hmar.evaluate.impressions import asked_about, judge_impressions
    from hmar.export import parameters
    from hmar.losses import loss_function, total_loss
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
    epochs: list[dict[str, float]] = []
    best, best_epoch, weights = -1.0, 0, model.state_dict()
    while len(epochs) < settings.max_epochs and len(epochs) - best_epoch < settings.patience:
        model.train()
        started = time.process_time()
        for batch in data.batches(len(epochs)):
            optimizer.zero_grad()
            total_loss(model, loss, batch).backward()
            optimizer.step()
        seconds = time.process_time() - started
        model.eval()
        auc = validate()["auc"]
        epochs.append({"seconds": round(seconds, 3), "auc": auc})
        if auc > best:
            best, best_epoch, weights = auc, len(epochs), copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
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
