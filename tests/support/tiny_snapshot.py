"""Small snapshots for tests, made by the real snapshot stage."""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hmar.data.snapshot import Snapshot
from pipeline.settings import RetrainSettings
from pipeline.stages.snapshot import build
from tests.support.events import Event, publish_events

SHOP = ("view", "cart", "buy")


def snapshot_run(
    home: Path,
    behaviors: Sequence[str] = SHOP,
    target: str | None = None,
    repeats: bool = True,
    consumed_by: Sequence[str] | None = None,
    threads: int = 2,
    memory_limit: str = "1GB",
    **snapshot_settings: Any,
) -> RetrainSettings:
    """The settings of a run over a test's events. Defaults: the last behavior is the target and, where items do not
    recur, all behaviors use an item up."""
    used = (() if repeats else behaviors) if consumed_by is None else consumed_by
    return RetrainSettings.resolve(
        {
            "dataset": "taobao",
            "name": "tiny",
            "raw": str(home / "raw"),
            "home": str(home),
            "engine": {"threads": threads, "memory_limit": memory_limit},
            "snapshot": {
                "behaviors": list(behaviors),
                "target": behaviors[-1] if target is None else target,
                "repeats": repeats,
                "consumed_by": list(used),
                **snapshot_settings,
                "impressions": {"sampled": 0, **snapshot_settings.get("impressions", {})},
            },
        },
        use_environment=False,
    )


def make_snapshot(
    tmp_path: Path,
    events: Sequence[Event],
    behaviors: Sequence[str] = SHOP,
    target: str | None = None,
    repeats: bool = True,
    consumed_by: Sequence[str] | None = None,
    categories: dict[int | str, int] | None = None,
    **snapshot_settings: Any,
) -> Snapshot:
    """A snapshot of ``events``: (user, item, behavior, seconds) tuples.

    Args:
        tmp_path: where a home of its own is made.
        snapshot_settings: further settings of the snapshot section (candidates, unseen, k_core, seed, ...); candidates
            are 5 unless given, and labelled impressions none.
    """
    home = tmp_path / f"home-{uuid.uuid4().hex[:8]}"
    s = snapshot_run(home, behaviors, target, repeats, consumed_by, **{"candidates": 5, **snapshot_settings})
    published = publish_events(s.paths.events(s.name), events, categories)
    return Snapshot(build(s, published).snapshot)


def random_events(
    n_users: int,
    n_items: int,
    n_events: int,
    seed: int,
    behaviors: Sequence[str] = SHOP,
    weights: Sequence[float] | None = None,
    span: int = 1_000_000,
) -> list[Event]:
    """Distinct random events in random order; user and item ids are 100 + and 1000 + a small number.

    Args:
        n_events: how many are drawn; equal ones fall together. weights: shares of the behaviors.
        span: times are whole seconds below it, so a small span makes many ties.
    """
    random = np.random.default_rng(seed)
    users = 100 + random.integers(n_users, size=n_events)
    items = 1000 + np.minimum(random.geometric(min(1.0, 5 / n_items), size=n_events) - 1, n_items - 1)
    chosen = random.choice(len(behaviors), size=n_events, p=weights)
    times = random.integers(span, size=n_events)
    drawn = {
        (int(u), int(i), behaviors[b], int(t)): None for u, i, b, t in zip(users, items, chosen, times, strict=True)
    }
    return list(drawn)
