"""One way from training events to a full epoch of batches, as a process of its own; benchmarks/sequences.py runs it.

    python contenders.py <who> <events> <started>

``who`` is pandas, rectools or hmar; ``events`` a Parquet file with user_id, item_id, event_time and weight, for hmar a
snapshot; ``started`` the moment the process was started, in seconds since 1970. Prints JSON: seconds from then to the
first batch and to the end of the first epoch, and what the epoch held. It stands alone, since RecTools has an
environment of its own without this package.
"""

import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

LENGTH, USERS = 100, 128
"""Inputs per user at most and users per batch: the defaults of RecTools' SASRec."""
SPLIT = "leave_one_out"

Batches = Iterator[tuple[int, int]]
"""Users and real positions of each batch."""


def by_pandas(events: str) -> Batches:
    """Sort, one list per user and column, padded batches."""
    import numpy as np
    import pandas as pd
    import torch

    table = pd.read_parquet(events)
    table["user_id"] = pd.factorize(table["user_id"])[0]
    table["item_id"] = pd.factorize(table["item_id"])[0] + 1
    table = table.sort_values(["user_id", "event_time"], kind="stable")
    lists = table.groupby("user_id", sort=False)[["item_id", "event_time"]].agg(list)
    items = lists["item_id"].tolist()
    del table, lists
    order = [user for user, own in enumerate(items) if len(own) > 1]
    random.Random(0).shuffle(order)
    for start in range(0, len(order), USERS):
        users = order[start : start + USERS]
        x = np.zeros((len(users), LENGTH), np.int64)
        y = np.zeros((len(users), LENGTH), np.int64)
        for row, user in enumerate(users):
            own = items[user][-LENGTH - 1 :]
            x[row, 1 - len(own) :] = own[:-1]
            y[row, 1 - len(own) :] = own[1:]
        batch = torch.from_numpy(x), torch.from_numpy(y)
        yield len(users), int((batch[1] > 0).sum())


def by_rectools(events: str) -> Batches:
    """RecTools' own data preparation for SASRec, one uniform negative per position."""
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models.nn.transformers.negative_sampler import CatalogUniformSampler
    from rectools.models.nn.transformers.sasrec import SASRecDataPreparator

    table = pd.read_parquet(events).rename(columns={"event_time": Columns.Datetime})
    dataset = Dataset.construct(table)
    del table
    preparator = SASRecDataPreparator(
        session_max_len=LENGTH,
        batch_size=USERS,
        dataloader_num_workers=0,
        n_negatives=1,
        negative_sampler=CatalogUniformSampler(1),
    )
    preparator.process_dataset_train(dataset)
    for batch in preparator.get_dataloader_train():
        yield len(batch["y"]), int((batch["y"] > 0).sum())


def by_hmar(snapshot: str) -> Batches:
    """The batches that this project trains on, with behaviors, times and counts, one uniform negative per position."""
    from hmar.data.batches import TrainingData
    from hmar.data.snapshot import Snapshot

    data = TrainingData(
        Snapshot(snapshot), SPLIT, max_length=LENGTH, batch_size=USERS, negatives=1, negatives_from="uniform"
    )
    for batch in data.batches(0):
        yield len(batch.histories), len(batch.next_item)


CONTENDERS = {"pandas": by_pandas, "rectools": by_rectools, "hmar": by_hmar}


def main(arguments: list[str]) -> None:
    """Run one of them."""
    who, events, started = arguments[0], arguments[1], float(arguments[2])
    told: dict[str, Any] = {"batches": 0, "users": 0, "positions": 0}
    for users, positions in CONTENDERS[who](events):
        if not told["batches"]:
            told["first_batch"] = time.time() - started
        told["batches"] += 1
        told["users"] += users
        told["positions"] += positions
    told["epoch"] = time.time() - started
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
