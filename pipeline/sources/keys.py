"""Whether the lines of a file are JSON objects with the keys of a layout; what :func:`base.fit` is to columns."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hmar.errors import DataError
from pipeline.ingest.lines import sample
from pipeline.sources.base import Layout, shown

Objects = list[tuple[int, dict[str, Any]]]


def objects(path: Path, layout: str) -> Objects:
    """The JSON objects among the head's lines, with their line numbers.

    Args:
        layout: what the file should be, for the message.

    Raises:
        DataError: fewer than half of the lines are JSON objects.
    """
    lines = sample(path)
    parsed = [(number, line, _parsed(line)) for number, line in lines]
    found = [(number, value) for number, _, value in parsed if isinstance(value, dict)]
    if len(found) * 2 < len(lines):
        number, line = next((number, line) for number, line, value in parsed if not isinstance(value, dict))
        if re.match(r"\{\s*u?'", line):
            raise DataError(
                f"{path}, line {number}: a Python dictionary, not JSON ({shown(line, 40)}); convert every line, for "
                "example with json.dumps(ast.literal_eval(line))"
            )
        raise DataError(
            f"{path}, line {number}: found {shown(line)}, expected one JSON object per line ({layout}); "
            "give the right file, or the dataset whose format this is"
        )
    return found


def fit_keys(path: Path, layout: Layout, found: Objects, others: Sequence[str] | None) -> Layout:
    """``layout``, if the objects are of it: single bad ones are left to the quarantine, a wrong file is not.

    Args:
        layout: its columns are the keys that are read; a pattern is that of the value's JSON text.
        found: what :func:`objects` gave.
        others: further keys that the format is known to have; None: whatever it has.

    Raises:
        DataError: in most objects a key is missing, unknown or of another type; names it and says what to do.
    """
    names = [column.name for column in layout.columns]
    counts = Counter(key for _, one in found for key in one)
    missing = [name for name in names if counts[name] * 2 < len(found)]
    known = counts if others is None else {*names, *others}
    unknown = [key for key, count in counts.items() if count * 2 > len(found) and key not in known]
    number, first = found[0]
    if missing or unknown:
        details = [
            *([f"missing {', '.join(missing)}"] if missing else []),
            *([f"unknown {', '.join(unknown)}"] if unknown else []),
        ]
        raise DataError(
            f"{path}, line {number}: the keys are {', '.join(first)} ({'; '.join(details)}), expected those of "
            f"{layout.name}: {', '.join(names)}; give the right file or rename the keys"
        )
    for column in layout.columns:
        wrong = [
            (number, json.dumps(one[column.name]))
            for number, one in found
            if column.name in one and not re.fullmatch(column.pattern, json.dumps(one[column.name]))
        ]
        if len(wrong) * 2 > len(found):
            number, text = wrong[0]
            raise DataError(
                f"{path}, line {number}, key {column.name}: found {shown(text)}, expected {column.expected} "
                f"({layout.name}); give the right file, or convert the values"
            )
    return layout


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
