"""What DIN is for: of several interests, the one that a candidate is about (Interests of tests.support)."""

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.grid import Grid
from tests.support import planted
from tests.support.models import build
from tests.support.planted_interests import interests, interests_snapshot

NETS = {"attention": [16], "hidden": [16]}


class Mean(nn.Module):
    """In place of target attention: every event weighs the same, whatever the candidate."""

    def keys(self, key_TD: Tensor) -> Tensor:
        return key_TD

    def forward(self, keys: Tensor, queries: Tensor, histories: Histories) -> Tensor:
        sums_BD = Grid.of(histories).spread(keys).sum(1)
        means_BD = sums_BD / histories.lengths.clamp(min=1)[:, None]
        return means_BD[:, None].expand(-1, queries.shape[1], -1)


def with_a_mean(*given: Any, **named: Any) -> Any:
    model = build(*given, **named)
    model.attention = Mean()
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config", "attends", "finds"),
    [
        ("din", {"dropout": 0.0, **NETS}, True, True),
        ("din", {"dropout": 0.0, **NETS}, False, False),
        ("bpr_mf", {}, True, False),
    ],
    ids=["din", "mean-of-equal-width", "bpr_mf"],
)
def test_a_quiet_interest_is_heard(
    name: str, config: dict[str, Any], attends: bool, finds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen categories in a width of eight: no mean can keep one event of a category apart from twelve of another."""
    if not attends:
        monkeypatch.setattr(planted, "build", with_a_mean)
    snapshot = interests_snapshot(tmp_path / "snapshot")
    model = planted.fitted(name, {"d": 8, **config}, snapshot, epochs=40, lr=0.02)
    share = interests(300, seed=99).found(model)
    assert share > 0.85 if finds else share < 0.75
