"""HMAR recovers the funnel that the generator plants: removing the auxiliary behaviors costs what they carry."""

from pathlib import Path

import pytest

from benchmarks.funnel import TOLERANCE, FunnelSettings, losses, markdown, outcomes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def row(funnel: float, work: Path) -> tuple[FunnelSettings, dict]:
    values = {"seeds": [0], "funnels": [funnel], "work": work, "resamples": 500}
    s = FunnelSettings.resolve(values, use_environment=False)
    return s, losses(s, [outcomes(s, funnel, 0)])


def test_where_a_funnel_is_planted_its_loss_is_that_of_the_generator(tmp_path: Path) -> None:
    s, found = row(1.0, tmp_path)
    low, high = found["expected"]
    assert 0.06 < low < high < 0.25, "what the generator says of its own log"
    assert low - TOLERANCE <= found["hmar"]["mean"] <= high + TOLERANCE
    assert found["hmar"]["low"] > 0, "beyond chance"
    about = {"metric": s.metric, "split": "leave_one_out", "users": s.users, "items": s.items, "seeds": [0],
             "confidence": 0.95, "code_version": "", "torch": "", "device": "CPU", "seconds": 0,
             "tolerance": TOLERANCE}  # fmt: skip
    assert ": inside" in markdown({"about": about, "rows": [{"funnel": 1.0, **found}]})


def test_where_none_is_planted_nothing_is_lost(tmp_path: Path) -> None:
    _, found = row(0.0, tmp_path)
    low, high = found["expected"]
    assert -0.03 < low < high < 0.03
    # Nor is anything gained: what reading more events costs a network (.016 on this log) is within the tolerance.
    assert low - TOLERANCE <= found["hmar"]["mean"] <= high + TOLERANCE
