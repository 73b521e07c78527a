"""The snapshot as the dataset of a run: its id is the digest, its directory the source, the accounts its profile."""

import json
from typing import Any

from hmar.data.snapshot import Snapshot

RAW_ACCOUNTS = ("rows", "events", "duplicates", "quarantined")
"""Of each raw file: rows = events + duplicates + quarantined."""


def snapshot_input(snapshot: Snapshot, split: str) -> Any:
    """An ``mlflow.entities.DatasetInput`` for the training events of ``split``."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    manifest = snapshot.manifest
    profile = {
        "users": manifest.users,
        "items": manifest.items,
        "events": manifest.events,
        "behaviors": manifest.behavior_counts,
        "accounts": manifest.accounts,
        "raw_files": [{key: raw[key] for key in ("name", *RAW_ACCOUNTS)} for raw in manifest.inputs if "events" in raw],
    }
    dataset = Dataset(
        name=manifest.dataset,
        digest=manifest.id[:36],
        source_type="local",
        source=json.dumps({"uri": str(snapshot.path.absolute())}),
        profile=json.dumps(profile),
    )
    tags = [InputTag("mlflow.data.context", "training"), InputTag("split", split)]
    return DatasetInput(dataset=dataset, tags=tags)
