"""The loop of the benchmarks: when it ends, and whose weights the model has then."""

from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import fitting


@pytest.mark.parametrize(
    ("values", "epochs", "ran", "best"),
    [([0.5, 0.7, 0.6, 0.7], 9, 4, 2), ([0.1, 0.2, 0.3], 3, 3, 3), ([0.4], 1, 1, 1)],
)
def test_the_best_epoch_is_kept(
    values: list[float], epochs: int, ran: int, best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "total_loss", lambda model, loss, batch: (model.weight * batch).sum())
    model: Any = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    asked: list[int] = []

    def batches(epoch: int) -> list[torch.Tensor]:
        asked.append(epoch)
        assert model.training
        return [torch.ones(1, 1)]

    def validate() -> float:
        assert not model.training
        return values[len(asked) - 1]

    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    course, found = fitting.fit(model, None, batches, optimizer, validate, epochs, patience=2)
    assert [epoch["value"] for epoch in course] == values[:ran]
    assert asked == list(range(ran))
    assert found == best
    assert model.weight.item() == -best, "a step of one per epoch"
