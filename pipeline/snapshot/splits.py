"""The splits: who trains on what, and which events are to be predicted."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from hmar.data.snapshot import PARTS, TARGET_COLUMNS
from hmar.errors import DataError
from pipeline.settings import SnapshotSettings, Split
from pipeline.snapshot.arrays import write_array
from pipeline.snapshot.candidates import write_candidates
from pipeline.snapshot.impressions import write_impressions, write_moments
from pipeline.snapshot.warehouse import Warehouse, quoted

log = logging.getLogger(__name__)


def write_splits(warehouse: Warehouse, settings: SnapshotSettings, directory: Path) -> dict[str, dict[str, Any]]:
    """Write ``splits/<split>/`` for every split.

    Returns:
        What the manifest says of each: targets by part, strata, training events, the times that divide it.

    Raises:
        DataError: no event can be a target.
    """
    warehouse.set(
        validation_quantile=settings.validation_quantile,
        test_quantile=settings.test_quantile,
        own_validation=settings.published.own_validation,
    )
    warehouse.table("50_target_events")
    if not warehouse.value("select count(*) from target_events"):
        raise DataError(
            f"dataset without target events: no {settings.target!r} event is left after the k-core that is the first "
            "use of its item; lower snapshot.k_core or see snapshot.consumed_by"
        )
    if settings.impressions.wanted:
        write_impressions(warehouse, settings, directory)
    told: dict[str, dict[str, Any]] = {}
    for split in settings.splits:
        target = directory / "splits" / split
        target.mkdir(parents=True)
        told[split] = _write_split(warehouse, settings, split, target)
    return told


def _write_split(warehouse: Warehouse, settings: SnapshotSettings, split: Split, directory: Path) -> dict[str, Any]:
    boundaries = _CHOOSE[split](warehouse)
    warehouse.table("63_trained_items")
    warehouse.table("65_targets")
    warehouse.write("targets", {name: quoted(name) for name in TARGET_COLUMNS}, "target", directory / "targets.parquet")
    ends = warehouse.arrow("select train_end from training order by user").column("train_end")
    write_array(directory / "train_end.npy", ends.to_numpy().astype(np.int64))
    write_candidates(warehouse, settings, split, directory / "candidates.parquet")
    told = _describe(warehouse, split) | boundaries
    if settings.impressions.wanted and split != "published":
        told |= write_moments(warehouse, settings, split, directory)
    return told


def _leave_one_out(warehouse: Warehouse) -> dict[str, str]:
    """Make ``histories``, ``training`` and ``catalogs`` of the split; the times that divide it, for the manifest."""
    warehouse.table("51_leave_one_out", "chosen")
    warehouse.table("60_histories")
    warehouse.table("61_leave_one_out_training", "training")
    warehouse.table("64_catalogs")
    return {}


def _temporal(warehouse: Warehouse) -> dict[str, str]:
    warehouse.table("52_temporal_bounds")
    warehouse.table("53_temporal", "chosen")
    warehouse.table("60_histories")
    warehouse.table("62_temporal_training", "training")
    warehouse.table("64_catalogs")
    bounds = warehouse.rows("select epoch_us(validation_from), epoch_us(test_from) from temporal_bounds")[0]
    return {"validation_from": _iso(bounds[0]), "test_from": _iso(bounds[1])}


def _published(warehouse: Warehouse) -> dict[str, str]:
    """Leave-one-out with the leaks of HMAR's code (github.com/Shereen-Elsayed/HMAR, function data_partition_tmall and
    its likes), to compare with printed tables and to price them. As there:

    - the target is a user's last target event, where the user has three events or more; there is no validation item,
      unless the settings ask for one
    - history and training range are what stands before it in the user's sequence, ties included; what comes after it,
      in any behavior, is dropped
    - users without a history are not judged; users with fewer than three events are trained on whole
    - negatives are uniform over all items of the log, whenever they were first seen, less the history's

    Not as there: events of one time stand in the snapshot's neutral order, not in the file's; negatives are drawn
    once, are distinct and never the target, which the published code may draw too, twice or as a negative, and draws
    again at each evaluation; where items do not recur an item already used up is no target; and all users are judged,
    since the lists of test users are part of its data. Its script for Tianchi also deletes the target's item from the
    history, its other three do not, and nor do we. Counts over the whole file, which it also has, are no property of
    a split: see the switches of the model.
    """
    warehouse.table("54_held_out")
    warehouse.table("55_epoch_choice")
    warehouse.table("56_published", "histories")
    warehouse.table("66_published_training", "training")
    warehouse.table("67_whole_catalog", "catalogs")
    return {}


_CHOOSE: dict[Split, Callable[[Warehouse], dict[str, str]]] = {
    "leave_one_out": _leave_one_out,
    "temporal": _temporal,
    "published": _published,
}


def _describe(warehouse: Warehouse, split: str) -> dict[str, Any]:
    found = {
        part: {"targets": targets, "repeat": repeat, "cold_user": cold_user, "cold_item": cold_item}
        for part, targets, repeat, cold_user, cold_item in warehouse.rows(
            "select part, count(*), count_if(repeat), count_if(cold_user), count_if(cold_item) "
            "from targets group by part"
        )
    }
    nothing = {"targets": 0, "repeat": 0, "cold_user": 0, "cold_item": 0}
    for part in PARTS:
        if part not in found:
            log.warning("split %s has no %s targets", split, part)
    trained = warehouse.value("select coalesce(sum(train_end - first_event), 0)::bigint from training")
    return {**{part: found.get(part, nothing) for part in PARTS}, "training_events": trained}


def _iso(microseconds: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)).isoformat()
