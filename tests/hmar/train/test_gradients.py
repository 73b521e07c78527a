"""A step in parts has the gradients of the step; what does not fit into memory is done in parts."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hmar.data.batches import TrainingData
from hmar.data.snapshot import Snapshot
from hmar.errors import ModelError
from hmar.losses import loss_function, total_loss
from hmar.models.base import Encoder
from hmar.train.gradients import out_of_memory
from hmar.train.loop import Trainer
from hmar.train.parts import part
from tests.support.arrays import random_users, write_snapshot
from tests.support.contract import OF_FAMILY, params
from tests.support.models import build, in_double, stirred
from tests.support.training import computed, make_trainer, train_settings

LOSSES: dict[str, dict[str, Any]] = {
    "bce": {"negatives": 2},
    "bpr": {"negatives": 2},
    "gbce": {"negatives": 2, "negatives_from": "uniform"},
    "sampled_softmax": {"negatives": 8, "negatives_from": "uniform"},
    "sampled_softmax-shared": {"negatives": 8, "negatives_from": "popularity", "negatives_per": "batch"},
    "cross_entropy": {"negatives": 0},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Users of very different lengths, three behaviors, repeats."""
    return write_snapshot(tmp_path_factory.mktemp("shop"), random_users(60, 30, 3, 20, seed=5, shortest=2), items=30)


def gradients(model: Encoder) -> dict[str, Tensor]:
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", params(OF_FAMILY["encoder"]))
@pytest.mark.parametrize("users", [1, 5, 16])
def test_parts_add_up_to_the_batch(shop: Snapshot, case: tuple[str, dict[str, Any]], loss: str, users: int) -> None:
    model = stirred(build(*case, shop)).double()
    assert isinstance(model, Encoder)
    data = TrainingData(
        shop,
        "leave_one_out",
        max_length=9,
        batch_size=17,
        behaviors=model.reads,
        counts=model.uses_hbi,
        recency=model.uses_recency,
        **LOSSES[loss],
    )
    batch = in_double(next(data.batches(0)))
    function = loss_function(loss.partition("-")[0])
    whole = total_loss(model, function, batch)
    whole.backward()
    expected = gradients(model)
    model.zero_grad()
    total = torch.zeros(())
    for start in range(0, len(batch.histories), users):
        some = part(batch, start, min(start + users, len(batch.histories)))
        value = total_loss(model, function, some) * (len(some.next_item) / len(batch.next_item))
        value.backward()
        total = total + value.detach()
    torch.testing.assert_close(total, whole.detach(), rtol=1e-12, atol=1e-12)
    got = gradients(model)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-9, atol=1e-12)


class Short:
    """Memory for so many users and no more; what it is asked to do is written down."""

    uses_negatives = True

    def __init__(self, room: int, after: int = 0, error: type[Exception] = torch.OutOfMemoryError) -> None:
        self.room, self.after, self.error = room, after, error
        self.users: list[int] = []

    def __call__(self, encoder: Encoder, states: Tensor, batch: Any) -> Tensor:
        self.users.append(len(batch.user))
        if len(self.users) > self.after and len(batch.user) > self.room:
            raise self.error("out of memory. Tried to allocate 3.00 GiB\nand more lines")
        return loss_function("bce")(encoder, states, batch)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def still(**values: Any) -> dict[str, Any]:
    """Without dropout, whose noise a pass in parts draws anew."""
    return {"config": {"d": 16, "blocks": 1, "dropout": 0.0, "positions": 10}, **values}


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_out_of_memory_goes_on_in_smaller_parts_to_the_same_result(
    cycle: Snapshot, tmp_path: Path, capsys: pytest.CaptureFixture[str], error: type[Exception]
) -> None:
    straight = make_trainer(train_settings(cycle, tmp_path / "straight", **still()))
    straight.fit()
    short = Short(room=5, after=3, error=error)
    settings = train_settings(cycle, tmp_path / "short", **still())
    trainer = make_trainer(settings, loss=short)
    trainer.fit()
    # 16 users three times, then 16 and 8 in vain, and 4 from there on.
    assert short.users[:9] == [16, 16, 16, 16, 8, 4, 4, 4, 4]
    assert max(short.users[5:]) == 4
    shown = capsys.readouterr().out
    assert "warning: out of memory at epoch 1, step 4 (out of memory. Tried to allocate 3.00 GiB)" in shown
    assert "going on in passes of 4 users" in shown
    for got, expected in zip(computed(trainer.history), computed(straight.history), strict=True):
        assert got["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    moved = weights(straight)
    for name, tensor in weights(trainer).items():
        if not name.endswith("attention.qkv.bias"):  # its keys' part has no gradient but rounding, which Adam scales up
            torch.testing.assert_close(tensor, moved[name], rtol=1e-3, atol=1e-4)

    again = make_trainer(settings, loss=Short(room=5))
    assert again.restore()
    assert again._gradients.users == 4


def test_a_step_tried_again_draws_the_noise_of_its_beginning(cycle: Snapshot, tmp_path: Path) -> None:
    """It ends where a training ends that knew its memory from the start."""

    ended = []
    for place, users in (("failed", None), ("planned", 8)):
        trainer = make_trainer(train_settings(cycle, tmp_path / place, max_epochs=1), loss=Short(room=8))
        trainer._gradients.users = users
        trainer.fit()
        ended.append((trainer.history[0]["loss"], weights(trainer)))
    assert ended[0][0] == ended[1][0]
    assert all(torch.equal(tensor, ended[1][1][name]) for name, tensor in ended[0][1].items())


def test_no_room_for_one_user_is_an_error_that_says_so(cycle: Snapshot, tmp_path: Path) -> None:
    short = Short(room=0, after=2)
    trainer = make_trainer(train_settings(cycle, tmp_path / "out"), loss=short)
    with pytest.raises(ModelError, match=r"epoch 1, step 3 with one user at a time \(out of mem.* lower max_length"):
        trainer.fit()
    assert short.users == [16, 16, 16, 8, 4, 2, 1]


def test_other_errors_are_not_taken_for_a_lack_of_memory(cycle: Snapshot, tmp_path: Path) -> None:
    short = Short(room=5, error=RuntimeError)
    trainer = make_trainer(train_settings(cycle, tmp_path / "out"), loss=short)
    with pytest.raises(RuntimeError, match="Tried to allocate"):
        trainer.fit()
    assert short.users == [16]
    assert out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_a_real_lack_of_memory_is_survived(tmp_path: Path) -> None:
    """The kernel refuses the process more than it has for one big batch; the allocator of torch says so."""
    command = [sys.executable, "-m", "tests.support.short_of_memory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "out of memory at epoch 1, step 1" in done.stdout
    assert "DefaultCPUAllocator: can't allocate memory" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("the same")
