"""The rows of the price list: HMAR under the published protocol, and what is taken back of it in each row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hmar.settings import deep_merge
from pipeline.settings import ImpressionSettings, RetrainSettings, Split

MODEL = "hmar"


@dataclass(frozen=True)
class Variant:
    """One row.

    Attributes:
        name: in files, MLflow and on the command line. label: in tables.
        training: settings of hmar.train over the protocol's. snapshot: those of the section snapshot.published.
        note: what a reader should know of it; empty where the label says all.
    """

    name: str
    label: str
    training: Mapping[str, Any] = field(default_factory=dict)
    snapshot: Mapping[str, bool] = field(default_factory=dict)
    split: Split = "published"
    note: str = ""

    def settings(self, s: RetrainSettings, seed: int) -> RetrainSettings:
        """The settings of its runs: the snapshot holds its split alone, and no labelled impressions."""
        snapshot = s.snapshot.model_copy(
            update={
                "splits": (self.split,),
                "impressions": ImpressionSettings(),
                "published": s.snapshot.published.model_copy(update=dict(self.snapshot)),
            }
        )
        own = deep_merge(dict(s.overrides.get(MODEL, {})), dict(self.training))
        return s.model_copy(
            update={"split": self.split, "seed": seed, "snapshot": snapshot, "overrides": {**s.overrides, MODEL: own}}
        )


PUBLISHED = Variant("published", "as published")

SINGLE = (
    Variant("hbi", "HBI point in time", {"config": {"hbi": "running"}}),
    Variant("candidate_hbi", "candidates' HBI by one rule", {"config": {"candidate_hbi": "running"}}),
    Variant("mirrored_context", "context not mirrored", {"config": {"mirrored_context": False}}),
    Variant(
        "negatives",
        "negatives uniform",
        snapshot={"unseen": False},
        note="the 99 candidates are drawn from all items, those of the history too; training negatives stay as they "
        "are. Left out where items do not recur: an item that is used up is no candidate either way",
    ),
    Variant(
        "select_on",
        "epoch chosen on validation",
        {"select_on": "validation"},
        {"own_validation": True},
        note="the published split has no validation target; it is the user's target event before the held-out one, "
        "which, with what follows it, is then not trained on. The price has both in it: the choice, and the events "
        "that validation takes from training",
    ),
    Variant(
        "behavior_encoder",
        "behavior encoder on",
        {"config": {"behavior_encoder": True}},
        note="no leak; left out where the published script has it on",
    ),
)
"""One thing taken back each."""


LAST_EPOCH = "last_epoch"


def _last_epoch(epochs: int) -> Variant:
    """One evaluation, after the last epoch, leaves nothing to choose."""
    return Variant(
        LAST_EPOCH,
        "epoch not chosen: the last",
        {"eval_every": epochs},
        note="the same trainings as published, their number of epochs fixed beforehand: what choosing is worth, be it "
        "on test or, as below, on validation",
    )


def chosen(s: RetrainSettings) -> tuple[Variant, ...]:
    """The rows that make sense for the dataset, in the table's order.

    Raises:
        SettingsError: the training settings are not valid.
    """
    from pipeline.training import training_settings

    usual = training_settings(s, MODEL, Path("snapshot"), "leaks")
    config = usual.config
    without = {"negatives": not s.snapshot.repeats, "behavior_encoder": bool(config["behavior_encoder"])}
    single = tuple(variant for variant in SINGLE if not without.get(variant.name, False))
    return PUBLISHED, _last_epoch(usual.max_epochs), *single, _all(single), _honest(s, single)


def _all(single: tuple[Variant, ...]) -> Variant:
    training: dict[str, Any] = {}
    snapshot: dict[str, bool] = {}
    for variant in single:
        training = deep_merge(training, dict(variant.training))
        snapshot |= variant.snapshot
    return Variant("all", "all of these", training, snapshot, note="the same targets as in the rows above")


def _honest(s: RetrainSettings, single: tuple[Variant, ...]) -> Variant:
    from hmar.train.settings import preset

    usual = preset(s.dataset, MODEL).get("negatives_from", "unseen")
    training = {"select_among": "full", "negatives_from": usual}
    return Variant(
        "leave_one_out",
        "all, on split leave_one_out",
        deep_merge(dict(_all(single).training), training),
        split="leave_one_out",
        note="nothing leaks: history strictly before the target, catalog of that moment, users with three target "
        f"events, epoch chosen on full rankings, training negatives {usual}. Its targets may be others, and fewer; "
        "the price is over those that both rows have",
    )
