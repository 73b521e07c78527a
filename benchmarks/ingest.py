"""Ingest of a generated Taobao log against DuckDB's bare ``COPY`` of the same file, as whole processes in turn.

    python -m benchmarks.ingest --rows 20000000 --work /somewhere/with/space

Prints a table and adds it to ``OUT``.md: wall time, ratio, processor time and peak memory of both, and how much of the
ingest the expectations take. The log is generated once and kept in the work directory.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pydantic import Field

from benchmarks.measure import Cost, best, gib, machine, run
from benchmarks.tables import keep, kept, run_benchmark
from hmar.errors import HmarError
from hmar.settings import LayeredSettings

EVENTS_PER_USER = 100
"""As in the published log, about."""
BARE = """
import duckdb
connection = duckdb.connect(
    config={{"threads": {threads}, "memory_limit": "{memory}", "temp_directory": "{spill}"}}
)
connection.execute("copy (select * from read_csv('{raw}')) to '{out}' (format parquet, compression zstd)")
"""


class IngestBenchmark(LayeredSettings):
    """Time the ingest of a generated Taobao log against a bare COPY of it."""

    rows: int = Field(20_000_000, ge=1000)
    """Rows of the log, about."""
    work: Path = Path(tempfile.gettempdir()) / "hmar-benchmark"
    """Directory for the log and all else; the log is kept for the next run."""
    memory_limit: str = "1GB"
    """Of DuckDB, in both."""
    threads: int = Field(4, ge=1)
    repeats: int = Field(3, ge=1)
    """Runs of each; the best time counts, and the largest memory."""
    seed: int = 0
    """Of the log."""
    keep: bool = False
    """Whether the published events stay in the work directory."""
    out: Path = Path("benchmarks/results/ingest")
    """The table is written to OUT.md, one per number of rows."""


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    program = "python -m benchmarks.ingest"
    return run_benchmark(lambda: IngestBenchmark.resolve(arguments=arguments, program=program), _work)


def _work(s: IngestBenchmark) -> None:
    result = measure(s)
    print(table(result))
    write(s.out, result)


def measure(s: IngestBenchmark) -> dict[str, Any]:
    """Both commands in turn, ``repeats`` times, after a first one that compiles and is not counted.

    Raises:
        HmarError: a command failed, or the accounts of the ingest are not those of the log.
    """
    raw = log(s)
    bare: list[Cost] = []
    whole: list[Cost] = []
    if not (s.work / "bytecode").is_dir():
        run_ingest(s, raw)
    for _ in range(s.repeats):
        bare.append(run_bare(s, raw))
        whole.append(run_ingest(s, raw))
        print(f"bare: {bare[-1]}; ingest: {whole[-1]}", file=sys.stderr)
    accounts = json.loads(manifest(s).read_text(encoding="utf-8"))["accounts"]
    with raw.open("rb") as stream:
        lines = sum(piece.count(b"\n") for piece in iter(lambda: stream.read(2**24), b""))
    if accounts["rows"] != lines:
        raise HmarError(f"{raw}: has {lines} lines, {accounts['rows']} rows are accounted for")
    judging = expectations(s)
    if not s.keep:
        shutil.rmtree(home(s))
    return {
        "rows": lines,
        "bytes": raw.stat().st_size,
        "accounts": {name: accounts[name] for name in ("events", "duplicates", "quarantined")},
        "memory_limit": s.memory_limit,
        "threads": s.threads,
        "repeats": s.repeats,
        "bare": vars(best(bare)),
        "ingest": vars(best(whole)),
        "ratio": best(whole).seconds / best(bare).seconds,
        "expectations": judging,
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
    }


def log(s: IngestBenchmark) -> Path:
    """The raw log, generated unless it is there; with a few flaws of the kinds that DuckDB's own reader can read."""
    directory = s.work / f"taobao-{s.rows}-{s.seed}"
    raw = directory / "UserBehavior.csv"
    if not raw.is_file():
        s.work.mkdir(parents=True, exist_ok=True)
        users = max(s.rows // EVENTS_PER_USER, 10)
        flaws = max(s.rows // 100_000, 1)
        planted = ("duplicates", "outside-window", "unknown-codes")
        run(
            [
                *hmar("simulate"), "--source", "taobao", "--out", str(directory), "--users", str(users),
                "--items", str(max(s.rows // 25, 20)), "--events-per-user", str(EVENTS_PER_USER), "--seed", str(s.seed),
                *(part for name in planted for part in (f"--dirt.{name}", str(flaws))),
            ]
        )  # fmt: skip
    return raw


def run_bare(s: IngestBenchmark, raw: Path) -> Cost:
    """DuckDB reads the file as it thinks best and writes it as one Parquet file."""
    out, spill = s.work / "bare.parquet", s.work / "bare-spill"
    program = BARE.format(threads=s.threads, memory=s.memory_limit, spill=spill, raw=raw, out=out)
    cost, _ = run([sys.executable, "-c", program], compiled(s))
    out.unlink()
    shutil.rmtree(spill, ignore_errors=True)
    return cost


def run_ingest(s: IngestBenchmark, raw: Path) -> Cost:
    """From the raw file to published events, on an empty data directory."""
    shutil.rmtree(home(s), ignore_errors=True)
    engine = ["--engine.memory-limit", s.memory_limit, "--engine.threads", str(s.threads)]
    command = ["ingest", "--dataset", "taobao", "--raw", str(raw), "--home", str(home(s)), *engine]
    cost, _ = run([*hmar(command[0]), *command[1:]], compiled(s))
    return cost


def compiled(s: IngestBenchmark) -> dict[str, str]:
    """Python keeps what it compiles, as it does unless it is told otherwise; here, away from what is installed."""
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(s.work / "bytecode")}


def expectations(s: IngestBenchmark) -> dict[str, float]:
    """Seconds for what the expectations need: the measures over all events, and the judging of them."""
    told = s.work / "judged" / "seconds.json"
    program = f"""
import json, time
from pathlib import Path
import duckdb
from pipeline.storage.events_store import files, read_manifest
from pipeline.storage.statements import statement
events = Path({str(home(s) / "events" / "dataset=taobao")!r})
connection = duckdb.connect(config={{"threads": {s.threads}, "memory_limit": "{s.memory_limit}"}})
connection.execute("set timezone = 'UTC'")
connection.execute("set variable events = ?", [[str(path) for path in files(read_manifest(events), events)]])
started = time.perf_counter()
connection.execute(statement("ingest/64_metrics")).fetchall()
measuring = time.perf_counter() - started
import great_expectations
from pipeline.checks.check import Check
from pipeline.checks.judge import judge
started = time.perf_counter()
judge(Path({str(s.work / "judged")!r}), "taobao", "taobao", [Check("events", 1, None, "any")], {{"events": 1}})
found = {{"measuring": measuring, "judging": time.perf_counter() - started}}
Path({str(told)!r}).write_text(json.dumps(found))
"""
    run([sys.executable, "-c", program], compiled(s))
    found: dict[str, float] = json.loads(told.read_text(encoding="utf-8"))
    shutil.rmtree(s.work / "judged")
    return found


def home(s: IngestBenchmark) -> Path:
    """The data directory of the ingest."""
    return s.work / "home"


def manifest(s: IngestBenchmark) -> Path:
    """What was published."""
    return home(s) / "events" / "dataset=taobao" / "manifest.json"


def hmar(command: str) -> list[str]:
    """The command line of this checkout, whatever is installed."""
    return [sys.executable, "-m", "pipeline.cli", command]


def table(result: dict[str, Any]) -> str:
    """One result as Markdown."""
    bare, whole, judging = result["bare"], result["ingest"], result["expectations"]
    accounts = ", ".join(f"{count:,} {name}" for name, count in result["accounts"].items())
    per_row = whole["seconds"] / result["rows"] * 1e9
    return f"""## {round(result["rows"] / 1e6)} M rows, memory_limit={result["memory_limit"]}

{result["rows"]:,} rows, {gib(result["bytes"])}: {accounts}.

| | seconds | processor seconds | peak memory |
|---|---|---|---|
| bare `COPY` | {bare["seconds"]:.2f} | {bare["cpu_seconds"]:.1f} | {gib(bare["peak_rss"])} |
| `hmar ingest` | {whole["seconds"]:.2f} | {whole["cpu_seconds"]:.1f} | {gib(whole["peak_rss"])} |

**{result["ratio"]:.2f} times** the bare `COPY`; {per_row:.0f} ns a row. For the expectations, computing what is judged
takes {judging["measuring"]:.2f} s of it and judging that {judging["judging"]:.2f} s, in a process that is made ready
meanwhile.

Best of {result["repeats"]} runs in turn, {result["threads"]} threads, {result["date"]}, {result["machine"]}.
"""


def write(out: Path, result: dict[str, Any]) -> None:
    """Add the result to those of other sizes that are there already."""
    results = kept(out) | {f"{result['rows']} {result['memory_limit']}": result}
    parts = [table(one) for one in sorted(results.values(), key=lambda one: (one["rows"], one["memory_limit"]))]
    text = "# Ingest: raw CSV to validated, partitioned, accounted events\n\n" + "\n".join(parts)
    keep(out, results, text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
