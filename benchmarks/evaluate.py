"""What evaluation costs: ranking a catalog against the bare matrix product and RecTools; the stage by its parts.

    python -m benchmarks.evaluate --work /somewhere/with/space --raw path/to/ml-100k

Every contender is a process of its own (benchmarks/rank_contenders.py), and they take turns, ``repeats`` times after
one pass to warm up. Rows are ranked independently, so fewer users than the catalog's size give the same rate. Prints
the tables and adds them to ``OUT``.md.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pydantic import Field

from benchmarks.measure import MIB, machine, run
from benchmarks.peers import NAMES, TORCH, environment
from benchmarks.tables import keep, kept, run_benchmark
from benchmarks.train_step import QUIET, Contender
from hmar.errors import HmarError
from hmar.settings import LayeredSettings

WHO = {
    "bare": "bare product",
    "hmar_top": "hmar: best 20",
    "hmar_judge": "hmar: consumed items out, best 20, rank of a target",
    "plain_top": "torch, whole rows: best 20",
    "plain_judge": "torch, whole rows: consumed items out, best 20, rank of a target",
    "rectools_torch_top": f"{NAMES['rectools']}, TorchRanker: best 20",
    "rectools_torch_judge": f"{NAMES['rectools']}, TorchRanker: consumed items out, best 20",
    "rectools_implicit_top": f"{NAMES['rectools']}, ImplicitRanker: best 20",
    "rectools_implicit_judge": f"{NAMES['rectools']}, ImplicitRanker: consumed items out, best 20",
}
BAR = 0.6
PartName = Literal["ranking", "stage"]
TITLES: dict[PartName, str] = {"ranking": "Full ranking", "stage": "The evaluation stage on MovieLens 100K"}
SPLIT = "leave_one_out"
LENGTH = 200
"""Events of a history that the stage's models read."""


class EvaluateBenchmark(LayeredSettings):
    """Time full ranking, the sampled protocol and the whole evaluation stage."""

    work: Path = Path(tempfile.gettempdir()) / "hmar-benchmark"
    """Directory for data and environments; what can be used again is kept."""
    raw: Path | None = None
    """MovieLens 100K as published, for the stage."""
    parts: list[PartName] = Field(default_factory=lambda: list(TITLES))
    """Which tables."""
    users: int = Field(8192, ge=1)
    """Rows ranked per pass."""
    items: int = Field(100_000, ge=1)
    """The catalog."""
    d: int = Field(64, ge=1)
    """Width of the vectors."""
    k: int = Field(20, ge=1)
    """Length of the lists."""
    consumed: int = Field(50, ge=0)
    """Items that a user has consumed."""
    threads: list[int] = Field(default_factory=lambda: [1, 4])
    """Of torch; a table for each."""
    repeats: int = Field(5, ge=1)
    """Passes of each, after one to warm up; medians count."""
    peers: bool = True
    """Whether RecTools takes part."""
    torch: str = TORCH
    """What pip is to install in the peers' environments."""
    out: Path = Path("benchmarks/results/evaluate")
    """The tables are written to OUT.md."""


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    if arguments[:1] == ["stage"]:
        print(json.dumps(stage_parts(json.loads(arguments[1]))))
        return 0
    program = "python -m benchmarks.evaluate"
    return run_benchmark(lambda: EvaluateBenchmark.resolve(arguments=arguments, program=program), _work)


def _work(s: EvaluateBenchmark) -> None:
    for part in s.parts:
        for threads in s.threads:
            result = ranking(s, threads) if part == "ranking" else stage(s, threads)
            print(TABLES[part](result))
            write(s.out, part, result)


def ranking(s: EvaluateBenchmark, threads: int) -> dict[str, Any]:
    """Everybody in turn with so many threads.

    Raises:
        HmarError: a contender failed.
    """
    task = {name: getattr(s, name) for name in ("users", "items", "d", "k", "consumed")} | {"threads": threads}
    s.work.mkdir(parents=True, exist_ok=True)
    path = s.work / f"ranking-{threads}.json"
    path.write_text(json.dumps(task), encoding="utf-8")
    who = [one for one in WHO if s.peers or not one.startswith("rectools")]
    with ExitStack() as stack:
        running = {
            one: stack.enter_context(Contender(one, _python(s, one), path, threads, "rank_contenders.py"))
            for one in who
        }
        for _ in range(1 + s.repeats):
            for contender in running.values():
                contender.go()
        for contender in running.values():
            contender.end()
    return task | _about(s) | {
        "contenders": {
            one: {
                "seconds": [sum(steps) for steps in contender.seconds[1:]],
                "peak": contender.peak,
                "others": max(contender.others[1:]),
            }
            for one, contender in running.items()
        }
    }  # fmt: skip


def stage(s: EvaluateBenchmark, threads: int) -> dict[str, Any]:
    """``python -m hmar.evaluate`` on MovieLens 100K as a whole, and its parts one by one in another process.

    Raises:
        HmarError: no raw log was given, or a process failed.
    """
    if s.raw is None:
        raise HmarError("raw: the stage is timed on MovieLens 100K; give the directory of the log, or --parts ranking")
    snapshot = films(s.work, s.raw)
    found: dict[str, Any] = {}
    for model in ("sasrec", "hmar", "popularity"):
        place = s.work / f"evaluate-{model}"
        given = {"snapshot": str(snapshot), "model": model, "place": str(place), "threads": threads}
        _, told = run([sys.executable, "-m", "benchmarks.evaluate", "stage", json.dumps(given | {"times": s.repeats})])
        parts: dict[str, Any] = json.loads(told.strip().splitlines()[-1])
        costs = []
        for _ in range(s.repeats):
            with tempfile.TemporaryDirectory() as out:
                command = [sys.executable, "-m", "hmar.evaluate", "--model-dir", str(place), "--out", out]
                cost, _ = run([*command, "--snapshot", str(snapshot), "--threads", str(threads), "--device", "cpu"])
            costs.append(cost)
        found[model] = parts | {
            "whole": median(cost.seconds for cost in costs),
            "peak": max(cost.peak_rss for cost in costs),
        }
    return {"threads": threads, "models": found} | _about(s)


def films(work: Path, raw: Path) -> Path:
    """The snapshot of MovieLens 100K, made unless it is there."""
    home = (work / "films").absolute()
    place = home / "snapshots" / "movielens"
    if not place.is_dir():
        for command in ("ingest", "snapshot"):
            told = [sys.executable, "-m", "pipeline.cli", command, "--dataset", "movielens", "--raw", str(raw)]
            run([*told, "--home", str(home)])
    (snapshot,) = (path for path in place.iterdir() if path.is_dir())
    return snapshot


def stage_parts(given: dict[str, Any]) -> dict[str, Any]:
    """What the child does: the parts of an evaluation of an untrained model, seconds each, medians."""
    started = time.perf_counter()
    import torch

    from hmar.data.counting import PriorCounts
    from hmar.data.snapshot import PARTS, Snapshot
    from hmar.evaluate import per_target, plots
    from hmar.evaluate.judge import judge
    from hmar.evaluate.summary import summarize
    from hmar.export import load, save
    from hmar.models import model_class
    from hmar.models.base import Vocabulary
    from hmar.threads import limit_threads

    seconds: dict[str, list[float]] = {"imports": [time.perf_counter() - started]}
    limit_threads(given["threads"])
    place, snapshot = Path(given["place"]), Snapshot(Path(given["snapshot"]))
    torch.manual_seed(0)
    kind = model_class(given["model"])
    model = kind(kind.Config(), Vocabulary.of(snapshot)).eval()
    model.fit_counts(snapshot, SPLIT)
    save(place, model, snapshot, SPLIT, max_length=LENGTH)

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        seconds[name][-1] += time.perf_counter() - began

    names = ("load", "full ranking", "with candidates", "summary", "per target", "plots")
    seconds |= {name: [] for name in names}
    for _ in range(given["times"]):
        for name in names:
            seconds[name].append(0.0)
        with timed("load"):
            loaded = load(place)
        prior = PriorCounts(snapshot)
        with tempfile.TemporaryDirectory() as directory:
            out = Path(directory)
            for part in PARTS:
                with timed("full ranking"):
                    judge(loaded.model, snapshot, SPLIT, part, max_length=LENGTH, sampled=False, prior=prior)
                with timed("with candidates"):
                    judged = judge(loaded.model, snapshot, SPLIT, part, max_length=LENGTH, prior=prior)
                with timed("summary"):
                    numbers = summarize(judged, snapshot)
                with timed("per target"):
                    per_target.write(per_target.table(judged, snapshot), out / "rows.parquet")
                with timed("plots"):
                    plots.write(plots.hr_by_length(numbers, part), out / "length.png")
                    plots.write(plots.metric_bars(numbers, part), out / "metrics.png")
    middle = {name: median(times) for name, times in seconds.items()}
    middle["sampled"] = median(
        both - full for both, full in zip(seconds["with candidates"], seconds["full ranking"], strict=True)
    )
    del middle["with candidates"]
    targets = sum(len(snapshot.targets(SPLIT, part)) for part in PARTS)
    return {"parts": middle, "targets": targets, "candidates": snapshot.manifest.candidates}


def _about(s: EvaluateBenchmark) -> dict[str, Any]:
    return {
        "repeats": s.repeats,
        "torch": s.torch,
        "machine": machine(),
        "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def _python(s: EvaluateBenchmark, who: str) -> str:
    return str(environment(s.work, "rectools", s.torch)) if who.startswith("rectools") else sys.executable


def ranking_table(result: dict[str, Any]) -> str:
    """One result as Markdown."""
    made = result["contenders"]
    work = 2 * result["users"] * result["items"] * result["d"] / 1e9
    middle = {who: median(one["seconds"]) for who, one in made.items()}
    rows = [
        f"| {WHO[who]} | {1e3 * middle[who] / result['users'] * 1000:,.0f} | {work / middle[who]:.0f} | "
        f"{middle['bare'] / middle[who]:.0%} | {one['peak'] / MIB:,.0f} |"
        for who, one in made.items()
    ]
    verdicts = []
    for ours in ("hmar_top", "hmar_judge"):
        rate = middle["bare"] / middle[ours]
        verdicts.append(f"{WHO[ours]}: **{rate:.0%}** of the bare product, the bar is {BAR:.0%}: "
                        f"{'met' if rate >= BAR else 'missed'}.")  # fmt: skip
        kind = ours.removeprefix("hmar")
        verdicts += [
            f"{middle[who] / middle[ours]:.1f} times as fast as {WHO[who].partition(':')[0]}."
            for who in made
            if who.endswith(kind) and who != ours
        ]
    return f"""### {_threads(result)}

{result["users"]:,} users, {result["items"]:,} items, d = {result["d"]}, k = {result["k"]}, {result["consumed"]} \
consumed items a user. The bare product is torch.mm of the same vectors into one buffer that is used again, in the \
fastest of several shapes of block.

| | ms for 1,000 users | GFLOP/s | of the bare product | peak memory, MiB |
|---|---|---|---|---|
{chr(10).join(rows)}

{" ".join(verdicts)}

{_closing(result, max(one["others"] for one in made.values()))}
"""


def stage_table(result: dict[str, Any]) -> str:
    """One result as Markdown."""
    models = result["models"]
    names = list(next(iter(models.values()))["parts"])
    rows = []
    for name in names:
        cells = [
            f"{1e3 * one['parts'][name]:,.0f} ({one['parts'][name] / one['whole']:.0%})" for one in models.values()
        ]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    rows.append(_row("**whole process**", [1e3 * one["whole"] for one in models.values()]))
    rows.append(_row("peak memory, MiB", [one["peak"] / MIB for one in models.values()]))
    rows.append(
        _row("sampled, 1,000 targets", [1e6 * one["parts"]["sampled"] / one["targets"] for one in models.values()])
    )
    first = next(iter(models.values()))
    return f"""### {_threads(result)}

ms (share of the whole process); {first["targets"]:,} targets of both parts, {first["candidates"]} candidates; \
untrained models with their default settings, histories of at most {LENGTH} events. What is missing from the whole is \
starting Python, reading the snapshot, and ending.

| | {" | ".join(models)} |
|---|{"---|" * len(models)}
{chr(10).join(rows)}

{_closing(result, 0.0)}
"""


def _row(name: str, values: list[float]) -> str:
    return f"| {name} | {' | '.join(f'{value:,.0f}' for value in values)} |"


def _threads(result: dict[str, Any]) -> str:
    return f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"


def _closing(result: dict[str, Any], others: float) -> str:
    noise = f"; other processes took up to {others:.0%} of the machine meanwhile" if others > QUIET else ""
    return (
        f"Medians of {result['repeats']} in turn, {result['date']}, {result['machine']}, {result['torch']}, load "
        f"{result['load']:.1f}{noise}."
    )


TABLES: dict[PartName, Callable[[dict[str, Any]], str]] = {"ranking": ranking_table, "stage": stage_table}


def write(out: Path, part: PartName, result: dict[str, Any]) -> None:
    """Add the result to those of other parts and threads that are there already."""
    before = kept(out)
    results = before | {part: before.get(part, {}) | {str(result["threads"]): result}}
    text = "# Evaluation on a CPU\n"
    for name, make in TABLES.items():
        if name in results:
            tables = [make(one) for _, one in sorted(results[name].items(), key=lambda pair: int(pair[0]))]
            text += f"\n## {TITLES[name]}\n\n" + "\n".join(tables)
    keep(out, results, text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
