"""What Great Expectations is given to judge: one row of numbers that DuckDB computed, and where bad rows stand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from hmar.errors import StorageError
from pipeline.ingest.accounts import Rejected
from pipeline.ingest.candidates import Candidates
from pipeline.results import Accounts

MEASURES = "measures.json"


class Measures(BaseModel):
    """``measures.json`` of a staged delivery."""

    model_config = ConfigDict(frozen=True)

    metrics: dict[str, int | float | str | None]
    rejected: list[Rejected]


def measure(
    candidates: Candidates, accounts: Accounts, behaviors: Mapping[str, int], outside_window: int, target: str
) -> dict[str, Any]:
    """The metrics by name: counts of the delivery, shares from 0 to 1, moments in ISO 8601."""
    found = candidates.metrics()
    events, rows = found["events"], accounts.rows
    shares = {f"share_{name}": count / max(events, 1) for name, count in behaviors.items()}
    return {
        **found,
        **shares,
        "rows": rows,
        "duplicates": accounts.duplicates,
        "duplicate_share": accounts.duplicates / max(rows, 1),
        "quarantined": accounts.quarantined,
        "quarantined_share": accounts.quarantined / max(rows, 1),
        "unaccounted_rows": rows - accounts.events - accounts.duplicates - accounts.quarantined,
        "blank_lines": accounts.blank_lines,
        "outside_window": outside_window,
        "target_events": behaviors.get(target, 0),
        "target_share": behaviors.get(target, 0) / max(events, 1),
    }


def read_measures(staging: Path) -> Measures:
    """The measures of a staged delivery.

    Raises:
        StorageError: the file is gone or damaged; landing again makes it anew.
    """
    path = staging / MEASURES
    try:
        return Measures.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise StorageError(f"{path}: not readable ({error}); delete {staging} and run again") from None
