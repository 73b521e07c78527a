"""What training does with a GPU: tokens per second, how near the machine's ceiling that is, and what the rest goes to.

    python -m benchmarks.on_gpu

Every row is one model, width, loss and precision on made-up histories: batches are planned, pinned and moved as in a
training. The ceilings, a bare matrix product and a device copy, are measured in the same run. Prints a table and writes
``OUT``.json and ``OUT``.md. With ``--device cpu --quick`` everything is tiny and says nothing but that it runs.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice, product
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pydantic import Field

from benchmarks.measure import GIB, machine
from benchmarks.steps import SPLIT, input_lengths, write_training_snapshot
from benchmarks.tables import run_benchmark, tell
from hmar.errors import SettingsError
from hmar.settings import LayeredSettings
from hmar.threads import sleep_while_waiting

BEHAVIORS = ("click", "cart", "favorite", "buy")
LOSSES: dict[str, dict[str, Any]] = {
    "cross_entropy": {"loss": "cross_entropy"},
    "sampled_softmax": {
        "loss": "sampled_softmax",
        "negatives": 1024,
        "negatives_from": "uniform",
        "negatives_per": "batch",
    },
}
ADAM_PASSES = 8
"""Times that a weight's four bytes cross the memory in a step at least: its gradient is written; gradient, weight and
two moments are read; weight and moments are written."""


class CudaBenchmark(LayeredSettings):
    """Training speed on a GPU."""

    device: Literal["cuda", "cpu"] = "cuda"
    quick: bool = False
    """Tiny sizes, to see that it runs."""
    items: int = Field(1_000_000, ge=100)
    users: int = Field(128, ge=1)
    """Per batch."""
    length: int = Field(200, ge=2)
    """L; histories are uniform in 1..L."""
    widths: list[int] = Field(default_factory=lambda: [64, 256])
    precisions: list[Literal["32", "bf16-mixed", "16-mixed"]] = Field(default_factory=lambda: ["32", "bf16-mixed"])
    steps: int = Field(20, ge=1)
    """Steps of one measurement."""
    repeats: int = Field(5, ge=1)
    """Measurements of each row; the median counts."""
    compiled: bool = False
    """A row more for each, with the step under torch.compile."""
    out: Path = Path("benchmarks/results/on_gpu")
    """Results are written to OUT.json and OUT.md."""


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    sleep_while_waiting()
    return run_benchmark(
        lambda: CudaBenchmark.resolve(arguments=arguments, program="python -m benchmarks.on_gpu"), _work
    )


def _work(s: CudaBenchmark) -> None:
    if s.quick:
        tiny = {"items": 500, "users": 8, "length": 20, "widths": [8], "steps": 2, "repeats": 2}
        s = s.model_copy(update=tiny)
    result = measure(s)
    tell(s.out, result, table(result))


def measure(s: CudaBenchmark) -> dict[str, Any]:
    """Ceilings, then all rows.

    Raises:
        SettingsError: no GPU here.
    """
    import torch

    if s.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device: no CUDA device here; --device cpu --quick shows that the benchmark runs")
    device = torch.device(s.device)
    limits = ceilings(device, s.quick)
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        lengths = input_lengths("half", s.users * (s.steps + 2), s.length)
        write_training_snapshot(Path(directory) / "snapshot", lengths, items=s.items, behaviors=BEHAVIORS)
        kinds = product(("sasrec", "hmar"), s.widths, LOSSES, s.precisions, (False, True) if s.compiled else (False,))
        for model, width, loss, precision, compiled in kinds:
            row = _row(s, Path(directory), model, width, loss, precision, compiled)
            row["of_products"] = row["flops"] / limits[f"flops_{precision}"]
            row["of_memory"] = row["bytes"] / limits["bytes"]
            rows.append(row)
            print(_line(row), file=sys.stderr)
    return {
        "device": torch.cuda.get_device_name() if s.device == "cuda" else "cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "settings": s.model_dump(mode="json", exclude={"out"}),
        "ceilings": limits,
        "rows": rows,
    }


def ceilings(device: Any, quick: bool) -> dict[str, float]:
    """What the device does at most: products per second by precision, and bytes per second of a copy, both ways."""
    import torch

    n = 256 if quick else 8192
    found: dict[str, float] = {}
    for precision, dtype in (("32", torch.float32), ("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)):
        a = torch.randn(n, n, device=device).to(dtype)
        found[f"flops_{precision}"] = 2 * n**3 / _seconds(lambda a=a: a @ a, device)  # type: ignore[misc]
    source = torch.zeros((2**24 if quick else GIB) // 4, device=device)
    target = torch.empty_like(source)
    found["bytes"] = 2 * 4 * len(source) / _seconds(lambda: target.copy_(source), device)
    return found


def _seconds(work: Callable[[], Any], device: Any, times: int = 10) -> float:
    """Seconds of one call, the median of five tries of ``times`` calls."""
    tries = []
    for _ in range(6):
        _wait(device)
        started = time.perf_counter()
        for _ in range(times):
            work()
        _wait(device)
        tries.append((time.perf_counter() - started) / times)
    return median(tries[1:])


def _wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Bench:
    """One row's training, as far as a step needs it: the parts of :class:`hmar.train.loop.Trainer`."""

    def __init__(
        self, s: CudaBenchmark, directory: Path, model: str, width: int, loss: str, precision: str, compiled: bool
    ) -> None:
        import torch

        from hmar.data.snapshot import Snapshot
        from hmar.losses import loss_function
        from hmar.models import model_class
        from hmar.models.base import Encoder, Vocabulary
        from hmar.train.data import training_data
        from hmar.train.engine import make_fabric, set_up
        from hmar.train.gradients import Gradients
        from hmar.train.optimizer import make_optimizer
        from hmar.train.settings import TrainSettings
        from hmar.train.step import TrainingStep

        snapshot = Snapshot(directory / "snapshot")
        settings = TrainSettings.resolve(
            {
                "model": model,
                "snapshot": str(snapshot.path),
                "out": str(directory / "out"),
                "split": SPLIT,
                "device": s.device,
                "precision": precision,
                "threads": 0,
                "batch_size": s.users,
                "max_length": s.length,
                "config": {"d": width, "heads": 1, "positions": s.length},
                **LOSSES[loss],
            },
            use_environment=False,
        )
        self.settings = settings
        fabric = make_fabric(settings, set_up(settings))
        self.device = fabric.device
        torch.manual_seed(0)
        kind = model_class(model)
        encoder = kind(kind.Config.parse(settings.config), Vocabulary.of(snapshot))
        assert isinstance(encoder, Encoder)
        encoder.to(self.device)
        self.model = encoder
        chosen = loss_function(settings.loss, **settings.loss_options)
        self.data = training_data(settings, snapshot, encoder, chosen)
        step = TrainingStep(encoder, chosen)
        if compiled:
            from hmar.train.compiled import compile_step

            compile_step(step, self.device)
        self.step, self.optimizer = fabric.setup(step, make_optimizer(settings, encoder, self.device.type))
        self.gradients = Gradients(fabric, self.step, lambda text: print(text, file=sys.stderr))
        encoder.train()

    def batches(self, count: int) -> Iterator[Any]:
        """The first batches, planned and pinned."""
        from hmar.data.moving import pinned
        from hmar.train.engine import FORMATS

        for batch in islice(self.data.batches(0), count):
            self.model.plan(batch.histories, self.device, FORMATS[self.settings.precision])
            yield pinned(batch) if self.device.type == "cuda" else batch

    def train(self, count: int) -> int:
        """Steps over the first ``count`` batches; their positions."""
        from hmar.train.prefetch import prefetch

        positions = 0
        with prefetch(self.batches(count)) as batches:
            for batch in batches:
                self.optimizer.zero_grad()
                self.gradients.of(batch, len(batch.next_item), "the benchmark")
                self.optimizer.step()
                positions += len(batch.next_item)
        _wait(self.device)
        return positions


def _row(
    s: CudaBenchmark, directory: Path, model: str, width: int, loss: str, precision: str, compiled: bool
) -> dict[str, Any]:
    import torch

    from hmar.layers.kernels import choose
    from hmar.train.engine import FORMATS

    bench = _Bench(s, directory, model, width, loss, precision, compiled)
    bench.train(s.steps)
    if s.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    tries, positions = [], 0
    for _ in range(s.repeats):
        started = time.perf_counter()
        positions = bench.train(s.steps)
        tries.append(time.perf_counter() - started)
    seconds = median(tries) / s.steps
    weights = sum(weight.numel() for weight in bench.model.parameters())
    return {
        "model": model,
        "d": width,
        "loss": loss,
        "precision": precision,
        "compiled": compiled,
        "kernel": choose(bench.device, FORMATS[bench.settings.precision], width),
        "tokens_per_second": positions / s.steps / seconds,
        "seconds_per_step": seconds,
        "spread": [round(one / s.steps, 6) for one in sorted(tries)],
        "flops": _operations(bench, s.items, s.steps) / seconds,
        "bytes": ADAM_PASSES * 4 * weights / seconds,
        "memory": torch.cuda.max_memory_allocated() if s.device == "cuda" else None,
        "profile": _profile(bench),
    }


def _operations(bench: _Bench, items: int, steps: int) -> float:
    """Multiplications and additions of one step's matrix products, by formula, the mean of so many steps: three
    products of each weight matrix with every position, three of every position with every item it is scored against,
    and attention's two forward and five backward over half of each history's square."""
    width, total = bench.settings.config["d"], 0.0
    dense = sum(
        weight.numel() / (weight.shape[0] if weight.ndim == 3 else 1)
        for name, weight in bench.model.named_parameters()
        if weight.ndim > 1 and "items" not in name and "table" not in name
    )
    scored = items if bench.settings.loss == "cross_entropy" else bench.settings.negatives
    layers = sum(name.endswith("qkv.weight") for name, _ in bench.model.named_parameters())
    for batch in bench.batches(steps):
        positions = len(batch.next_item)
        squares = float((batch.histories.lengths.double() ** 2).sum())
        total += 6 * positions * (dense + scored * width) + layers * 7 * width * squares
    return total / steps


def _profile(bench: _Bench) -> list[dict[str, Any]]:
    """Where the time of two steps goes: the ten heaviest kernels, with their share of all."""
    from torch.profiler import ProfilerActivity, profile

    cuda = bench.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiler:
        bench.train(2)
    events = profiler.key_averages()

    def own(event: Any) -> float:
        time: float = event.self_device_time_total if cuda else event.self_cpu_time_total
        return time

    total = sum(own(event) for event in events) or 1.0
    heaviest = sorted(events, key=own, reverse=True)[:10]
    return [{"name": event.key, "share": own(event) / total, "calls": event.count} for event in heaviest]


def _line(row: dict[str, Any]) -> str:
    memory = "" if row["memory"] is None else f"{row['memory'] / GIB:.1f} GiB"
    kernel = row["kernel"] + (", compiled" if row["compiled"] else "")
    return (
        f"| {row['model']} | {row['d']} | {row['loss']} | {row['precision']} | {kernel} "
        f"| {row['tokens_per_second']:,.0f} | {row['seconds_per_step'] * 1000:.1f} | {row['of_products']:.0%} "
        f"| {row['of_memory']:.0%} | {memory} |"
    )


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    s, limits = result["settings"], result["ceilings"]
    lines = "\n".join(_line(row) for row in result["rows"])
    profiles = "\n".join(
        f"### {row['model']}, d={row['d']}, {row['loss']}, {row['precision']}"
        + (", compiled" if row["compiled"] else "")
        + "\n\n| kernel | share | calls in two steps |\n|---|---|---|\n"
        + "\n".join(f"| `{one['name'][:90]}` | {one['share']:.0%} | {one['calls']} |" for one in row["profile"])
        + "\n"
        for row in result["rows"]
    )
    return f"""# Training on {result["device"]}

{s["users"]} histories a batch, uniform in 1..{s["length"]}, {s["items"]:,} items, {len(BEHAVIORS)} behaviors. Tokens \
are real positions; a step is gathering, moving, forward, backward and Adam. Medians of {s["repeats"]} times \
{s["steps"]} steps. Of the ceilings measured in the same run: products {limits["flops_32"] / 1e12:.1f} (32), \
{limits["flops_bf16-mixed"] / 1e12:.1f} (bf16) and {limits["flops_16-mixed"] / 1e12:.1f} (16) TFLOP/s in a bare matrix \
product, memory {limits["bytes"] / 1e9:.0f} GB/s in a copy. "Of products" is the step's matrix products by formula; \
"of memory" counts the weights' own traffic in Adam only, so both are lower bounds of what the device does.

| model | d | loss | precision | attention | tokens/s | ms a step | of products | of memory | peak memory |
|---|---|---|---|---|---|---|---|---|---|
{lines}

{result["date"]}, torch {result["torch"]}, CUDA {result["cuda"]}, {result["machine"]}.

## Where the time goes

{profiles}"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
