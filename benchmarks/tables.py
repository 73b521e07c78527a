"""The files that a benchmark keeps: OUT.json with all numbers, OUT.md with the tables made of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
