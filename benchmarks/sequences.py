"""From a log to training batches: this project against pandas and against RecTools, each as a process of its own.

    python -m benchmarks.sequences --rows 20000000 --work /somewhere/with/space

All read the same training events (those of the split leave_one_out) and make the same number of training positions out
of them: the last 100 of each user, 128 users a batch, one epoch. RecTools comes into an environment of its own in the
work directory. Prints a table and adds it to ``OUT``.md.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pydantic import Field

from benchmarks.contenders import LENGTH, SPLIT, USERS
from benchmarks.measure import Cost, gib, machine, run
from benchmarks.peers import TORCH, environment
from benchmarks.snapshot import NAME, events, run_snapshot
from benchmarks.tables import keep, kept, run_benchmark
from hmar.data.snapshot import Snapshot
from hmar.errors import HmarError
from hmar.settings import LayeredSettings

CONTENDERS = ("pandas", "rectools", "hmar")
NAMES = {"pandas": "pandas: sort, groupby to lists", "rectools": "RecTools 0.19: SASRec's data preparation"}

TRAINING_EVENTS = """
copy (
    select
        users.user_id,
        items.item_id,
        cast(events.event_time as timestamp) as event_time,
        cast(1 as float) as weight
    from read_parquet('{snapshot}/events.parquet', file_row_number = true) as events
    inner join ends on events.user = ends.user
    inner join read_parquet('{snapshot}/users.parquet') as users on events.user = users.user
    inner join read_parquet('{snapshot}/items.parquet') as items on events.item = items.item
    where events.file_row_number < ends.train_end
    order by date_trunc('day', events.event_time), users.user_id, events.event_time
) to '{out}' (format parquet)
"""
"""As the log was delivered: day by day."""


class SequencesBenchmark(LayeredSettings):
    """Time the way from a large log to an epoch of training batches against pandas and RecTools."""

    rows: int = Field(20_000_000, ge=1000)
    """Events, about."""
    work: Path = Path(tempfile.gettempdir()) / "hmar-benchmark"
    """Directory for events, environments and all else; what can be used again is kept."""
    memory_limit: str = "1GB"
    """Of DuckDB, where a snapshot is built."""
    threads: int = Field(4, ge=1)
    """Of DuckDB."""
    repeats: int = Field(1, ge=1)
    """Runs of each; the best times count, and the largest memory."""
    torch: str = TORCH
    """What pip is to install before RecTools, as the Makefile does."""
    out: Path = Path("benchmarks/results/sequences")
    """The table is written to OUT.md, one per number of rows."""


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    if arguments[:1] == ["training-events"]:
        print(write_training_events(Path(arguments[1]), Path(arguments[2])))
        return 0
    program = "python -m benchmarks.sequences"
    return run_benchmark(lambda: SequencesBenchmark.resolve(arguments=arguments, program=program), _work)


def _work(s: SequencesBenchmark) -> None:
    result = measure(s)
    print(table(result))
    write(s.out, result)


def measure(s: SequencesBenchmark) -> dict[str, Any]:
    """Snapshot, then all contenders in turn, ``repeats`` times.

    Raises:
        HmarError: a process failed, or two contenders made different numbers of positions.
    """
    home = events(s.work, s.rows, s.threads)
    built = run_snapshot(home, s.memory_limit, s.threads)
    (snapshot,) = (path for path in home.snapshots(NAME).iterdir() if path.is_dir())
    training = s.work / f"training-{s.rows}.parquet"
    # In a process of its own: the peak that the kernel tells of a child is never below its parent's.
    _, told = run([sys.executable, "-m", "benchmarks.sequences", "training-events", str(snapshot), str(training)])
    trained = int(told)
    pythons = {
        "pandas": sys.executable,
        "rectools": str(environment(s.work, "rectools", s.torch)),
        "hmar": sys.executable,
    }
    runs: dict[str, list[dict[str, Any]]] = {who: [] for who in CONTENDERS}
    for _ in range(s.repeats):
        for who, python in pythons.items():
            runs[who].append(contend(python, who, snapshot if who == "hmar" else training))
    found = {
        who: {
            "first_batch": min(one["first_batch"] for one in made),
            "epoch": min(one["epoch"] for one in made),
            "peak_rss": max(one["peak_rss"] for one in made),
            "held": [made[0][key] for key in ("batches", "users", "positions")],
        }
        for who, made in runs.items()
    }
    if len({tuple(one["held"]) for one in found.values()}) != 1:
        raise HmarError(
            f"not the same batches, users and positions: { ({who: one['held'] for who, one in found.items()}) }"
        )
    training.unlink()
    return {
        "rows": Snapshot(snapshot).manifest.events,
        "trained": trained,
        "contenders": found,
        "snapshot": vars(built),
        "memory_limit": s.memory_limit,
        "repeats": s.repeats,
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
    }


def write_training_events(snapshot: Path, out: Path) -> int:
    """The training events of the split in source ids, for the contenders that know no snapshot; how many they are."""
    import duckdb
    import numpy as np
    import pyarrow as pa

    ends = Snapshot(snapshot).train_end(SPLIT)
    with duckdb.connect(config={"memory_limit": "4GB", "temp_directory": str(out.with_suffix(".spill"))}) as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register("ends", pa.table({"user": np.arange(len(ends), dtype=np.int32), "train_end": ends}))
        connection.execute(TRAINING_EVENTS.format(snapshot=snapshot, out=out))
        count: int = connection.execute(f"select count(*) from read_parquet('{out}')").fetchall()[0][0]
    return count


def contend(python: str, who: str, source: Path) -> dict[str, Any]:
    """One run of one contender."""
    script = Path(__file__).with_name("contenders.py")
    root = {"PYTHONPATH": str(script.parent.parent) if who == "hmar" else ""}
    cost: Cost
    cost, output = run([python, "-P", str(script), who, str(source), repr(time.time())], environment=root)
    told: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return told | {"peak_rss": cost.peak_rss}


def table(result: dict[str, Any]) -> str:
    """One result as Markdown."""
    found = result["contenders"]
    ours = found["hmar"]
    build = result["snapshot"]
    whole = {
        "first_batch": ours["first_batch"] + build["seconds"],
        "epoch": ours["epoch"] + build["seconds"],
        "peak_rss": max(ours["peak_rss"], build["peak_rss"]),
    }
    rows = [(NAMES[who], found[who]) for who in CONTENDERS if who != "hmar"]
    rows += [("hmar, from a snapshot", ours), ("hmar, snapshot built first", whole)]
    lines = [
        f"| {name} | {one['first_batch']:.1f} | {one['epoch']:.1f} | {gib(one['peak_rss'])} |" for name, one in rows
    ]
    ratios = [
        f"| {NAMES[who]} | {_times(found[who], ours)} | {_times(found[who], whole)} |"
        for who in CONTENDERS
        if who != "hmar"
    ]
    batches, users, positions = ours["held"]
    return f"""## {round(result["rows"] / 1e6)} M events

{result["rows"]:,} events, {result["trained"]:,} of them for training. An epoch is {batches:,} batches of {USERS}, \
{users:,} users and {positions:,} positions, at most {LENGTH} a user, the same for all. Seconds from the start of the \
process. pandas gives padded items; RecTools adds weights and a negative per position; hmar gives packed items, \
behaviors, times, counts of all behaviors, and a negative per position with its counts.

| | first batch, s | whole epoch, s | peak memory |
|---|---|---|---|
{chr(10).join(lines)}

The snapshot is built once a night (with both splits and all candidates, {build["seconds"]:.1f} s, \
memory_limit={result["memory_limit"]}) and read by every training and evaluation.

| hmar against | from a snapshot: first batch, epoch, memory | snapshot built first: first batch, epoch, memory |
|---|---|---|
{chr(10).join(ratios)}

Best of {result["repeats"]}, {result["date"]}, {result["machine"]}.
"""


def _times(other: dict[str, Any], ours: dict[str, Any]) -> str:
    return (
        f"{other['first_batch'] / ours['first_batch']:.1f} and {other['epoch'] / ours['epoch']:.1f} times as fast, "
        f"{ours['peak_rss'] / other['peak_rss']:.0%} of the memory"
    )


def write(out: Path, result: dict[str, Any]) -> None:
    """Add the result to those of other sizes that are there already."""
    results = kept(out) | {str(result["rows"]): result}
    text = "# Training batches: against pandas and RecTools\n\n" + "\n".join(
        table(one) for one in sorted(results.values(), key=lambda one: one["rows"])
    )
    keep(out, results, text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
