"""One contender of benchmarks/evaluate.py, as a process of its own that waits for orders.

    python rank_contenders.py <who> <task.json>

Whenever a line comes in, it ranks the catalog once for all users and prints the seconds as JSON; at the end of the
input it prints its peak memory and ends. Vectors, consumed items and targets are drawn alike by all. It stands alone,
since the peers have environments of their own without this package.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Pass = Callable[[], Any]

KIBIBYTE = 1 if sys.platform == "darwin" else 1024
SHAPES = ((256, 2048), (512, 1024), (512, 2048), (1024, 1024), (1024, 2048), (1024, 4096), (2048, 1024), (512, 100_000))
"""Rows and items of the bare product; the fastest counts."""
PLAIN_ROWS = 128
"""Rows of a whole matrix at once, as RecTools has them."""


class Data:
    """What is ranked: vectors float32 [users, d] and [items, d], consumed cells and targets that are none of them."""

    def __init__(self, task: dict[str, Any]) -> None:
        rng = np.random.default_rng(0)
        self.users, self.items, self.k, self.threads = (task[name] for name in ("users", "items", "k", "threads"))
        self.states = rng.standard_normal((self.users, task["d"]), np.float32)
        self.vectors = rng.standard_normal((self.items, task["d"]), np.float32)
        self.target = rng.integers(0, self.items, self.users)
        cells = np.unique(rng.integers(0, self.users * self.items, self.users * task["consumed"]))
        self.row, self.item = np.divmod(cells, self.items)
        kept = self.target[self.row] != self.item
        self.row, self.item = self.row[kept], self.item[kept]

    def consumed(self, start: int, stop: int) -> tuple[Any, Any]:
        """Rows from ``start`` on, and items."""
        low, high = np.searchsorted(self.row, (start, stop))
        return self.row[low:high] - start, self.item[low:high]

    def filter(self) -> Any:
        """The consumed cells as a sparse matrix, [users, items]."""
        from scipy import sparse

        ones = np.ones(len(self.row), np.float32)
        return sparse.csr_matrix((ones, (self.row, self.item)), shape=(self.users, self.items))


def bare(data: Data) -> Pass:
    """The products alone, written to one buffer over and over, in the blocks that suit the machine best."""
    import torch

    states, vectors = torch.from_numpy(data.states), torch.from_numpy(data.vectors)

    def multiply(rows: int, width: int, users: int) -> None:
        buffer = torch.empty(rows * width)
        for first in range(0, users, rows):
            some = states[first : min(first + rows, users)]
            for start in range(0, data.items, width):
                part = vectors[start : start + width]
                torch.mm(some, part.T, out=buffer[: len(some) * len(part)].view(len(some), len(part)))

    def seconds(shape: tuple[int, int]) -> float:
        tried = []
        for _ in range(3):
            started = time.perf_counter()
            multiply(*shape, min(2048, data.users))
            tried.append(time.perf_counter() - started)
        return min(tried)

    best = min(SHAPES, key=seconds)
    return lambda: multiply(*best, data.users)


def hmar_top(data: Data) -> Pass:
    """The best k of every user."""
    return _hmar(data, judged=False)


def hmar_judge(data: Data) -> Pass:
    """The best k without what is consumed, and the rank of a target."""
    return _hmar(data, judged=True)


def _hmar(data: Data, judged: bool) -> Pass:
    import torch

    from hmar.evaluate.ranking import MAX_ROWS
    from hmar.evaluate.scan import Excluded, block_width, scan
    from hmar.models.catalog import Products

    states, vectors, target = (torch.from_numpy(part) for part in (data.states, data.vectors, data.target))
    none = torch.zeros(0, dtype=torch.int64)

    def go() -> list[Any]:
        found = []
        for start in range(0, data.users, MAX_ROWS):
            some = states[start : start + MAX_ROWS]
            scores = Products(some, vectors, none, none, torch.zeros(0), none, torch.zeros(data.items))
            row, item = data.consumed(start, start + len(some)) if judged else (none.numpy(), none.numpy())
            excluded = Excluded(row, item, np.full(len(some), data.items, np.int32))
            width = block_width(len(some), data.items, 256, some.device)
            wanted = target[start : start + len(some)] if judged else None
            found.append(scan(scores, excluded, data.k, width, wanted))
        return found

    return go


def plain_top(data: Data) -> Pass:
    """Whole rows of scores and torch.topk."""
    return _plain(data, judged=False)


def plain_judge(data: Data) -> Pass:
    """Whole rows of scores, masked, torch.topk, and counted."""
    return _plain(data, judged=True)


def _plain(data: Data, judged: bool) -> Pass:
    import torch

    states, vectors, target = (torch.from_numpy(part) for part in (data.states, data.vectors, data.target))

    def go() -> list[Any]:
        found: list[Any] = []
        for start in range(0, data.users, PLAIN_ROWS):
            scores = states[start : start + PLAIN_ROWS] @ vectors.T
            if judged:
                row, item = (torch.from_numpy(part) for part in data.consumed(start, start + len(scores)))
                scores[row, item] = -torch.inf
                own = scores.gather(1, target[start : start + len(scores), None])
                found.append((scores >= own).sum(1))
            found.append(scores.topk(data.k))
        return found

    return go


def rectools_torch_top(data: Data) -> Pass:
    """RecTools' TorchRanker."""
    return _rectools(data, "torch", judged=False)


def rectools_torch_judge(data: Data) -> Pass:
    """RecTools' TorchRanker without what is consumed; it knows no ranks of targets."""
    return _rectools(data, "torch", judged=True)


def rectools_implicit_top(data: Data) -> Pass:
    """RecTools' ImplicitRanker."""
    return _rectools(data, "implicit", judged=False)


def rectools_implicit_judge(data: Data) -> Pass:
    """RecTools' ImplicitRanker without what is consumed; it knows no ranks of targets."""
    return _rectools(data, "implicit", judged=True)


def _rectools(data: Data, kind: str, judged: bool) -> Pass:
    from rectools.models.rank import Distance, ImplicitRanker, TorchRanker

    if kind == "torch":
        ranker = TorchRanker(
            Distance.DOT, "cpu", subjects_factors=data.states, objects_factors=data.vectors, batch_size=PLAIN_ROWS
        )
    else:
        ranker = ImplicitRanker(Distance.DOT, data.states, data.vectors, num_threads=data.threads)
    users = np.arange(data.users)
    pairs = data.filter() if judged else None
    return lambda: ranker.rank(users, k=data.k, filter_pairs_csr=pairs)


CONTENDERS: dict[str, Callable[[Data], Pass]] = {
    maker.__name__: maker
    for maker in (
        bare,
        hmar_top,
        hmar_judge,
        plain_top,
        plain_judge,
        rectools_torch_top,
        rectools_torch_judge,
        rectools_implicit_top,
        rectools_implicit_judge,
    )
}


def main(arguments: list[str]) -> None:
    """Draw, make, and rank once per line of input."""
    task = json.loads(Path(arguments[1]).read_text(encoding="utf-8"))
    data = Data(task)
    idle = _peak()
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints
    once = CONTENDERS[arguments[0]](data)
    print(json.dumps({"idle": idle}), file=out, flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        once()
        print(json.dumps({"seconds": [time.perf_counter() - started]}), file=out, flush=True)
    print(json.dumps({"peak": _peak()}), file=out, flush=True)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE


if __name__ == "__main__":
    main(sys.argv[1:])
