"""SASRec of another project, trained to a validation NDCG@10, as a process of its own; benchmarks/time_to_quality.py
runs it.

    python learners.py <who> <directory> <started> <settings>

``who`` is rectools or recbole; ``directory`` holds training.parquet (user_id, item_id, event_time, weight; the times of
a user are all different), recbole/recbole.inter with the same rows, and targets.npz (:class:`Targets`); ``started`` is
the moment the process was started, in seconds since 1970; ``settings`` JSON (:class:`Settings`). Prints one line of
JSON when everything is prepared and one per evaluation. It stands alone, since every project has an environment of its
own without this package.

The evaluation is the same for all: scores of all items in the numbers of targets.npz, ranks and NDCG@10 as
hmar.evaluate.judge makes them.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHUNK = 1024
"""Targets scored at once."""
EPOCHS = 10_000
"""More than there is time for."""


@dataclass(frozen=True)
class Settings:
    """What the driver chooses."""

    lr: float
    batch_size: int
    threads: int
    seed: int
    d: int
    blocks: int
    heads: int
    dropout: float
    length: int
    seconds: float
    """After so many, counted from the start of the process, the training ends with one last evaluation."""
    patience: int
    """Evaluations without a better NDCG@10 after which it ends too."""
    enough: float | None
    """A validation NDCG@10 that ends it at once."""


class Targets:
    """N targets, V items.

    ``user_id`` [N] of the source; ``item`` and ``catalog`` int64 [N]: the target, and the first so many items that are
    candidates; ``seen_row`` and ``seen_item`` [P]: cells that are none, because the user has consumed the item;
    ``item_id`` [V] of the source; ``popularity`` float32 [V], which answers where a history is empty.
    """

    def __init__(self, path: Path) -> None:
        import numpy as np

        with np.load(path) as arrays:
            for name in ("user_id", "item", "catalog", "seen_row", "seen_item", "item_id", "popularity"):
                setattr(self, name, arrays[name])

    user_id: Any
    item: Any
    catalog: Any
    seen_row: Any
    seen_item: Any
    item_id: Any
    popularity: Any

    def columns(self, number_of: Callable[[Any], int | None]) -> Any:
        """The learner's number of each item, int64 [V], -1 where it knows none."""
        import numpy as np

        return np.array([-1 if (own := number_of(item)) is None else own for item in self.item_id.tolist()])

    def ndcg(self, scores_of: Callable[[Any], Any], columns: Any, lengths: Any) -> float:
        """NDCG@10 of full rankings; equal scores count against the learner.

        Args:
            scores_of: scores [B, learner's items] of the targets int64 [B]. columns: see :meth:`columns`.
            lengths: int64 [N], of the histories.
        """
        import numpy as np

        gains = np.zeros(len(self.item))
        known = columns >= 0
        for start in range(0, len(gains), CHUNK):
            part = np.arange(start, min(start + CHUNK, len(gains)))
            scores = np.full((len(part), len(columns)), -np.inf, np.float32)
            scores[:, known] = scores_of(part)[:, columns[known]]
            scores[lengths[part] == 0] = self.popularity
            first, last = np.searchsorted(self.seen_row, [part[0], part[-1] + 1])
            scores[self.seen_row[first:last] - start, self.seen_item[first:last]] = -np.inf
            scores[np.arange(len(columns)) >= self.catalog[part][:, None]] = -np.inf
            own = scores[part - start, self.item[part]]
            rank = (scores >= own[:, None]).sum(axis=1)
            gains[part] = np.where((rank <= 10) & (own > -np.inf), 1 / np.log2(rank + 1.0), 0.0)
        return float(gains.mean())


class Late(Exception):
    """The time is used up in the middle of an epoch."""


class Clock:
    """Tells what was reached when, one line per evaluation, and when it is enough."""

    def __init__(self, started: float, settings: Settings) -> None:
        self.started, self.settings = started, settings
        self.trained = self.best = 0.0
        self.waited = 0

    def prepared(self, **facts: Any) -> None:
        """Everything is ready for the first step."""
        print(json.dumps({"prepared": time.time() - self.started, **facts}), flush=True)

    def judged(self, epochs: float, seconds: float, judge: Callable[[], float]) -> bool:
        """Evaluate after ``seconds`` more of training; whether the training is to end."""
        self.trained += seconds
        began = time.time()
        ndcg = judge()
        told = {"epoch": epochs, "train": self.trained, "judge": time.time() - began, "at": time.time() - self.started}
        print(json.dumps(told | {"ndcg": ndcg}), flush=True)
        self.waited = 0 if ndcg > self.best else self.waited + 1
        self.best = max(self.best, ndcg)
        enough = self.settings.enough
        return (enough is not None and ndcg >= enough) or self.waited >= self.settings.patience or self.late

    @property
    def late(self) -> bool:
        """Whether the time is used up."""
        return time.time() - self.started > self.settings.seconds


def rectools(directory: Path, settings: Settings, clock: Clock) -> None:
    """RecTools' SASRecModel as it comes, its Lightning trainer included; softmax over the catalog."""
    import numpy as np
    import pandas as pd
    import torch
    from pytorch_lightning import Callback, Trainer, seed_everything
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    torch.set_num_threads(settings.threads)
    seed_everything(settings.seed)
    table = pd.read_parquet(directory / "training.parquet").rename(columns={"event_time": Columns.Datetime})
    targets = Targets(directory / "targets.npz")

    class Judge(Callback):
        began = 0.0
        x: Any = None
        columns: Any = None
        lengths: Any = None

        def on_train_start(self, trainer: Any, module: Any) -> None:
            number = module.data_preparator.item_id_map.to_internal.to_dict().get
            Judge.columns = targets.columns(number)
            known = table[table["item_id"].isin(module.data_preparator.get_known_item_ids())]
            numbered = known.assign(item_id=known["item_id"].map(number)).sort_values(Columns.Datetime, kind="stable")
            lists = numbered.groupby("user_id")["item_id"].agg(list).to_dict()
            histories = [lists.get(user, [])[-settings.length :] for user in targets.user_id.tolist()]
            Judge.lengths = np.array([len(own) for own in histories])
            x = np.zeros((len(histories), settings.length), np.int64)
            for row, own in enumerate(histories):
                if own:
                    x[row, -len(own) :] = own
            Judge.x = torch.from_numpy(x)
            weights = sum(weight.numel() for weight in module.parameters())
            clock.prepared(weights=weights, batches=trainer.num_training_batches)

        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            Judge.began = time.time()

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if clock.late and batch_idx + 1 < trainer.num_training_batches:
                done = trainer.current_epoch + (batch_idx + 1) / trainer.num_training_batches
                clock.judged(done, time.time() - Judge.began, lambda: self.judge(module))
                raise Late

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            seconds = time.time() - Judge.began
            trainer.should_stop = clock.judged(trainer.current_epoch + 1, seconds, lambda: self.judge(module))

        def judge(self, module: Any) -> float:
            network = module.torch_model
            network.eval()
            with torch.inference_mode():
                items = network.item_model.get_all_embeddings()
                value = targets.ndcg(
                    lambda part: (network.encode_sessions({"x": Judge.x[part]}, items)[:, -1] @ items.T).numpy(),
                    Judge.columns,
                    Judge.lengths,
                )
            network.train()
            return value

    model = SASRecModel(
        n_blocks=settings.blocks,
        n_heads=settings.heads,
        n_factors=settings.d,
        dropout_rate=settings.dropout,
        session_max_len=settings.length,
        loss="softmax",
        lr=settings.lr,
        batch_size=settings.batch_size,
        get_trainer_func=lambda: Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=EPOCHS,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Judge()],
        ),
    )
    with suppress(Late):
        model.fit(Dataset.construct(table))


def recbole(directory: Path, settings: Settings, clock: Clock) -> None:
    """RecBole's SASRec by its own configuration, data loader and training epoch; cross-entropy over the catalog.

    RecBole 1.2.1 names NumPy types that are gone since NumPy 1.24; they are given back here.
    """
    import numpy as np

    for name, kind in {"float": float, "int": int, "bool": bool, "object": object, "str": str}.items():
        if name not in np.__dict__:
            setattr(np, name, kind)

    import pandas as pd
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, create_samplers
    from recbole.data.dataloader import TrainDataLoader
    from recbole.data.interaction import Interaction
    from recbole.trainer import Trainer
    from recbole.utils import get_model, init_seed

    torch.set_num_threads(settings.threads)
    argv, sys.argv = sys.argv, sys.argv[:1]  # it reads them
    config = Config(
        model="SASRec",
        dataset="recbole",
        config_dict={
            "data_path": str(directory),
            "checkpoint_dir": str(directory / "saved"),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "eval_args": {"split": {"RS": [1, 0, 0]}, "group_by": "user", "order": "TO", "mode": "full"},
            "train_neg_sample_args": None,
            "MAX_ITEM_LIST_LENGTH": settings.length,
            "hidden_size": settings.d,
            "inner_size": settings.d,
            "n_layers": settings.blocks,
            "n_heads": settings.heads,
            "hidden_dropout_prob": settings.dropout,
            "attn_dropout_prob": settings.dropout,
            "learning_rate": settings.lr,
            "train_batch_size": settings.batch_size,
            "seed": settings.seed,
            "use_gpu": False,
            "show_progress": False,
            "state": "ERROR",
        },
    )
    sys.argv = argv
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    parts = dataset.build()
    loader = TrainDataLoader(config, parts[0], create_samplers(config, dataset, parts)[0], shuffle=True)
    network = get_model("SASRec")(config, parts[0]).to(config["device"])
    trainer = Trainer(config, network)

    targets = Targets(directory / "targets.npz")
    numbers = dataset.field2token_id[dataset.iid_field]
    columns = targets.columns(lambda item: numbers.get(str(item)))
    table = pd.read_csv(directory / "recbole" / "recbole.inter", sep="\t", dtype=str)  # it comes without pyarrow
    lists = table.groupby("user_id:token")["item_id:token"].agg(list).to_dict()
    histories = [lists.get(str(user), [])[-settings.length :] for user in targets.user_id.tolist()]
    lengths = np.array([len(own) for own in histories])
    x = np.zeros((len(histories), settings.length), np.int64)
    for row, own in enumerate(histories):
        x[row, : len(own)] = [numbers[item] for item in own]
    clock.prepared(weights=sum(weight.numel() for weight in network.parameters()), batches=len(loader))

    def scores(part: Any) -> Any:
        asked = {
            network.ITEM_SEQ: torch.from_numpy(x[part]),
            network.ITEM_SEQ_LEN: torch.from_numpy(lengths[part].clip(1)),
        }
        return network.full_sort_predict(Interaction(asked)).numpy()

    def judge() -> float:
        network.eval()
        with torch.inference_mode():
            value = targets.ndcg(scores, columns, lengths)
        network.train()
        return value

    done = 0

    def loss(interaction: Any) -> Any:
        nonlocal done
        if clock.late:
            raise Late
        done += 1
        return network.calculate_loss(interaction)

    for epoch in range(EPOCHS):
        began, done = time.time(), 0
        try:
            trainer._train_epoch(loader, epoch, loss_func=loss)
        except Late:
            clock.judged(epoch + done / len(loader), time.time() - began, judge)
            return
        if clock.judged(epoch + 1, time.time() - began, judge):
            return


LEARNERS = {"rectools": rectools, "recbole": recbole}


def main(arguments: list[str]) -> None:
    """Run one of them."""
    who, directory, started, settings = arguments
    chosen = Settings(**json.loads(settings))
    LEARNERS[who](Path(directory), chosen, Clock(float(started), chosen))


if __name__ == "__main__":
    main(sys.argv[1:])
