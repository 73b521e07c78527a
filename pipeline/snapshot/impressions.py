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
    """Write ``impressions.parquet``: every moment of feedback, for all splits alike."""
    shown = settings.impressions
    warehouse.set(
        positive=[settings.behaviors.index(name) for name in settings.positive],
        negative=[settings.behaviors.index(name) for name in shown.negative],
        sampled=shown.sampled,
        seed=settings.seed,
        unseen=settings.unseen,
        excluding=settings.unseen or not settings.repeats,
    )
    warehouse.table("64_catalogs")
    warehouse.table("74_feedback")
    warehouse.table("75_moments")
    warehouse.view(_OFFERS[shown.sampled_from], "impression_offers")
    warehouse.table("78_sampled")
    warehouse.view("79_impressions")
    columns = {name: quoted(name) for name in IMPRESSION_COLUMNS}
    warehouse.write("impressions", columns, "moment, item", directory / "impressions.parquet")


def write_moments(
    warehouse: Warehouse, split: Literal["leave_one_out", "temporal"], directory: Path
) -> dict[str, dict[str, Any]]:
    """Write ``moments.parquet`` of a split whose training range and targets are known.

    Returns:
        What the manifest says of each part: moments, impressions, and how many of these are positive or sampled.
    """
    warehouse.table(_MOMENTS[split], "split_moments")
    warehouse.write("split_moments", {"moment": "moment", "part": "part"}, "moment", directory / "moments.parquet")
    told: dict[str, dict[str, Any]] = {
        part: {"moments": 0, "impressions": 0, "positive": 0, "sampled": 0} for part in PORTIONS
    }
    for part, *counts in warehouse.rows(
        "select part, count(distinct moment), count(*), sum(label)::bigint, count_if(sampled) "
        "from split_moments inner join impressions using (moment) group by part"
    ):
        told[part] = dict(zip(told[part], counts, strict=True))
    for part, found in told.items():
        if not found["moments"]:
            log.warning("split %s has no labelled impressions for %s", split, part)
    return told
