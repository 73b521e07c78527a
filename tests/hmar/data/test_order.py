"""The batches of an epoch against plain lists, and what every epoch promises."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmar.data import order
from hmar.data.order import Batches, Batching

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=80)
BATCHING = st.sampled_from(["shuffled", "by_length"])


def plain(lengths: list[int], cut: Any, pool: int, batching: Batching, seed: int) -> list[list[int]]:
    """The same epoch with lists; ``cut`` turns a list of windows into batches, ``pool`` counts windows."""
    generator = np.random.default_rng(seed)
    windows = generator.permutation(len(lengths)).tolist()
    if batching == "shuffled":
        return list(cut(windows))
    pools = [windows[start : start + pool] for start in range(0, len(windows), pool)]
    batches = list(cut([window for one in pools for window in sorted(one, key=lambda w: lengths[w])]))
    return [batches[turn] for turn in generator.permutation(len(batches))]


def made(batches: Batches, seed: int) -> list[list[int]]:
    epoch = batches.order(np.random.default_rng(seed))
    return [epoch.batch(step).tolist() for step in range(batches.count)]


@given(lengths=LENGTHS, size=st.integers(1, 20), batching=BATCHING, seed=st.integers(0, 9))
def test_batches_of_so_many_windows(lengths: list[int], size: int, batching: Batching, seed: int) -> None:
    def cut(windows: list[int]) -> list[list[int]]:
        return [windows[start : start + size] for start in range(0, len(windows), size)]

    got = made(Batches(np.array(lengths, np.int32), size, batching=batching), seed)
    assert got == plain(lengths, cut, order.POOL * size, batching, seed)


@given(lengths=LENGTHS, more=st.integers(0, 60), batching=BATCHING, seed=st.integers(0, 9))
def test_batches_of_so_many_tokens(lengths: list[int], more: int, batching: Batching, seed: int) -> None:
    tokens = 2 * max(lengths) + more
    count = -(-sum(lengths) // tokens)

    def cut(windows: list[int]) -> list[list[int]]:
        """A window belongs to the batch in whose equal share of the positions it begins."""
        batches: list[list[int]] = [[] for _ in range(count)]
        before = 0
        for window in windows:
            batches[before * count // sum(lengths)].append(window)
            before += lengths[window]
        return batches

    batches = Batches(np.array(lengths, np.int32), 1, tokens, batching)
    got = made(batches, seed)
    assert got == plain(lengths, cut, order.POOL * -(-len(lengths) // count), batching, seed)
    assert batches.total == sum(lengths)
    for batch in got:
        assert 0 < sum(lengths[window] for window in batch) < tokens + max(lengths)


@given(
    lengths=LENGTHS,
    tokens=st.none() | st.integers(24, 100),
    size=st.integers(1, 20),
    batching=BATCHING,
    seed=st.integers(0, 9),
)
def test_an_epoch_is_a_permutation(
    lengths: list[int], tokens: int | None, size: int, batching: Batching, seed: int
) -> None:
    batches = Batches(np.array(lengths, np.int32), size, tokens, batching)
    got = made(batches, seed)
    assert sorted(window for batch in got for window in batch) == list(range(len(lengths)))
    assert all(got)
    assert got == made(batches, seed)


@pytest.mark.parametrize("tokens", [None, 3000])
def test_lengths_in_a_batch_are_similar(tokens: int | None) -> None:
    lengths = np.random.default_rng(0).geometric(0.02, 20_000).clip(max=150).astype(np.int32)
    spread = {}
    for batching in ("shuffled", "by_length"):
        batches = Batches(lengths, 64, tokens, batching)
        spread[batching] = np.mean([lengths[batch].std() for batch in made(batches, 1)])
    assert spread["by_length"] < spread["shuffled"] / 10


def test_by_length_users_meet_others_in_every_epoch() -> None:
    """Not the same batches in another order."""
    batches = Batches(np.arange(1, 1001, dtype=np.int32) // 10 + 1, 10, batching="by_length")
    first, second = ({frozenset(batch) for batch in made(batches, seed)} for seed in (1, 2))
    assert len(first & second) < 5
