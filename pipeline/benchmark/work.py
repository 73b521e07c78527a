"""All of a benchmark's work in this process: so many trainings at a time, each when what it needs is there."""

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from hmar.errors import BusyError, HmarError, Interrupted
from pipeline.benchmark import cells
from pipeline.benchmark.settings import BenchmarkSettings
from pipeline.results import Built, Cell, Measured, Searched
from pipeline.signals import stopped_by_signals
from pipeline.stages import benchmark

_LOOK_SECONDS = 0.5


class Teller:
    """Who follows the work; this one does nothing with what it is told."""

    def began(self, what: str) -> None:
        """A search or a run was taken up."""

    def tried(self, what: str) -> None:
        """One trial of a search is over."""

    def ended(self, what: str, outcome: str, good: bool) -> None:
        """A search or a run is over."""


def do(b: BenchmarkSettings, built: dict[str, Built], wanted: list[Cell], tell: Teller) -> dict[str, str]:
    """Search and run ``wanted``, ``jobs`` at a time. What fails is noted, and the rest goes on.

    Args:
        built: the snapshot of every dataset.

    Returns:
        What failed, and why.

    Raises:
        Interrupted: a signal came; the same call goes on.
    """
    failures: dict[str, str] = {}
    with stopped_by_signals() as stop, ThreadPoolExecutor(b.jobs) as pool:
        queue = _queue(b, built, wanted, stop, tell)
        running: dict[Future[str], _Unit] = {}
        try:
            while (queue or running) and not stop.is_set():
                while queue and len(running) < b.jobs:
                    unit = queue.pop(0)
                    tell.began(unit.what)
                    running[pool.submit(unit.work)] = unit
                over, _ = wait(running, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
                for future in over:
                    unit = running.pop(future)
                    outcome, good = _outcome(future)
                    tell.ended(unit.what, outcome, good)
                    if good:
                        queue[:0] = unit.then
                    else:
                        failures[unit.what] = outcome
        except BaseException:
            stop.set()
            raise
    if stop.is_set():
        raise Interrupted(f"benchmark {b.name}: stopped by a signal; the same command goes on")
    return failures


@dataclass
class _Unit:
    what: str
    work: Callable[[], str]
    then: list["_Unit"] = field(default_factory=list)


def _outcome(future: Future[str]) -> tuple[str, bool]:
    """In a line, and whether it is what was wanted."""
    try:
        return future.result(), True
    except BusyError:
        return "another process is at it", False
    except HmarError as error:
        return str(error), False


def _queue(
    b: BenchmarkSettings, built: dict[str, Built], wanted: list[Cell], stop: threading.Event, tell: Teller
) -> list[_Unit]:
    """Units that can start now; the cells of a row wait in its search's ``then``."""
    queue: list[_Unit] = []
    searches: dict[Cell, _Unit] = {}
    for cell in wanted:
        of = built[cell.dataset]
        unit = _Unit(_name(cell), _run(b, cell, of, stop))
        if benchmark.searched(b, cell, of) is not None:
            if benchmark.measured(b, cell, of) is None:
                queue.append(unit)
            continue
        first = cells.search_of(b, cell)
        if first not in searches:
            name = f"search {first.dataset}, {first.split}, {first.row}"
            searches[first] = _Unit(name, _search(b, first, of, stop, tell, name))
            queue.append(searches[first])
        searches[first].then.append(unit)
    return queue


def _search(
    b: BenchmarkSettings, cell: Cell, built: Built, stop: threading.Event, tell: Teller, name: str
) -> Callable[[], str]:
    def work() -> str:
        found: Searched = benchmark.search(
            b, cell, built, tell=lambda _: tell.tried(name), relay=lambda line: None, stop=stop
        )
        return f"{found.trials} trials, {found.epochs:,} epochs, {found.seconds:,.0f} s"

    return work


def _run(b: BenchmarkSettings, cell: Cell, built: Built, stop: threading.Event) -> Callable[[], str]:
    def work() -> str:
        from pipeline.benchmark.outcome import read

        made: Measured = benchmark.run(b, cell, built, relay=lambda line: None, enough=stop.is_set)
        found = read(made.file)
        value = found["metrics"].get("test/full/all/ndcg@10")
        told = "" if value is None else f"ndcg@10 {value:.4f}, "
        return f"{told}{found['epochs']} epochs, {found['cost']['wall_seconds']:,.0f} s"

    return work


def _name(cell: Cell) -> str:
    return f"{cell.dataset}, {cell.split}, {cell.row}, seed {cell.seed}"
