"""The command line of a benchmark, and the files that it keeps: OUT.json with all numbers, OUT.md with the tables made
of them."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hmar.errors import HmarError

S = TypeVar("S")


def run_benchmark(read: Callable[[], S], work: Callable[[S], object]) -> int:
    """A benchmark from its settings to its tables; the exit code, after a line about what went wrong if it did.

    Args:
        read: gives the settings. work: measures with them, keeps and prints.
    """
    try:
        work(read())
    except HmarError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def kept(out: Path) -> dict[str, Any]:
    """What OUT.json holds; empty where there is none."""
    path = out.with_suffix(".json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def keep(out: Path, numbers: Mapping[str, Any], text: str) -> None:
    """Replace both files."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(numbers, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(text, encoding="utf-8")


def tell(out: Path, numbers: Mapping[str, Any], text: str) -> None:
    """Replace both files, and print the tables."""
    keep(out, numbers, text)
    print(text)
