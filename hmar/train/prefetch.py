"""The next batch is gathered while the current one is computed on."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

AHEAD = 2


@contextmanager
def prefetch(source: Iterator[T]) -> Iterator[Iterator[T]]:
    """The items of ``source`` in order, up to :data:`AHEAD` of them made in advance by a thread of its own.

    What ``source`` raises is raised where its item would have come.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        yield _drain(source, pool)


def _drain(source: Iterator[T], pool: ThreadPoolExecutor) -> Iterator[T]:
    end = object()
    waiting: deque[Future[T | object]] = deque(pool.submit(next, source, end) for _ in range(AHEAD))
    while True:
        item = waiting.popleft().result()
        if item is end:
            return
        waiting.append(pool.submit(next, source, end))
        yield item  # type: ignore[misc]
