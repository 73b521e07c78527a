"""The snapshot of a large log against a bare sort of its events by DuckDB, as whole processes in turn.

    python -m benchmarks.snapshot --rows 20000000 --memory-limit 1GB --work /somewhere/with/space

Prints a table and adds it to ``OUT``.md: wall time, ratio, processor time and peak memory. The events are made once
(benchmarks/events.py) and kept in the work directory.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pydantic import Field

from benchmarks.measure import Cost, best, gib, machine, run
from benchmarks.tables import keep, kept, run_benchmark
from hmar.data.snapshot import Snapshot
from hmar.errors import HmarError
from hmar.settings import LayeredSettings
from pipeline.home import Home
from pipeline.storage.events_store import MANIFEST, files, read_manifest

NAME = "taobao"
BARE = """
import duckdb
connection = duckdb.connect(
    config={{"threads": {threads}, "memory_limit": "{memory}", "temp_directory": "{spill}"}}
)
connection.execute(
    "copy (select user_id, item_id, behavior, event_time from read_parquet({files}) order by user_id, event_time) "
    "to '{out}' (format parquet, compression zstd)"
)
"""


class SnapshotBenchmark(LayeredSettings):
    """Time the snapshot of a large log against a bare sort of its events."""

    rows: int = Field(20_000_000, ge=1000)
    """Events, about."""
    work: Path = Path(tempfile.gettempdir()) / "hmar-benchmark"
    """Directory for events and all else; the events are kept for the next run."""
    memory_limit: str = "1GB"
    """Of DuckDB, in both."""
    threads: int = Field(4, ge=1)
    repeats: int = Field(3, ge=1)
    """Runs of each; the best time counts, and the largest memory."""
    out: Path = Path("benchmarks/results/snapshot")
    """The table is written to OUT.md, one per number of rows and memory limit."""


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    program = "python -m benchmarks.snapshot"
    return run_benchmark(lambda: SnapshotBenchmark.resolve(arguments=arguments, program=program), _work)


def _work(s: SnapshotBenchmark) -> None:
    result = measure(s)
    print(table(result))
    write(s.out, result)


def measure(s: SnapshotBenchmark) -> dict[str, Any]:
    """Both processes in turn, ``repeats`` times.

    Raises:
        HmarError: a process failed, or the snapshot does not hold all events.
    """
    home = events(s.work, s.rows, s.threads)
    manifest = read_manifest(home.events(NAME))
    bare: list[Cost] = []
    whole: list[Cost] = []
    for _ in range(s.repeats):
        bare.append(run_bare(s, home))
        whole.append(run_snapshot(home, s.memory_limit, s.threads))
    (built,) = (path for path in home.snapshots(NAME).iterdir() if path.is_dir())
    snapshot = Snapshot(built).manifest
    if snapshot.events != manifest.accounts.events:
        raise HmarError(f"{built}: has {snapshot.events} of {manifest.accounts.events} events")
    size = sum(path.stat().st_size for path in built.rglob("*") if path.is_file())
    shutil.rmtree(home.snapshots(NAME))
    return {
        "rows": snapshot.events,
        "users": snapshot.users,
        "items": snapshot.items,
        "targets": {name: sum(split[part]["targets"] for part in ("validation", "test"))
                    for name, split in snapshot.splits.items()},
        "candidates": snapshot.candidates,
        "bytes": size,
        "memory_limit": s.memory_limit,
        "threads": s.threads,
        "repeats": s.repeats,
        "bare": vars(best(bare)),
        "snapshot": vars(best(whole)),
        "ratio": best(whole).seconds / best(bare).seconds,
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def events(work: Path, rows: int, threads: int) -> Home:
    """The data directory with the published events, made unless it is there; by a process of its own, because the peak
    memory that the kernel tells of a child is never below its parent's at the time of its birth."""
    home = Home((work / f"events-{rows}").absolute())
    if not (home.events(NAME) / MANIFEST).is_file():
        run([sys.executable, "-m", "benchmarks.events", str(home.events(NAME)), str(rows), str(threads)])
    return home


def run_bare(s: SnapshotBenchmark, home: Home) -> Cost:
    """DuckDB sorts four columns by user and time into one Parquet file."""
    directory = home.events(NAME)
    out, spill = s.work / "bare.parquet", s.work / "bare-spill"
    sources = [str(path) for path in files(read_manifest(directory), directory)]
    program = BARE.format(threads=s.threads, memory=s.memory_limit, spill=spill, files=sources, out=out)
    cost, _ = run([sys.executable, "-c", program])
    out.unlink()
    shutil.rmtree(spill, ignore_errors=True)
    return cost


def run_snapshot(home: Home, memory_limit: str, threads: int) -> Cost:
    """The stage as a user runs it, where no snapshot and no vocabulary is yet."""
    for directory in (home.snapshots(NAME), home.vocabularies(NAME)):
        shutil.rmtree(directory, ignore_errors=True)
    engine = ["--engine.memory-limit", memory_limit, "--engine.threads", str(threads)]
    command = [sys.executable, "-m", "pipeline.cli", "snapshot", "--dataset", "taobao", "--raw", str(home.root)]
    cost, _ = run([*command, "--home", str(home.root), *engine])
    return cost


def table(result: dict[str, Any]) -> str:
    """One result as Markdown."""
    bare, whole = result["bare"], result["snapshot"]
    targets = ", ".join(f"{count:,} of {name}" for name, count in result["targets"].items())
    return f"""## {round(result["rows"] / 1e6)} M events, memory_limit={result["memory_limit"]}

{result["rows"]:,} events of {result["users"]:,} users with {result["items"]:,} items; targets: {targets}, each with \
{result["candidates"]} candidates; {gib(result["bytes"])} of files.

| | seconds | processor seconds | peak memory |
|---|---|---|---|
| bare `ORDER BY user, time` | {bare["seconds"]:.2f} | {bare["cpu_seconds"]:.1f} | {gib(bare["peak_rss"])} |
| `hmar snapshot` | {whole["seconds"]:.2f} | {whole["cpu_seconds"]:.1f} | {gib(whole["peak_rss"])} |

**{result["ratio"]:.2f} times** the bare sort; {whole["seconds"] / result["rows"] * 1e9:.0f} ns an event.

Best of {result["repeats"]} runs in turn, {result["threads"]} threads, {result["date"]}, {result["machine"]}.
"""


def write(out: Path, result: dict[str, Any]) -> None:
    """Add the result to those of other sizes that are there already."""
    results = kept(out) | {f"{result['rows']} {result['memory_limit']}": result}
    parts = [table(one) for one in sorted(results.values(), key=lambda one: (one["rows"], one["memory_limit"]))]
    text = "# Snapshot: published events to ids, order, counts, splits and candidates\n\n" + "\n".join(parts)
    keep(out, results, text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
