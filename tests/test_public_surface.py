"""Flags, DAG params, metric names and exit codes are frozen: to change one is a decision, not a side effect."""

import difflib

import pytest

from tests.support import surface


@pytest.mark.slow
def test_public_surface_is_the_frozen_one() -> None:
    frozen = surface.FILE.read_text(encoding="utf-8")
    changed = "\n".join(
        difflib.unified_diff(frozen.splitlines(), surface.text().splitlines(), "frozen", "now", lineterm="", n=0)
    )
    assert not changed, f"if this is meant, run: python -m tests.support.surface\n{changed}"
