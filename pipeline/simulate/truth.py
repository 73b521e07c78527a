"""What is known about a made-up log, beside it.

``truth.json``
    settings; ``files``, all that were written; ``accounts``, where the rows must go, and ``accounts_by_file``;
    ``reasons``, rejected rows by the reason an ingest gives; ``behaviors``, events by behavior; ``window``, the
    moments between which all good rows lie (give them as ``ingest.since`` and ``ingest.until``); ``identical_rows``,
    the setting of that name under which the accounts hold; ``season``, relative traffic of each local day;
    ``late_rows``, by own day and day of the file they stand in; ``beside``, files that are no log.

``truth.npz``, V items, U users, C clusters
    item_id [V] and user_id [U]: the source's ids (int64 or bytes), by number; item_cluster int64 [V];
    item_popularity float64 [V], relative weight within the cluster; item_phase [V] and item_born [V], parts of the
    span from 0 to 1: the weight of an item at part t is popularity * exp(drift * cos(2 pi (t - phase))), 0 before it
    is born, constant within each eighth of the span; item_quality float64 [V]; item_successors int64 [V, 3], item
    numbers, and successor_share [3], how often each is the one that follows when one does; user_clusters int16
    [U, K] and user_shares float32 [U, K]: the clusters the user likes best, the largest share first.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.simulate.delivery import Account, Delivery, calendar_day
from pipeline.simulate.dirt import CLOCK, QUARANTINING
from pipeline.simulate.formats.base import Log
from pipeline.simulate.seasons import Season
from pipeline.simulate.settings import SimulateSettings
from pipeline.simulate.world import Floats, World
from pipeline.storage.atomic import write_json

JSON, ARRAYS = "truth.json", "truth.npz"
TASTES = 8
"""Clusters per user that are told."""


def favorites(tastes: Floats) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """The clusters with the largest shares and the shares, [users, K], the largest first."""
    best = np.argsort(-tastes, axis=1, kind="stable")[:, :TASTES]
    return best.astype(np.int16), np.take_along_axis(tastes, best, axis=1).astype(np.float32)


def told(
    s: SimulateSettings, log: Log, season: Season, delivery: Delivery, behaviors: dict[str, int], beside: list[str]
) -> dict[str, Any]:
    """The content of truth.json."""
    total = Account()
    for account in delivery.accounts.values():
        total.add(account)
    late: dict[str, dict[str, int]] = {}
    for (own, arrived), rows in sorted(delivery.late.items()):
        late.setdefault(calendar_day(own).isoformat(), {})[calendar_day(arrived).isoformat()] = rows
    return {
        "settings": json.loads(s.model_dump_json(exclude={"out", "workers"})),
        "files": [*sorted(delivery.accounts), *beside],
        "beside": beside,
        "accounts": total.describe(),
        "accounts_by_file": {name: account.describe() for name, account in sorted(delivery.accounts.items())},
        "reasons": _reasons(s, log),
        "identical_rows": s.format.identical_rows,
        "behaviors": behaviors,
        "window": {"since": _moment(season.start), "until": _moment(season.end)},
        "season": season.describe(),
        "late_rows": late,
    }


def write(directory: Path, content: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    np.savez(directory / ARRAYS, **arrays)  # type: ignore[arg-type]
    write_json(directory / JSON, content)


def arrays(world: World, log: Log, users: NDArray[Any], clusters: Any, shares: Any) -> dict[str, NDArray[Any]]:
    """The content of truth.npz."""
    return {
        **world.truth(),
        "item_id": log.item_id,
        "user_id": users,
        "user_clusters": clusters,
        "user_shares": shares,
    }


def _reasons(s: SimulateSettings, log: Log) -> dict[str, int]:
    template = log.kinds[0].template
    others = {"unknown_codes": log.wrong_code_reason}
    if template:
        others |= {"short_lines": template.short_reason, "cut_lines": template.cut_reason}
    found: dict[str, int] = {}
    for flaw in QUARANTINING:
        if count := getattr(s.dirt, flaw):
            reason = log.clock.reasons[flaw] if flaw in CLOCK else others[flaw]
            found[reason] = found.get(reason, 0) + count
    if s.dirt.cut_last_line:
        found["cut_line"] = 1
    return dict(sorted(found.items()))


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
