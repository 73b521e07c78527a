"""Every kernel's plan against its definition, and the choice among them; what only a GPU has is marked so."""

import math
import shutil
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from hmar.layers import kernels
from hmar.layers.attention import causal_attention
from hmar.layers.bucketed import bucketed_attention
from hmar.layers.flex import block_mask, flex_attention
from hmar.layers.grouped import BehaviorGroups
from hmar.layers.kernels import attend, choose, suited
from hmar.layers.segments import BLOCK, Blocks, Buckets, Ends, Segments
from tests.support.models import pack_rows

LENGTHS = [
    pytest.param([5], id="one"),
    pytest.param([0, 130, 1, 1, 300, 0, 7], id="across-blocks"),
    pytest.param([128, 128], id="whole-blocks"),
    pytest.param([127, 2, 400, 200, 50], id="within-and-beyond"),
    pytest.param([0], id="nothing"),
]

A100, H100, RTX_4090, T4, V100 = (8, 0), (9, 0), (8, 9), (7, 5), (7, 0)
F32, BF16, F16, F64 = torch.float32, torch.bfloat16, torch.float16, torch.float64


def naive(qkv: Tensor, seen: Tensor) -> Tensor:
    """Attention under a mask that says which keys each query sees, bool [T, T]."""
    q, k, v = qkv.permute(1, 2, 0, 3)
    logits = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(~seen, -torch.inf)
    return (logits.softmax(-1) @ v).transpose(0, 1)


def visible(lengths: list[int]) -> Tensor:
    """Which keys each query sees, by definition."""
    return torch.block_diag(*[torch.ones(n, n).tril() for n in lengths]).bool()


def example(lengths: list[int], width: int, **given: Any) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(sum(lengths), 3, 2, width, **given)


# -- the plans, on the CPU -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", LENGTHS)
def test_ends_are_where_the_filled_segments_begin(lengths: list[int]) -> None:
    ends = Ends.of(torch.tensor(lengths))
    filled = [n for n in lengths if n]
    assert ends.cumulative.dtype == torch.int32
    assert ends.cumulative.diff().tolist() == filled
    assert int(ends.cumulative[0]) == 0
    assert ends.longest == max(filled, default=0)
    seen = torch.zeros(sum(lengths), sum(lengths), dtype=torch.bool)
    bounds = ends.cumulative.tolist()
    for first, last in pairwise(bounds):
        for t in range(first, last):
            seen[t, first : t + 1] = True
    assert torch.equal(seen, visible(lengths))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_the_block_mask_is_the_one_of_its_definition(lengths: list[int]) -> None:
    from torch.nn.attention.flex_attention import create_block_mask, create_mask

    blocks = Blocks.of(torch.tensor(lengths))
    ours = block_mask(blocks)
    expected = create_block_mask(ours.mask_mod, None, None, blocks.padded, blocks.padded, device="cpu")
    assert ours.shape == expected.shape
    tables = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")
    backward = ("q_num_blocks", "q_indices", "full_q_num_blocks", "full_q_indices")
    for name in (*tables, *backward):
        got, wanted = getattr(ours, name), getattr(expected, name)
        if name.endswith("indices"):  # columns beyond the count are filler
            count = getattr(ours, name.replace("indices", "num_blocks"))[..., None]
            used = torch.arange(got.shape[-1]) < count
            got, wanted = got.where(used, -1), wanted.where(used, -1)
        assert torch.equal(got, wanted), name
    seen = create_mask(ours.mask_mod, 1, 1, blocks.padded, blocks.padded, device="cpu")[0, 0]
    padding = torch.eye(blocks.padded - blocks.tokens, dtype=torch.bool)
    assert torch.equal(seen, torch.block_diag(visible(lengths), padding).bool())


@pytest.mark.parametrize("lengths", LENGTHS[:-1])
def test_under_the_block_mask_outputs_and_gradients_are_those_of_the_buckets(lengths: list[int]) -> None:
    from torch.nn.attention.flex_attention import create_mask

    blocks = Blocks.of(torch.tensor(lengths))
    seen = create_mask(block_mask(blocks).mask_mod, 1, 1, blocks.tokens, blocks.tokens, device="cpu")[0, 0]
    qkv = example(lengths, 5, dtype=F64, requires_grad=True)
    masked, bucketed = naive(qkv, seen), bucketed_attention(qkv, Buckets.of(torch.tensor(lengths)))
    torch.testing.assert_close(masked, bucketed, rtol=1e-10, atol=1e-10)
    weights = torch.randn_like(masked)
    (got,) = torch.autograd.grad(masked, qkv, weights)
    (expected,) = torch.autograd.grad(bucketed, qkv, weights)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("width", [5, 16, 24])
def test_flex_attention_without_compiler_equals_the_buckets(width: int) -> None:
    torch.compiler.reset()
    lengths = [0, 130, 1, 1, 300, 0, 7]
    qkv = example(lengths, width)
    segments = Segments.of(torch.tensor(lengths))
    torch.testing.assert_close(attend("flex", qkv, segments), attend("bucketed", qkv, segments))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_flex_attention_compiled_visits_the_blocks_it_should() -> None:
    """The compiled kernel goes by the tables alone where they say that a block is full, or not to be visited."""
    torch.compiler.reset()
    lengths = [0, 130, 1, 1, 300, 0, 7]
    blocks = Blocks.of(torch.tensor(lengths))
    qkv = example(lengths, 16)
    q, k, v = pad(qkv, (0, 0, 0, 0, 0, 0, 0, blocks.padded - blocks.tokens)).permute(1, 2, 0, 3)[:, None]
    from torch.nn.attention.flex_attention import flex_attention as kernel

    with torch.no_grad():
        out = torch.compile(kernel, dynamic=False, fullgraph=True)(q, k, v, block_mask=block_mask(blocks))
    expected = bucketed_attention(qkv, Buckets.of(torch.tensor(lengths)))
    torch.testing.assert_close(out[0].transpose(0, 1)[: blocks.tokens], expected)


def test_batches_have_few_sizes_and_little_padding() -> None:
    sizes = set()
    for tokens in range(1, 30_000, 7):
        blocks = Blocks.of(torch.tensor([tokens]))
        sizes.add(blocks.padded)
        assert blocks.padded >= tokens
        assert blocks.padded <= max(tokens * 9 / 8 + BLOCK, BLOCK)
        assert blocks.padded % BLOCK == 0
    assert len(sizes) < 60


def test_what_was_planned_is_not_planned_again_and_moves_along() -> None:
    histories = pack_rows([[(t, t % 2, t) for t in range(n)] for n in (3, 0, 5)], behaviors=2)
    rows = Segments.of_rows(histories)
    plan = rows.form("bucketed")
    groups = BehaviorGroups.of(histories, 2)
    of_groups = groups.segments.form("varlen")
    assert Segments.of_rows(histories) is rows
    assert BehaviorGroups.of(histories, 2) is groups
    assert rows.form("bucketed") is plan
    there = histories.to(torch.device("meta"))
    assert there.item.is_meta
    assert Segments.of_rows(there).form("bucketed").cell.is_meta
    assert BehaviorGroups.of(there, 2).order.is_meta
    assert BehaviorGroups.of(there, 2).segments.form("varlen").cumulative.is_meta
    assert BehaviorGroups.of(there, 2).segments.form("varlen").longest == of_groups.longest
    assert BehaviorGroups.of(there, 2).sizes == groups.sizes


# -- the choice ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "dtype", "width", "dropout", "gradients", "kernel"),
    [
        (A100, BF16, 64, 0.0, True, "varlen"),
        (H100, F16, 50, 0.0, False, "varlen"),
        (H100, BF16, 256, 0.0, True, "varlen"),
        (RTX_4090, BF16, 256, 0.0, True, "bucketed"),
        (RTX_4090, BF16, 192, 0.0, True, "varlen"),
        (H100, BF16, 300, 0.0, True, "bucketed"),
        (H100, BF16, 64, 0.1, True, "bucketed"),
        (T4, F16, 64, 0.0, True, "bucketed"),
        (H100, F32, 64, 0.0, True, "flex"),
        (H100, F32, 5, 0.0, True, "flex"),
        (H100, F32, 64, 0.0, False, "bucketed"),
        (H100, F32, 64, 0.1, True, "bucketed"),
        (H100, F32, 257, 0.0, True, "bucketed"),
        (V100, F32, 64, 0.0, True, "flex"),
        ((6, 1), F32, 64, 0.0, True, "bucketed"),
        (H100, F64, 64, 0.0, True, "bucketed"),
    ],
)
def test_what_suits(
    capability: tuple[int, int], dtype: torch.dtype, width: int, dropout: float, gradients: bool, kernel: str
) -> None:
    assert suited(capability, dtype, width, dropout, gradients) == kernel


@pytest.mark.parametrize("dtype", [F32, F64, BF16])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_on_the_cpu_it_is_the_bucketed_form(dtype: torch.dtype, dropout: float) -> None:
    assert choose(torch.device("cpu"), dtype, 64, dropout) == "bucketed"


@pytest.mark.parametrize("kernel", ["varlen", "flex"])
def test_a_kernel_that_does_not_work_here_is_not_used_and_the_log_says_so(
    kernel: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither has gradients on the CPU."""
    kernels.works.cache_clear()
    state = torch.get_rng_state()
    assert not kernels.works(kernel, torch.device("cpu"), BF16 if kernel == "varlen" else F32, 16)
    assert f"attention kernel {kernel} does not work here" in caplog.text
    assert torch.equal(torch.get_rng_state(), state)


def test_a_kernel_that_works_is_found_to(caplog: pytest.LogCaptureFixture) -> None:
    kernels.works.cache_clear()
    with torch.inference_mode():
        assert kernels.works("bucketed", torch.device("cpu"), F32, 5)
    assert not caplog.records


def test_a_kernel_that_is_off_is_found_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    kernels.works.cache_clear()
    monkeypatch.setattr(kernels, "flex_attention", lambda qkv, blocks: 1.01 * qkv[:, 2])
    assert not kernels.works("flex", torch.device("cpu"), F32, 16)
    assert "which is too much" in caplog.text
    kernels.works.cache_clear()


# -- on a GPU --------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [F32, BF16, F16])
@pytest.mark.parametrize("width", [5, 16, 50, 64, 80, 256])
@pytest.mark.parametrize("lengths", LENGTHS[:-1])
def test_the_chosen_kernel_gives_what_the_buckets_give(dtype: torch.dtype, width: int, lengths: list[int]) -> None:
    device = torch.device("cuda")
    qkv = example(lengths, width).to(device, dtype).requires_grad_()
    kernel = choose(device, dtype, width)
    assert kernel == suited(torch.cuda.get_device_capability(), dtype, width, 0.0, True), "see the log of works()"
    segments = Segments.of(torch.tensor(lengths, device=device))
    got = causal_attention(qkv, segments)
    weights = torch.randn_like(got)
    exact = qkv.detach().cpu().double().requires_grad_()
    expected = naive(exact, visible(lengths))
    near = 2e-3 if dtype == F32 else 3e-2
    torch.testing.assert_close(got.detach().cpu().double(), expected.detach(), rtol=near, atol=near)
    (gradient,) = torch.autograd.grad(got, qkv, weights)
    (wanted,) = torch.autograd.grad(expected, exact, weights.cpu().double())
    assert float((gradient.cpu().double() - wanted).norm() / wanted.norm()) < near


@pytest.mark.gpu
@pytest.mark.slow
def test_flex_attention_is_made_a_few_times_only() -> None:
    """A hundred batches of a hundred sizes, without an error about too many of them, and without quadratic memory."""
    device = torch.device("cuda")
    for tokens in range(20_000, 26_000, 60):
        qkv = torch.randn(tokens, 3, 1, 64, device=device, requires_grad=True)
        lengths = torch.tensor([100] * (tokens // 100) + [tokens % 100])
        flex_attention(qkv, Segments.of(lengths.to(device)).form("flex")).sum().backward()
    assert torch.cuda.max_memory_allocated() < 2**30
