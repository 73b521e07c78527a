"""What a snapshot must be to be trained on: its ids, its order, its splits. The law is PROTOCOL's: nothing from at or
after a target's time is in its history, its catalog or its candidates.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.checks.check import Check, nothing

EVERYWHERE = {
    "ids_with_gaps": "Dense ids of users and items are 0, 1, 2, ... without a gap.",
    "source_ids_twice": "A source id has one dense id.",
    "events_of_unknown_users": "Every event's user is in users.parquet.",
    "events_of_unknown_items": "Every event's item is in items.parquet.",
    "events_of_unknown_behavior": "Every event's behavior is one of the manifest's.",
    "events_out_of_order": "A user's events stand in time order.",
    "events_uncounted": "The HBI of an event counts the event itself.",
    "events_miscounted": "users.parquet and items.parquet count the events that are there.",
}

OF_A_SPLIT = {
    "targets_misplaced": "A target is an event of its user, of its item and of the target behavior.",
    "histories_with_future": "A history holds only what happened strictly before its target.",
    "histories_cut_short": "A history holds all that happened before its target.",
    "targets_trained_on": "No target is a training event.",
    "training_with_future": "Training ends before the validation targets' time.",
    "validation_after_test": "A user's validation target is earlier than the test target.",
    "catalogs_wrong": "The catalog of a target is what anyone had seen before its time.",
    "candidates_missing": "Every target has its candidates, as many as its catalog allows.",
    "candidates_unseen_by_then": "A candidate had been seen by someone before the target's time.",
    "candidates_of_the_target": "The target is not its own candidate.",
    "candidates_twice": "A candidate stands once per target.",
    "impressions_with_future": "A moment's history holds only what happened strictly before it.",
    "impressions_cut_short": "A moment's history holds all that happened before it.",
    "impressions_mislabeled": "A label is what the user said of the item at that time.",
    "impressions_unseen_by_then": "A sampled negative had been seen by someone before the moment.",
    "impressions_of_used_items": "Where items do not recur, none is a sampled negative once the user has used it up.",
    "impressions_twice": "An item stands once per moment.",
    "moments_out_of_turn": "Training moments are training events, and judged ones are not.",
}

LEAKS_OF_PUBLISHED = (
    "histories_with_future",
    "histories_cut_short",
    "training_with_future",
    "validation_after_test",
    "catalogs_wrong",
    "candidates_unseen_by_then",
)
"""What the split ``published`` does on purpose, to price it."""


def suite(measures: Mapping[str, Any]) -> list[Check]:
    """The checks of a snapshot: everything counted is a mistake, so every count must be 0.

    Args:
        measures: from :func:`pipeline.checks.snapshot_measures.measure`; splits' measures are ``<split>_<measure>``.
    """
    found = [nothing(name, why) for name, why in EVERYWHERE.items()]
    for name in measures:
        for measure, why in OF_A_SPLIT.items():
            if name.endswith(f"_{measure}"):
                found.append(nothing(name, why))
    return [*found, Check("events", 1, None, "There is something to learn from.")]
