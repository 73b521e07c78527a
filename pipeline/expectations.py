"""What a delivery must be to be published, as code: one :class:`Check` per line of the Data Docs.

DuckDB computes the measures, Great Expectations judges that one row and renders it: the whole log in pandas would take
ten times as long and gigabytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.settings import RetrainSettings


@dataclass(frozen=True)
class Check:
    """A measure and the bounds it must keep, both included; None: no bound."""

    measure: str
    low: float | None
    high: float | None
    why: str
    """One sentence for the Data Docs."""

    @property
    def expected(self) -> str:
        """The bounds in words."""
        if self.low is not None and self.high is not None:
            return f"exactly {self.low:g}" if self.low == self.high else f"from {self.low:g} to {self.high:g}"
        return f"at least {self.low:g}" if self.low is not None else f"at most {self.high:g}"


@dataclass(frozen=True)
class Verdict:
    """A check and what was found."""

    check: Check
    observed: Any
    success: bool

    @property
    def found(self) -> str:
        """The observed value in words."""
        return f"{self.observed:g}" if isinstance(self.observed, float) else str(self.observed)


def checks(s: RetrainSettings) -> list[Check]:
    """The suite of a dataset, from its settings."""
    limits, ingest = s.expectations, s.ingest
    found = [
        Check("unaccounted_rows", 0, 0, "Every row is an event, a duplicate or in quarantine."),
        Check("events", limits.min_events, None, "A nearly empty delivery is a broken export."),
        Check("users", limits.min_users, None, "Enough users to train on."),
        Check("items", limits.min_items, None, "Enough items to recommend."),
        Check("quarantined_share", None, ingest.max_quarantined_share, "Single bad rows are normal, many are not."),
        Check("duplicate_share", None, limits.max_duplicate_share, "Many duplicates: a file was delivered twice."),
        *(Check(f"null_{column}", 0, 0, "An event has all of its parts.") for column in EVENT_PARTS),
        Check("value_out_of_range", 0, 0, "A rating is between 0.5 and 5."),
    ]
    if ingest.max_quarantined_rows is not None:
        found.append(
            Check("quarantined", None, ingest.max_quarantined_rows, "The number of bad rows that is still tolerated.")
        )
    if ingest.outside_window == "quarantine":
        found.append(Check("events_outside_window", 0, 0, "No event is outside the time window."))
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
    return found


EVENT_PARTS = ("user_id", "item_id", "behavior", "event_time")


def expectations(suite: Sequence[Check]) -> list[Any]:
    """The checks as Great Expectations' expectations over a frame of one row."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnMaxToBeBetween(
            column=check.measure,
            min_value=check.low,
            max_value=check.high,
            meta={"notes": {"format": "markdown", "content": [check.why]}},
        )
        for check in suite
    ]


def verdicts(suite: Sequence[Check], results: Sequence[Any], metrics: Mapping[str, Any]) -> list[Verdict]:
    """Great Expectations' results as verdicts, in the suite's order.

    Args:
        results: ExpectationValidationResult of each check, in any order. metrics: the measures by name.
    """
    passed = {result.expectation_config.kwargs["column"]: bool(result.success) for result in results}
    return [Verdict(check, metrics[check.measure], passed[check.measure]) for check in suite]
