"""Labelled impressions: what a user was asked about at a moment, what the answer was, and from which history."""

import logging
from pathlib import Path
from typing import Any, Literal

from hmar.data.snapshot import IMPRESSION_COLUMNS, PORTIONS
from pipeline.settings import SnapshotSettings
from pipeline.snapshot.warehouse import Warehouse, quoted

log = logging.getLogger(__name__)

_OFFERS = {"uniform": "76_uniform_offers", "popularity": "77_popular_offers"}
_MOMENTS = {"leave_one_out": "80_leave_one_out_moments", "temporal": "81_temporal_moments"}


def write_impressions(warehouse: Warehouse, settings: SnapshotSettings, directory: Path) -> None:
    """Write ``impressions.parquet``: every moment of feedback, for all splits alike; and the file of each further
    task."""
    shown = settings.impressions
    warehouse.set(
        sampled=shown.sampled,
        seed=settings.seed,
        unseen=settings.unseen,
        excluding=settings.unseen or not settings.repeats,
    )
    warehouse.table("64_catalogs")
    code = settings.behaviors.index
    offers, yes, no = _OFFERS[shown.sampled_from], map(code, settings.positive), map(code, shown.negative)
    _write(warehouse, offers, [*yes], [*no], directory / "impressions.parquet")
    for task in map(code, shown.tasks):
        with warehouse.within(_schema(task)):
            _write(warehouse, offers, [task], [], directory / f"impressions-{task}.parquet")


def _write(warehouse: Warehouse, offers: str, positive: list[int], negative: list[int], path: Path) -> None:
    warehouse.set(positive=positive, negative=negative)
    warehouse.table("74_feedback")
    warehouse.table("75_moments")
    warehouse.view(offers, "impression_offers")
    warehouse.table("78_sampled")
    warehouse.view("79_impressions")
    warehouse.write("impressions", {name: quoted(name) for name in IMPRESSION_COLUMNS}, "moment, item", path)


def write_moments(
    warehouse: Warehouse, settings: SnapshotSettings, split: Literal["leave_one_out", "temporal"], directory: Path
) -> dict[str, dict[str, Any]]:
    """Write ``moments.parquet`` of a split whose training range and targets are known, and the file of each further
    task.

    Returns:
        What the manifest says of the split: ``impressions``, and where there are further tasks ``tasks``, the same of
        each: by part its moments, impressions, and how many of these are positive or sampled.
    """
    told: dict[str, dict[str, Any]] = {"impressions": _moments(warehouse, split, directory / "moments.parquet")}
    for part, found in told["impressions"].items():
        if not found["moments"]:
            log.warning("split %s has no labelled impressions for %s", split, part)
    for task in settings.impressions.tasks:
        code = settings.behaviors.index(task)
        with warehouse.within(_schema(code)):
            told.setdefault("tasks", {})[task] = _moments(warehouse, split, directory / f"moments-{code}.parquet")
    return told


def _moments(warehouse: Warehouse, split: Literal["leave_one_out", "temporal"], path: Path) -> dict[str, Any]:
    warehouse.table(_MOMENTS[split], "split_moments")
    warehouse.write("split_moments", {"moment": "moment", "part": "part"}, "moment", path)
    told: dict[str, Any] = {part: {"moments": 0, "impressions": 0, "positive": 0, "sampled": 0} for part in PORTIONS}
    for part, *counts in warehouse.rows(
        "select part, count(distinct moment), count(*), sum(label)::bigint, count_if(sampled) "
        "from split_moments inner join impressions using (moment) group by part"
    ):
        told[part] = dict(zip(told[part], counts, strict=True))
    return told


def _schema(code: int) -> str:
    """Where the tables of a task are, beside those of the target's."""
    return f"task_{code}"
