"""A measure with bounds, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """A measure and the bounds it must keep, both included; None: no bound."""

    measure: str
    low: float | None
    high: float | None
    why: str
    """One sentence for the pages."""

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

    def told(self) -> dict[str, Any]:
        """For JSON and the pages: name, expected, found, success, why."""
        return {
            "name": self.check.measure,
            "expected": self.check.expected,
            "found": self.found,
            "success": self.success,
            "why": self.check.why,
        }


def nothing(measure: str, why: str) -> Check:
    """A count that must be 0."""
    return Check(measure, 0, 0, why)


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
