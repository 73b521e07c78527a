"""What a delivery must be to be published: one :class:`Check` per line of the Data Docs.

DuckDB computes the measures, Great Expectations judges that one row and renders it: the whole log in pandas would take
ten times as long and gigabytes.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.checks.check import Check, nothing
from pipeline.settings import RetrainSettings

EVENT_PARTS = ("user_id", "item_id", "behavior", "event_time")


def suite(s: RetrainSettings, measures: Mapping[str, Any]) -> list[Check]:
    """The suite of a dataset, from its settings.

    Args:
        measures: what was measured; checks over time are left out where the log is too short for them.
    """
    limits, ingest = s.expectations, s.ingest
    found = [
        nothing("unaccounted_rows", "Every row is an event, a duplicate or in quarantine."),
        Check("rows", 0, None, "The raw rows of the delivery."),
        Check("duplicates", 0, None, "Rows whose event is there already."),
        Check("quarantined", 0, ingest.max_quarantined_rows, "Rows that are no events; how many are still tolerated."),
        Check("events", limits.min_events, None, "A nearly empty delivery is a broken export."),
        Check("users", limits.min_users, None, "Enough users to train on."),
        Check("items", limits.min_items, None, "Enough items to recommend."),
        Check("quarantined_share", None, ingest.max_quarantined_share, "Single bad rows are normal, many are not."),
        Check("duplicate_share", None, limits.max_duplicate_share, "Many duplicates: a file was delivered twice."),
        *(nothing(f"null_{column}", "An event has all of its parts.") for column in EVENT_PARTS),
    ]
    if ingest.outside_window == "quarantine":
        found.append(nothing("events_outside_window", "No event is outside the time window."))
    if limits.min_value is not None:
        found.append(Check("min_value", limits.min_value, None, "No value is below the scale."))
    if limits.max_value is not None:
        found.append(Check("max_value", None, limits.max_value, "No value is above the scale."))
    if s.snapshot.target:
        found += [
            Check("target_events", 1, None, f"There is something to predict: {s.snapshot.target}."),
            Check(
                "target_share",
                limits.min_target_share,
                limits.max_target_share,
                f"The share of {s.snapshot.target} is what it should be in such a log.",
            ),
        ]
    if limits.min_volume is not None or limits.max_volume is not None:
        found.append(
            Check(
                "volume",
                limits.min_volume,
                limits.max_volume,
                f"The newest partition's events, as a multiple of the median of the {limits.trailing} before it.",
            )
        )
    if limits.max_behavior_drift is not None:
        found.append(
            Check(
                "behavior_drift",
                None,
                limits.max_behavior_drift,
                f"How far the newest partition's mix of behaviors is from the {limits.trailing} before it: the share "
                "of events that would have to be of another behavior.",
            )
        )
    return [check for check in found if measures.get(check.measure, 0) is not None]
