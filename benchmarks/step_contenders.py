"""One contender of benchmarks/train_step.py, as a process of its own that waits for orders.

    python step_contenders.py <who> <task.json>

Whenever a line comes in, it goes once through its batches (forward, backward, optimizer) and prints the seconds of
every step as JSON; at the end of the input it prints its peak memory and ends. It stands alone, since the peers have
environments of their own without this package, and asks of a peer only what the peer's own training loop would do
between two batches: no logging, no callbacks, batches made beforehand.
"""

import json
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

Step = Callable[[Any], Any]
Made = tuple[Iterable[Any], Step]
"""Batches, and what trains on one of them."""
Maker = Callable[[], Made]

KIBIBYTE = 1 if sys.platform == "darwin" else 1024


def rectools(task: dict[str, Any]) -> Maker:
    """RecTools' SASRecModel: its batches, torch model, loss and optimizer."""
    import pandas as pd
    import torch
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    def make() -> Made:
        users = _users(task)
        table = pd.DataFrame(
            {
                Columns.User: [user for user, own in enumerate(users) for _ in own],
                Columns.Item: [item for own in users for item in own],
                Columns.Weight: 1.0,
                Columns.Datetime: pd.Timestamp("2020-01-01"),
            }
        )
        table[Columns.Datetime] += pd.to_timedelta(table.groupby(Columns.User).cumcount(), unit="s")
        model = SASRecModel(
            n_blocks=task["blocks"],
            n_heads=task["heads"],
            n_factors=task["d"],
            dropout_rate=task["dropout"],
            session_max_len=task["length"],
            batch_size=task["users"],
            loss="softmax",
            lr=task["lr"],
            dataloader_num_workers=0,
        )
        model._build_model_from_dataset(Dataset.construct(table))  # what fit() does before it makes a trainer
        module = model.lightning_model
        module._xavier_normal_init()
        module.train()
        optimizer = module.configure_optimizers()
        batches = list(model.data_preparator.get_dataloader_train())

        def step(batch: Any) -> Any:
            optimizer.zero_grad()
            loss = module.loss_calculator(module.get_batch_logits(batch), batch["y"], batch["yw"])
            loss.backward()
            optimizer.step()
            return loss

        return batches, step

    torch.set_num_threads(task["threads"])
    return make


def replay(task: dict[str, Any], bucket: int | None = None) -> Maker:
    """RePlay's nn.sequential SasRec from its front door; with ``bucket``, its encoder for so many similar lengths."""
    import lightning  # noqa: F401  (part of what RePlay imports)
    import torch
    from replay.data import FeatureHint, FeatureSource, FeatureType
    from replay.data.nn import TensorFeatureInfo, TensorFeatureSource, TensorSchema
    from replay.nn.lightning import LightningModule
    from replay.nn.lightning.optimizer import OptimizerFactory
    from replay.nn.sequential import SasRec
    from replay.nn.sequential.length_bucket import LengthBucketedQueryEncoder
    from replay.nn.transform.template import make_default_sasrec_transforms

    def make() -> Made:
        items, length = task["items"], task["length"]
        schema = TensorSchema(
            [
                TensorFeatureInfo(
                    "item_id",
                    is_seq=True,
                    feature_type=FeatureType.CATEGORICAL,
                    embedding_dim=task["d"],
                    padding_value=items,
                    cardinality=items,
                    feature_hint=FeatureHint.ITEM_ID,
                    feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
                )
            ]
        )
        model = SasRec.from_params(
            schema,
            embedding_dim=task["d"],
            num_heads=task["heads"],
            num_blocks=task["blocks"],
            max_sequence_length=length,
            dropout=task["dropout"],
        )
        if bucket is not None:
            model.body.encoder = LengthBucketedQueryEncoder(model.body.encoder, bucket)
        module = LightningModule(model, OptimizerFactory(learning_rate=task["lr"]))
        module.train()
        optimizer = module.configure_optimizers()
        transforms = make_default_sasrec_transforms(schema)["train"]
        batches, users = [], _users(task)
        for start in range(0, len(users), task["users"]):
            some = users[start : start + task["users"]]
            grid = torch.full((len(some), length + 1), items)
            for row, own in enumerate(some):
                grid[row, length + 1 - len(own) :] = torch.tensor(own)
            batch: dict[str, Any] = {"item_id": grid, "item_id_mask": grid != items}
            for transform in transforms:
                batch = transform(batch)
            batches.append({"negative_labels": None, **batch})

        def step(batch: Any) -> Any:
            optimizer.zero_grad()
            loss = module(batch)["loss"]
            loss.backward()
            optimizer.step()
            return loss

        return batches, step

    torch.set_num_threads(task["threads"])
    return make


def replay_buckets(task: dict[str, Any]) -> Maker:
    """RePlay with its length-bucketed encoder, which its front door leaves out."""
    return replay(task, bucket=32)


def _as_trained() -> None:
    """Threads wait as in a training of this project; before torch is imported."""
    from hmar.threads import sleep_while_waiting

    sleep_while_waiting()


def hmar(task: dict[str, Any], asleep: bool = True) -> Maker:
    """A model, a loss and an optimizer of this project, as a training makes them; ``asleep``: its threads wait so."""
    if asleep:
        _as_trained()
    from benchmarks.steps import training_batches, vocabulary
    from hmar.losses import loss_function, total_loss
    from hmar.models import model_class
    from hmar.models.base import Encoder
    from hmar.threads import limit_threads
    from hmar.train.optimizer import make_optimizer
    from hmar.train.settings import TrainSettings

    def make() -> Made:
        kind = model_class(task["model"])
        model = kind(kind.Config.parse(task["config"]), vocabulary(task)).train()
        assert isinstance(model, Encoder)
        loss = loss_function(task["loss"])
        settings = {"model": task["model"], "snapshot": "none", "out": "none", "lr": task["lr"]}
        optimizer = make_optimizer(TrainSettings.resolve(settings, use_environment=False), model, "cpu")
        batches = training_batches(task, model)

        def step(batch: Any) -> Any:
            # A new object: what a batch remembers of the pass before is planned again.
            batch = replace(batch, histories=replace(batch.histories))
            optimizer.zero_grad()
            value = total_loss(model, loss, batch)
            value.backward()
            optimizer.step()
            return value

        return batches, step

    limit_threads(task["threads"])
    return make


def hmar_spinning(task: dict[str, Any]) -> Maker:
    """The same with threads that spin while they wait, as OpenMP has it: faster where nothing else runs."""
    return hmar(task, asleep=False)


def engine(task: dict[str, Any]) -> Maker:
    """hmar.train's own loop, an epoch at a time: batches made meanwhile, checks, progress, a checkpoint at its end."""
    _as_trained()
    import torch

    from benchmarks.steps import SPLIT
    from hmar.data.snapshot import Snapshot
    from hmar.losses import loss_function
    from hmar.models import model_class
    from hmar.models.base import Encoder, Vocabulary
    from hmar.train.data import training_data
    from hmar.train.directory import TrainingDirectory
    from hmar.train.engine import set_up
    from hmar.train.loop import Trainer
    from hmar.train.progress import Reporter
    from hmar.train.settings import TrainSettings
    from hmar.train.signals import StopSignal

    out = Path(task["snapshot"]).parent / f"{Path(task['snapshot']).name}-engine"
    settings = TrainSettings.resolve(
        {
            "model": task["model"],
            "snapshot": task["snapshot"],
            "out": str(out),
            "split": SPLIT,
            "config": task["config"],
            "loss": task["loss"],
            "negatives_from": "uniform",
            "lr": task["lr"],
            "batch_size": task["users"],
            "max_length": task["length"],
            "max_epochs": 1,
            "device": "cpu",
            "threads": task["threads"],
        },
        use_environment=False,
    )

    class Trainings:
        """A training of one epoch, whenever it is gone through."""

        def __init__(self) -> None:
            self.device = set_up(settings)
            self.snapshot = Snapshot(settings.snapshot)
            kind = model_class(settings.model)
            model = kind(kind.Config.parse(settings.config), Vocabulary.of(self.snapshot))
            assert isinstance(model, Encoder)
            self.model = model

        def __iter__(self) -> Iterator[Trainer]:
            shutil.rmtree(out, ignore_errors=True)
            loss = loss_function(settings.loss)
            yield Trainer(
                settings,
                self.model,
                loss,
                training_data(settings, self.snapshot, self.model, loss),
                device=self.device,
                directory=TrainingDirectory(settings.out),
                reporter=Reporter(settings.log_seconds, settings.max_epochs),
                stop=StopSignal(),
                validate=None,
                on_epoch=lambda history: None,
            )

    def step(trainer: Trainer) -> Any:
        trainer.fit()
        return torch.tensor(trainer.history[-1]["loss"])

    return lambda: (Trainings(), step)


def plain(task: dict[str, Any]) -> Maker:
    """HMAR in the plain form: padded, one masked pass per behavior."""
    import torch

    from benchmarks.plain_hmar import PlainHMAR, padded
    from benchmarks.steps import training_batches, vocabulary
    from hmar.models.hmar import HMAR, HMARConfig

    def make() -> Made:
        model = PlainHMAR(HMAR(HMARConfig.parse(task["config"]), vocabulary(task))).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=task["lr"])
        batches = [padded(batch, task["length"]) for batch in training_batches(task, model.model)]

        def step(batch: Any) -> Any:
            optimizer.zero_grad()
            loss = model(batch)
            loss.backward()
            optimizer.step()
            return loss

        return batches, step

    torch.set_num_threads(task["threads"])
    return make


CONTENDERS: dict[str, Callable[[dict[str, Any]], Maker]] = {
    "rectools": rectools,
    "replay": replay,
    "replay_buckets": replay_buckets,
    "hmar": hmar,
    "hmar_spinning": hmar_spinning,
    "engine": engine,
    "plain": plain,
}


def _users(task: dict[str, Any]) -> list[list[int]]:
    """The items of each user, inputs and last target."""
    users: list[list[int]] = json.loads(Path(task["histories"]).read_text(encoding="utf-8"))
    return users


def _resident() -> int:
    """Bytes resident now."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()


def _peak() -> int:
    """Most bytes resident so far. (On Linux, what getrusage tells is never below the parent's at this one's birth.)"""
    if sys.platform != "linux":
        return _resident()
    (line,) = (row for row in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if "VmHWM" in row)
    return int(line.split()[1]) * KIBIBYTE


def main(arguments: list[str]) -> None:
    """Import, make, and train once per line of input."""
    who, task = arguments[0], json.loads(Path(arguments[1]).read_text(encoding="utf-8"))
    make = CONTENDERS[who](task)
    idle = _resident()
    batches, step = make()
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints
    print(json.dumps({"idle": idle}), file=out, flush=True)
    for _ in sys.stdin:
        seconds, losses = [], []
        for batch in batches:
            started = time.perf_counter()
            losses.append(step(batch).detach())
            seconds.append(time.perf_counter() - started)
        print(json.dumps({"seconds": seconds, "loss": float(losses[-1])}), file=out, flush=True)
    print(json.dumps({"peak": _peak()}), file=out, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
