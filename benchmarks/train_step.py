"""What a training step costs on a CPU: against RecTools and RePlay, against HMAR's plain form, against a bare loop.

    python -m benchmarks.train_step --work /somewhere/with/space --parts '["sasrec"]' --threads '[1]'

Every contender is a process of its own (benchmarks/step_contenders.py), and they take turns: once through the same
batches each, ``repeats`` times after one pass to warm up. Prints a table per part and number of threads and adds it to
``OUT``.md. The peers' environments come into the work directory (benchmarks/peers.py).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import psutil
from pydantic import Field

from benchmarks.measure import MIB, machine
from benchmarks.peers import NAMES, TORCH, environment
from benchmarks.steps import Lengths, input_lengths, training_data, write_histories, write_training_snapshot
from benchmarks.tables import keep, kept, run_benchmark
from hmar.errors import HmarError
from hmar.settings import LayeredSettings

PartName = Literal["sasrec", "hmar", "films", "engine_sasrec", "engine_hmar"]

PUBLISHED_SECONDS = 0.25
"""A step of HMAR's published TensorFlow code with its settings for MovieLens 100K, on a CPU with 4 cores."""
QUIET = 0.05
"""Of all cores: what other processes may take before a table says so."""


@dataclass(frozen=True)
class Part:
    """One comparison: data, model and who takes part, ours first."""

    title: str
    contenders: tuple[str, ...]
    law: Lengths
    length: int
    items: int
    users: int
    behaviors: tuple[str, ...]
    model: str
    loss: str
    config: dict[str, Any]
    notes: str = ""
    unit: Literal["positions", "epoch"] = field(default="positions")


SASREC = {"d": 64, "heads": 2, "blocks": 2, "dropout": 0.2}
FILMS = {"d": 50, "heads": 1, "blocks": 1, "dropout": 0.4, "alpha": {"dislike": 0.1, "neutral": 0.1, "like": 0.8}}
OPINIONS = ("neutral", "dislike", "like")

PARTS: dict[PartName, Part] = {
    "sasrec": Part(
        title="SASRec, exact softmax",
        contenders=("hmar", "hmar_spinning", "rectools", "replay", "replay_buckets"),
        law="half",
        length=200,
        items=3416,
        users=128,
        behaviors=("buy",),
        model="sasrec",
        loss="cross_entropy",
        config=SASREC,
    ),
    "hmar": Part(
        title="HMAR, four behaviors",
        contenders=("hmar", "hmar_spinning", "plain"),
        law="third",
        length=150,
        items=10_000,
        users=512,
        behaviors=("view", "cart", "favorite", "buy"),
        model="hmar",
        loss="bce",
        config={"d": 80, "heads": 2, "blocks": 1, "dropout": 0.4},
    ),
    "films": Part(
        title="HMAR, the published settings for MovieLens 100K",
        contenders=("hmar", "hmar_spinning", "plain"),
        law="films",
        length=120,
        items=1682,
        users=512,
        behaviors=OPINIONS,
        model="hmar",
        loss="bce",
        config=FILMS,
        notes="films",
    ),
    "engine_sasrec": Part(
        title="An epoch of hmar.train against a bare loop: SASRec, exact softmax",
        contenders=("engine", "hmar"),
        law="half",
        length=200,
        items=3416,
        users=1536,
        behaviors=("buy",),
        model="sasrec",
        loss="cross_entropy",
        config=SASREC,
        unit="epoch",
    ),
    "engine_hmar": Part(
        title="An epoch of hmar.train against a bare loop: HMAR, BCE",
        contenders=("engine", "hmar"),
        law="films",
        length=120,
        items=1682,
        users=3072,
        behaviors=OPINIONS,
        model="hmar",
        loss="bce",
        config=FILMS,
        unit="epoch",
    ),
}
WHO = {
    "hmar": "hmar, as it trains: idle threads sleep",
    "hmar_spinning": "hmar, idle threads spin as OpenMP has it",
    "engine": "hmar.train's loop",
    "plain": "plain padded form, torch",
    "rectools": f"{NAMES['rectools']}, SASRecModel",
    "replay": f"{NAMES['replay']}, SasRec",
    "replay_buckets": f"{NAMES['replay']}, SasRec with its length buckets",
}


class TrainStepBenchmark(LayeredSettings):
    """Time training steps against the peers', the plain form's and a bare loop's."""

    work: Path = Path(tempfile.gettempdir()) / "hmar-benchmark"
    """Directory for data and environments; what can be used again is kept."""
    parts: list[PartName] = Field(default_factory=lambda: list(PARTS))
    """Which comparisons."""
    threads: list[int] = Field(default_factory=lambda: [1, 4])
    """Of torch; a table for each."""
    repeats: int = Field(5, ge=1)
    """Passes of each, after one to warm up; medians count."""
    users: int = Field(0, ge=0)
    """Users of the data, in batches of 128; 0: as many as the part has."""
    peers: bool = True
    """Whether RecTools and RePlay take part."""
    torch: str = TORCH
    """What pip is to install in the peers' environments."""
    out: Path = Path("benchmarks/results/train_step")
    """The tables are written to OUT.md."""


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    program = "python -m benchmarks.train_step"
    return run_benchmark(lambda: TrainStepBenchmark.resolve(arguments=arguments, program=program), _work)


def _work(s: TrainStepBenchmark) -> None:
    for name in s.parts:
        for threads in s.threads:
            result = measure(s, name, threads)
            print(table(result))
            write(s.out, result)


def measure(s: TrainStepBenchmark, name: PartName, threads: int) -> dict[str, Any]:
    """One comparison with so many threads.

    Raises:
        HmarError: a contender failed, or the plain form's loss or gradients are not ours.
    """
    part = PARTS[name]
    task, users, positions = make_task(s, name, threads)
    if "plain" in part.contenders:
        check_plain(task)
    path = s.work / f"step-{name}-{threads}.json"
    path.write_text(json.dumps(task), encoding="utf-8")
    who = [one for one in part.contenders if s.peers or one.partition("_")[0] not in NAMES]
    if threads == 1:
        who = [one for one in who if one != "hmar_spinning"]
    pythons = {one: _python(s, one) for one in who}
    with ExitStack() as stack:
        running = {one: stack.enter_context(Contender(one, pythons[one], path, threads)) for one in who}
        for _ in range(1 + s.repeats):
            for contender in running.values():
                contender.go()
        for contender in running.values():
            contender.end()
    return {
        "part": name,
        "threads": threads,
        "positions": positions,
        "length": part.length,
        "users": users,
        "batch": task["users"],
        "contenders": {
            one: {
                "seconds": [sum(steps) for steps in contender.seconds[1:]],
                "steps": len(contender.seconds[0]),
                "idle": contender.idle,
                "peak": contender.peak,
                "others": max(contender.others[1:]),
            }
            for one, contender in running.items()
        },
        "config": part.config,
        "loss": part.loss,
        "items": part.items,
        "repeats": s.repeats,
        "torch": s.torch,
        "machine": machine(),
        "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def make_task(s: TrainStepBenchmark, name: PartName, threads: int) -> tuple[dict[str, Any], int, int]:
    """Data on disk and all that a contender is told; the users and the positions of a pass."""
    part = PARTS[name]
    users = s.users or part.users
    place = s.work / f"steps-{name}-{users}"
    lengths = input_lengths(part.law, users, part.length)
    snapshot = write_training_snapshot(place / "snapshot", lengths, items=part.items, behaviors=part.behaviors)
    task = {
        "model": part.model,
        "loss": part.loss,
        "config": {**part.config, "positions": part.length},
        "items": part.items,
        "length": part.length,
        "users": 128,
        "lr": 1e-3,
        "threads": threads,
        "snapshot": str(snapshot.path.absolute()),
        "histories": str((place / "histories.json").absolute()),
        **{key: part.config[key] for key in ("d", "heads", "blocks", "dropout")},
    }
    write_histories(Path(task["histories"]), snapshot, training_data(task, counts=False))
    return task, users, int(lengths.sum())


def check_plain(task: dict[str, Any]) -> None:
    """Compare loss and gradients of the plain form with ours, without dropout.

    Raises:
        HmarError: they differ.
    """
    import torch

    from benchmarks.plain_hmar import PlainHMAR, padded
    from benchmarks.steps import training_batches, vocabulary
    from hmar.losses import loss_function, total_loss
    from hmar.models.hmar import HMAR, HMARConfig

    torch.manual_seed(0)
    model = HMAR(HMARConfig.parse({**task["config"], "dropout": 0}), vocabulary(task))
    batch = training_batches(task, model)[0]
    found = []
    for loss in (total_loss(model, loss_function("bce"), batch), PlainHMAR(model)(padded(batch, task["length"]))):
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        found.append([loss.detach(), *gradients])
    for name, ours, plain in zip(["loss", *dict(model.named_parameters())], *found, strict=True):
        off = float((ours - plain).abs().max() / plain.abs().max().clamp(min=1e-6))
        if not off < 1e-3:
            raise HmarError(f"the plain form's {name} differs from ours by {off:.2g} of its largest entry")


class Contender:
    """A running process of benchmarks/step_contenders.py, or of another script that takes the same orders."""

    def __init__(self, who: str, python: str, task: Path, threads: int, name: str = "step_contenders.py") -> None:
        script = Path(__file__).with_name(name)
        ours = Path(python) == Path(sys.executable)
        counts = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self.who = who
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self._child = subprocess.Popen(
            [python, "-P", str(script), who, str(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **counts, "PYTHONPATH": str(script.parent.parent) if ours else ""},
        )
        self.seconds: list[list[float]] = []
        """Of every step of every pass."""
        self.others: list[float] = []
        """Of all cores' time, what other processes had during each pass."""
        self.peak = 0

    def __enter__(self) -> "Contender":
        self.idle: int = self._told()["idle"]
        """Bytes resident when all was imported and nothing made."""
        return self

    def __exit__(self, *error: object) -> None:
        self._child.kill()
        self._child.wait()
        self._errors.close()

    def go(self) -> None:
        """One pass over the batches."""
        before = self._busy()
        print("go", file=self._child.stdin, flush=True)
        self.seconds.append(self._told()["seconds"])
        elapsed, busy, own = (now - then for now, then in zip(self._busy(), before, strict=True))
        self.others.append(max(0.0, busy - own) / (elapsed * (os.cpu_count() or 1)))

    def end(self) -> None:
        """Let it end and say its peak memory."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self.peak = self._told()["peak"]

    def _told(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            self._child.wait()
            self._errors.seek(0)
            raise HmarError(f"{self.who} ended with {self._child.returncode}: {self._errors.read().strip()[-2000:]}")
        told: dict[str, Any] = json.loads(line)
        return told

    def _busy(self) -> tuple[float, float, float]:
        """Seconds of the clock, of all cores' work, and of this process's."""
        whole, own = psutil.cpu_times(), psutil.Process(self._child.pid).cpu_times()
        idle = whole.idle + getattr(whole, "iowait", 0.0) + getattr(whole, "steal", 0.0)
        return time.perf_counter(), sum(whole[:8]) - idle, own.user + own.system


def _python(s: TrainStepBenchmark, who: str) -> str:
    peer = who.partition("_")[0]
    return str(environment(s.work, peer, s.torch)) if peer in NAMES else sys.executable


def table(result: dict[str, Any]) -> str:
    """One result as Markdown."""
    part = PARTS[result["part"]]
    made = result["contenders"]
    ours = made[part.contenders[0]]
    rows = [
        f"| {_name(part, one)} | {median(found['seconds']) / found['steps'] * 1e3:.1f} "
        f"| {result['positions'] / median(found['seconds']):,.0f} | {found['peak'] / MIB:,.0f} "
        f"| {(found['peak'] - found['idle']) / MIB:,.0f} |"
        for one, found in made.items()
    ]
    if part.unit == "epoch":
        share = median(ours["seconds"]) / median(made["hmar"]["seconds"]) - 1
        rows = [
            f"| {_name(part, one)} | {median(found['seconds']):.2f} | {min(found['seconds']):.2f} - "
            f"{max(found['seconds']):.2f} |"
            for one, found in made.items()
        ]
        head = "| | epoch, s | range |\n|---|---|---|"
        verdict = f"The engine costs **{share:+.1%}** of the bare loop."
    else:
        head = (
            "| | ms a step | real target positions/s | peak memory, MiB | above an idle process, MiB |\n"
            "|---|---|---|---|---|"
        )
        rivals = [one for one in made if not one.startswith("hmar")]
        verdict = " ".join(_against(_name(part, one), ours, made[one]) for one in rivals)
        if "hmar_spinning" in made and rivals:
            spinning = " ".join(_against(_name(part, one), made["hmar_spinning"], made[one]) for one in rivals)
            verdict = f"As it trains: {verdict} With threads that spin: {spinning}"
    if part.notes == "films":
        times = [
            PUBLISHED_SECONDS / (median(made[one]["seconds"]) / made[one]["steps"])
            for one in made
            if one.startswith("hmar")
        ]
        verdict += (
            f" The published TensorFlow code takes about {PUBLISHED_SECONDS} s for such a step on a CPU with 4 cores "
            f"(its figure, not measured here): **{' and '.join(f'{one:.1f}' for one in times)} times** ours."
        )
    config = ", ".join(f"{name} {value}" for name, value in part.config.items() if name != "alpha")
    others = max(found["others"] for found in made.values())
    noise = f"; other processes took up to {others:.0%} of the machine meanwhile" if others > QUIET else ""
    return f"""### {result["threads"]} thread{"s" if result["threads"] > 1 else ""}

{result["users"]:,} users in batches of {result["batch"]}, {result["positions"]:,} positions, \
L = {result["length"]} (mean {result["positions"] / result["users"]:.0f}), {result["items"]:,} items; {config}.

{head}
{chr(10).join(rows)}

{verdict}

Medians of {result["repeats"]} passes in turn, {result["date"]}, {result["machine"]}, {result["torch"]}, load \
{result["load"]:.1f}{noise}.
"""


def _name(part: Part, who: str) -> str:
    return "bare loop" if part.unit == "epoch" and who == "hmar" else WHO[who]


def _against(name: str, ours: dict[str, Any], other: dict[str, Any]) -> str:
    times = (median(other["seconds"]) / other["steps"]) / (median(ours["seconds"]) / ours["steps"])
    above = (ours["peak"] - ours["idle"]) / (other["peak"] - other["idle"])
    return (
        f"**{times:.1f} times** as fast as {name}, with {ours['peak'] / other['peak']:.0%} of its memory "
        f"({above:.0%} above idle)."
    )


def write(out: Path, result: dict[str, Any]) -> None:
    """Add the result to those of other parts and threads that are there already."""
    results = kept(out) | {f"{result['part']} {result['threads']}": result}
    text = "# A training step on a CPU\n"
    for name, part in PARTS.items():
        tables = [table(one) for one in sorted(results.values(), key=lambda one: one["threads"]) if one["part"] == name]
        if tables:
            text += f"\n## {part.title}\n\n" + "\n".join(tables)
    keep(out, results, text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
