from collections.abc import Iterator

import pytest

from hmar.train.prefetch import AHEAD, prefetch


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_all_items_in_order(count: int) -> None:
    with prefetch(iter(range(count))) as items:
        assert list(items) == list(range(count))


def test_an_error_comes_where_its_item_would_have() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("third")

    with prefetch(source()) as items:
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(KeyError, match="third"):
            next(items)


def test_it_does_not_run_far_ahead() -> None:
    made = []

    def source() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    with prefetch(source()) as items:
        next(items)
    assert len(made) <= AHEAD + 1
