"""Every loss against its definition, in float64: value and gradient, with weights, masks and counts."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hmar.data.batches import TrainingData
from hmar.data.counting import PriorCounts
from hmar.data.moving import each_tensor
from hmar.data.snapshot import Snapshot
from hmar.data.targets import histories_before
from hmar.errors import SettingsError
from hmar.losses import LOSSES, loss_function, total_loss
from hmar.losses.cross_entropy import CrossEntropy
from hmar.losses.gbce import GBCE
from hmar.models import model_class
from hmar.models.base import Encoder, TrainingBatch, Vocabulary
from tests.hmar.losses import oracle
from tests.support.arrays import random_users, write_snapshot
from tests.support.models import build, in_double, pack_rows, stirred

L = 6
"""Shorter than many histories, so that counts reach further back than what is read."""
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "sasrec": ("sasrec", {"d": 6}),
    "hmar": ("hmar", {"d": 6, "alpha": {"view": 0.0, "cart": 0.3, "buy": 2.0}}),
    "hmar-target": ("hmar", {"d": 6, "behaviors": "target"}),
    "hmar-no-hbi": ("hmar", {"d": 6, "hbi": "none"}),
    "plus": ("hmar_plus", {"d": 6, "now": True}),
    "plus-left-out": ("hmar_plus", {"d": 6, "consumed": "left_out"}),
    "plus-no-evidence": ("hmar_plus", {"d": 6, "evidence": False, "auxiliary": 2.0}),
}
WAYS = [
    ("bce", "unseen", "position"),
    ("bce", "popularity", "position"),
    ("bce", "uniform", "batch"),
    ("bpr", "unseen", "position"),
    ("bpr", "uniform", "batch"),
    ("gbce", "uniform", "position"),
    ("gbce", "uniform", "batch"),
    ("sampled_softmax", "uniform", "position"),
    ("sampled_softmax", "popularity", "position"),
    ("sampled_softmax", "popularity", "batch"),
]


def case(store: Snapshot, which: str, **given: Any) -> tuple[Encoder, TrainingBatch]:
    """A model whose scores differ by some units, and one batch."""
    name, config = MODELS[which]
    model = stirred(build(name, config, store)).double()
    assert isinstance(model, Encoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
        model.items.weight.mul_(5)
    given["recency"] = model.uses_recency
    data = TrainingData(store, "leave_one_out", max_length=L, behaviors=model.reads, **given)
    (batch,) = data.batches(0)
    return model, in_double(batch)


def queries(model: Encoder, batch: TrainingBatch) -> Tensor:
    return model.training_queries(model.encode(batch.histories), batch)


def assert_equal(model: Encoder, loss: Tensor, expected: Tensor) -> None:
    """The same number with the same gradient."""
    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=0)
    got = torch.autograd.grad(3 * loss, list(model.parameters()), allow_unused=True)
    wanted = torch.autograd.grad(3 * expected, list(model.parameters()), allow_unused=True)
    reached = 0
    for a, b, parameter in zip(got, wanted, model.parameters(), strict=True):
        zero = torch.zeros_like(parameter)
        torch.testing.assert_close(zero if a is None else a, zero if b is None else b, rtol=1e-8, atol=1e-11)
        reached += b is not None and bool(b.any())
    assert reached > 3


@pytest.mark.parametrize("which", MODELS)
@pytest.mark.parametrize(("name", "source", "per"), WAYS)
def test_sampled_losses_are_their_definitions(store: Snapshot, which: str, name: str, source: str, per: str) -> None:
    model, batch = case(store, which, negatives=4, negatives_from=source, negatives_per=per)
    options = {"t": 0.4} if name == "gbce" else {}
    loss = loss_function(name, **options)(model, queries(model, batch), batch)

    states, weights = model.encode(batch.histories), model.position_weights(batch)
    define: Callable[..., Tensor] = getattr(oracle, name)
    more = {"t": 0.4, "items": store.n_items} if name == "gbce" else {}
    total = torch.zeros((), dtype=torch.float64)
    hits = 0
    for t, event in enumerate(oracle.asked_events(store, batch, model.reads, L)):
        true, drawn = int(batch.next_item[t]), torch.broadcast_to(batch.negatives, (len(states), 4))[t].tolist()
        assert true == store.item[event]
        log_q = oracle.log_q(store, model.reads, source, true if per == "position" else None)
        others = [item for item in drawn if item != true]
        hits += len(drawn) - len(others)
        total = total + define(
            oracle.score(model, store, states[t], event, true),
            [oracle.score(model, store, states[t], event, item) for item in others],
            [float(np.float32(log_q[item])) for item in (*others, *(item for item in drawn if item == true))],
            1.0 if weights is None else float(weights[t]),
            **more,
        )
    assert (hits > 0) == (per == "batch")
    assert_equal(model, loss, total / len(states))


@pytest.mark.parametrize("which", MODELS)
@pytest.mark.parametrize("chunk_mb", [None, 1e-9, 3 * 11 * 8 / 2**20])
def test_cross_entropy_is_its_definition(store: Snapshot, which: str, chunk_mb: float | None) -> None:
    """In chunks of one position, of three, and in one."""
    model, batch = case(store, which, negatives=0)
    loss = loss_function("cross_entropy", chunk_mb=chunk_mb)(model, queries(model, batch), batch)
    states, weights = model.encode(batch.histories), model.position_weights(batch)
    total = torch.zeros((), dtype=torch.float64)
    for t, event in enumerate(oracle.asked_events(store, batch, model.reads, L)):
        scores = [oracle.score(model, store, states[t], event, item) for item in range(store.n_items)]
        true = int(batch.next_item[t])
        others = [score for item, score in enumerate(scores) if item != true]
        total = total + oracle.cross_entropy(scores[true], others, 1.0 if weights is None else float(weights[t]))
    assert_equal(model, loss, total / len(states))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Items do not recur: one that was bought is in no ranking. (Here it does all the same, which has to be borne.)"""
    users = random_users(10, 11, 3, 14, seed=3)
    return write_snapshot(tmp_path_factory.mktemp("films") / "snapshot", users, items=11, repeats=False)


@pytest.mark.parametrize(("name", "source", "per"), [*WAYS, ("cross_entropy", "unseen", "position")])
def test_what_is_used_up_is_in_no_loss(films: Snapshot, name: str, source: str, per: str) -> None:
    every = list(range(films.n_items))
    drawn = 0 if name == "cross_entropy" else 6
    model, batch = case(films, "plus-left-out", negatives=drawn, negatives_from=source, negatives_per=per)
    loss = loss_function(name)(model, queries(model, batch), batch)
    states, weights = model.encode(batch.histories), model.position_weights(batch)
    assert weights is not None
    total, left_out, borne = torch.zeros((), dtype=torch.float64), 0, 0
    for t, event in enumerate(oracle.asked_events(films, batch, None, L)):
        true, weight = int(batch.next_item[t]), float(weights[t])
        first = films.offsets[int((films.offsets[1:] <= event).sum())]
        used = {int(films.item[row]) for row in range(first, event) if films.consuming[films.behavior[row]]}
        items = torch.broadcast_to(batch.negatives, (len(states), drawn))[t].tolist() if drawn else every
        gone = [item for item in items if item == true or item in used]
        others = [item for item in items if item not in gone]
        left_out += len(gone) - gone.count(true)
        borne += true in used
        positive = oracle.score(model, films, states[t], event, true)
        scores = [oracle.score(model, films, states[t], event, item) for item in others]
        if name == "cross_entropy":
            total = total + oracle.cross_entropy(positive, scores, weight)
            continue
        log_q = oracle.log_q(films, None, source, true if per == "position" else None)
        more = {"t": 0.75, "items": films.n_items} if name == "gbce" else {}
        define: Callable[..., Tensor] = getattr(oracle, name)
        total = total + define(
            positive, scores, [float(np.float32(log_q[i])) for i in (*others, *gone)], weight, **more
        )
    assert (left_out > 0) == (source != "unseen" or name == "cross_entropy")
    assert borne > 0
    assert_equal(model, loss, total / len(states))


@pytest.mark.parametrize("which", ["sasrec", "hmar", "plus"])
def test_cross_entropy_is_of_the_scores_that_a_ranking_has(store: Snapshot, which: str) -> None:
    """-log softmax of :meth:`score_all`, asked just before the event, over the event's own history."""
    model, batch = case(store, which, negatives=0)
    events = torch.tensor(oracle.asked_events(store, batch, model.reads, L))
    last = batch.histories.offsets[1:] - 1
    ends, users = events[last].numpy(), batch.user.numpy()
    asked = store.behavior[ends].astype("int64")
    histories = in_double(histories_before(store, users, ends, store.time[ends], asked, L, model.reads))
    assert torch.equal(histories.item, batch.histories.item)
    seen = in_double(PriorCounts(store).history_items(users, ends))
    probability = model.score_all(histories, seen).log_softmax(-1)
    expected = -probability.gather(1, batch.next_item[last, None]).mean()

    only_last = torch.zeros(len(events), dtype=torch.float64)
    only_last[last] = len(events) / len(last)
    model.position_weights = lambda batch: only_last  # type: ignore[method-assign]
    loss = loss_function("cross_entropy")(model, queries(model, batch), batch)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("which", ["sasrec", "hmar", "plus"])
@pytest.mark.parametrize(("name", "source", "per"), WAYS)
def test_the_order_of_negatives_changes_nothing(store: Snapshot, which: str, name: str, source: str, per: str) -> None:
    model, batch = case(store, which, negatives=7, negatives_from=source, negatives_per=per)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    assert batch.negative_log_q is not None
    shuffled = replace(
        batch,
        negatives=batch.negatives[..., order],
        negative_log_q=batch.negative_log_q[..., order],
        negative_hbi=batch.negative_hbi[:, order] if per == "position" else batch.negative_hbi,
        negative_evidence=each_tensor(batch.negative_evidence, lambda cells: cells[:, order]),
    )
    loss = loss_function(name)
    torch.testing.assert_close(
        loss(model, queries(model, shuffled), shuffled),
        loss(model, queries(model, batch), batch),
        rtol=1e-12,
        atol=0,
    )


@pytest.mark.parametrize("per", ["position", "batch"])
@pytest.mark.parametrize("source", ["uniform", "popularity"])
def test_the_sampled_normalizer_is_unbiased(store: Snapshot, source: str, per: str) -> None:
    """Its mean over all draws of one negative is the sum over the catalog."""
    model, whole = case(store, "sasrec", negatives=1, negatives_from=source, negatives_per=per)
    states = model.encode(whole.histories).detach()
    scores = (states @ model.items.weight.T).detach()
    for t in range(0, len(states), 7):
        true = int(whole.next_item[t])
        log_q = oracle.log_q(store, None, source, true if per == "position" else None)
        cut = {name: getattr(whole, name)[t : t + 1] for name in ("next_item", "next_behavior", "next_hbi")}
        mean = 0.0
        for item in range(store.n_items):
            if log_q[item] == -math.inf:
                continue
            shape = (1,) if per == "batch" else (1, 1)
            drawn = replace(
                whole,
                **cut,
                negatives=torch.full(shape, item),
                negative_log_q=torch.full(shape, log_q[item], dtype=torch.float64),
            )
            loss = loss_function("sampled_softmax")(model, states[t : t + 1], drawn)
            mean += math.exp(log_q[item]) * math.exp(loss.item() + scores[t, true].item())
        assert mean == pytest.approx(scores[t].exp().sum().item(), rel=1e-9)


def test_sampled_softmax_of_every_other_item_is_cross_entropy(store: Snapshot) -> None:
    model, batch = case(store, "sasrec", negatives=1, negatives_from="uniform")
    others = torch.stack([torch.tensor([i for i in range(11) if i != true]) for true in batch.next_item.tolist()])
    every = replace(batch, negatives=others, negative_log_q=torch.full(others.shape, -math.log(10)).double())
    states = model.encode(batch.histories)
    torch.testing.assert_close(
        loss_function("sampled_softmax")(model, states, every),
        loss_function("cross_entropy")(model, states, batch),
        rtol=1e-6,
        atol=0,
    )


def test_gbce_without_calibration_is_the_mean_of_bce(store: Snapshot) -> None:
    model, batch = case(store, "hmar", negatives=4, negatives_from="uniform")
    states = model.encode(batch.histories)
    torch.testing.assert_close(
        5 * loss_function("gbce", t=0.0)(model, states, batch), loss_function("bce")(model, states, batch)
    )


@pytest.mark.parametrize("t", [0.0, 0.3, 0.75, 1.0])
@pytest.mark.parametrize("negatives", [1, 16, 999])
def test_beta_is_the_papers(t: float, negatives: int) -> None:
    alpha = negatives / 999
    assert GBCE(t).beta(negatives, 1000) == pytest.approx(alpha * (t * (1 - 1 / alpha) + 1 / alpha), rel=1e-12)
    assert GBCE(t).beta(5000, 1000) == 1


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("which", ["sasrec", "hmar", "plus"])
@pytest.mark.parametrize("per", ["position", "batch"])
def test_extreme_logits_stay_finite(store: Snapshot, which: str, name: str, per: str) -> None:
    uses_negatives = loss_function(name).uses_negatives
    model, batch = case(store, which, negatives=3 * uses_negatives, negatives_from="uniform", negatives_per=per)
    with torch.no_grad():
        model.items.weight.mul_(1e4)
    loss = total_loss(model, loss_function(name), batch)
    assert loss.isfinite()
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, list(model.parameters())))


def test_an_unknown_loss_is_named_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"unknown 'cross_entropie'; did you mean 'cross_entropy'\?"):
        loss_function("cross_entropie")


@contextmanager
def largest() -> Iterator[list[int]]:
    """The number of elements of every tensor that any operation inside makes."""
    sizes: list[int] = [0]

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            sizes.extend(leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, Tensor))
            return made

    with Watch():
        yield sizes


@pytest.mark.parametrize("which", ["sasrec", "hmar", "plus"])
def test_cross_entropy_never_holds_the_logits_of_all_positions(which: str, tmp_path: Path) -> None:
    items = 3000
    store = write_snapshot(tmp_path / "s", random_users(60, items, 3, 40, seed=2, shortest=10), items=items)
    model, batch = case(store, which, negatives=0, batch_size=60)
    positions, rows = len(batch.next_item), 16
    bound = max(items * 6 * 2, rows * items)
    assert positions * items > 5 * bound
    loss = loss_function("cross_entropy", chunk_mb=rows * items * 8 / 2**20)
    with largest() as sizes:
        loss(model, queries(model, batch), batch).backward()
    assert rows * items in sizes
    assert max(sizes) <= bound


def test_a_sum_over_the_catalog_is_made_in_single_precision_at_least(store: Snapshot) -> None:
    """Equal scores of 4,096 items: a sum of them in bfloat16 ends at 256."""
    model, batch = case(store, "sasrec", negatives=0)
    model.vocabulary = replace(model.vocabulary, items=4096)
    model.items = torch.nn.Embedding(4096, 6, dtype=torch.bfloat16)
    torch.nn.init.zeros_(model.items.weight)
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            states = torch.ones(len(batch.next_item), 6, dtype=torch.bfloat16, requires_grad=True)
            loss = loss_function("cross_entropy")(model, states, batch)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(math.log(4096), rel=1e-6)
        (gradient,) = torch.autograd.grad(loss, states)
        assert gradient.dtype == torch.bfloat16


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("which", ["sasrec", "hmar", "plus"])
@pytest.mark.parametrize("per", ["position", "batch"])
def test_bfloat16_autocast_is_near(store: Snapshot, which: str, name: str, per: str) -> None:
    uses_negatives = loss_function(name).uses_negatives
    model, _ = case(store, which, negatives=3 * uses_negatives, negatives_from="uniform", negatives_per=per)
    data = TrainingData(
        store,
        "leave_one_out",
        max_length=L,
        negatives=3 * uses_negatives,
        negatives_from="uniform",
        negatives_per=per,
        recency=model.uses_recency,
    )
    (batch,) = data.batches(0)
    model = model.float()
    exact = total_loss(model, loss_function(name), batch)
    with torch.autocast("cpu", torch.bfloat16):
        near = total_loss(model, loss_function(name), batch)
    near.backward()
    assert near.dtype == torch.float32
    assert near.item() == pytest.approx(exact.item(), rel=0.05)


MILLION = 4 * 10**6
"""Bytes of the logits of a million items."""


@pytest.mark.parametrize(
    ("each", "memory", "chunk_mb", "rows"),
    [
        (4 * 3416, None, None, 76),
        (MILLION, None, None, 64),
        (10 * MILLION, None, None, 6),
        (10**9, None, None, 1),
        (4 * 3416, 80 * 2**30, None, 19645),
        (MILLION, 80 * 2**30, None, 512),
        (MILLION, 16 * 2**30, None, 134),
        (10 * MILLION, 16 * 2**30, None, 13),
        (10**10, 16 * 2**30, None, 1),
        (MILLION, 80 * 2**30, 100, 26),
        (MILLION, None, 1e-9, 1),
    ],
)
def test_logits_at_once_are_bounded(each: int, memory: int | None, chunk_mb: float | None, rows: int) -> None:
    loss = CrossEntropy(chunk_mb=chunk_mb)
    assert loss.rows(each, memory) == rows
    if chunk_mb is None and rows > 1:
        assert rows * each <= max(2**28, (memory or 0) // 32)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_a_million_items_on_the_gpu(precision: torch.dtype | None) -> None:
    """d = 256 and 12,800 positions, whose logits would be 51 GB: the tables that have to be there, and little more."""
    vocabulary = Vocabulary(10**6, ("view", "buy"), 1, True, (True, True))
    torch.manual_seed(0)
    with torch.device("cuda"):
        kind = model_class("sasrec")
        model = kind(kind.Config.parse({"d": 256}), vocabulary)
        states = torch.randn(12_800, 256, requires_grad=True)
        target = torch.randint(10**6, (12_800,))
    assert isinstance(model, Encoder)
    histories = pack_rows([], behaviors=2).to(torch.device("cuda"))
    empty = torch.zeros(12_800, 0, dtype=torch.int64, device="cuda")
    batch = TrainingBatch(histories, target, target, empty, empty, empty, target)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.autocast("cuda", precision or torch.bfloat16, enabled=precision is not None):
        loss = CrossEntropy()(model, states, batch)
    loss.backward()
    table = 4 * 256 * 10**6
    logits = max(2**28, torch.cuda.get_device_properties(0).total_memory // 32)
    assert torch.cuda.max_memory_allocated() - before < 4 * table + 3 * logits
    some = slice(0, 100)
    with torch.no_grad():
        scores = states[some] @ model.items.weight.T
        exact = torch.nn.functional.cross_entropy(scores, target[some])
        part = replace(batch, next_item=target[some])
        assert CrossEntropy()(model, states[some], part).item() == pytest.approx(exact.item(), rel=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("which", ["sasrec", "hmar", "plus"])
def test_cross_entropy_on_the_gpu(store: Snapshot, which: str, precision: torch.dtype | None) -> None:
    """Near what the CPU computes in float64, whatever the autocast."""
    model, batch = case(store, which, negatives=0)
    states = queries(model, batch).detach().requires_grad_()
    exact = loss_function("cross_entropy")(model, states, batch)
    (wanted,) = torch.autograd.grad(exact, states)
    model = model.float().cuda()
    (batch,) = TrainingData(store, "leave_one_out", max_length=L, negatives=0, recency=model.uses_recency).batches(0)
    on_gpu = states.detach().float().cuda().requires_grad_()
    with torch.autocast("cuda", precision or torch.bfloat16, enabled=precision is not None):
        loss = loss_function("cross_entropy")(model, on_gpu, batch.to(torch.device("cuda")))
    (got,) = torch.autograd.grad(loss, on_gpu)
    near = 1e-4 if precision is None else 0.03
    assert loss.item() == pytest.approx(exact.item(), rel=near)
    assert float((got.cpu() - wanted).norm() / wanted.norm()) < near
