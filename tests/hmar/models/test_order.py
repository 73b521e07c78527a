"""What recurrent and convolutional models are for: the order of events (Order of tests.support.planted_order)."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.planted import fitted
from tests.support.planted_order import order, order_snapshot


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config", "finds"),
    [
        ("gru4rec", {"d": 16, "dropout": 0.0}, True),
        ("caser", {"d": 16, "window": 3, "dropout": 0.0}, True),
        ("cnn", {"d": 16, "windows": 3, "dropout": 0.0}, True),
        ("bi_lstm", {"d": 16, "dropout": 0.0, "time": False}, True),
        ("bi_lstm_attention", {"d": 16, "dropout": 0.0, "time": False}, True),
        ("bpr_mf", {"d": 16}, False),
        ("din", {"d": 16, "dropout": 0.0, "time": False}, False),
        ("popularity", {}, False),
    ],
)
def test_the_order_of_two_views_says_what_is_bought(
    name: str, config: dict[str, Any], finds: bool, tmp_path: Path
) -> None:
    """The rows that do not find it do not read the order; times are a minute apart, so that no time bucket says it."""
    snapshot = order_snapshot(tmp_path / "snapshot")
    model = fitted(name, config, snapshot, epochs=25, lr=0.02, batch_size=50, negatives=4)
    share = order(200, seed=99).found(model)
    assert share > 0.95 if finds else 0.35 < share < 0.65
