"""``python -m hmar.evaluate.cost``: what scoring costs, measured in one and the same way for every model.

A request is one history and N candidates drawn from the catalog, the same for every model of a snapshot; a model
encodes the history once for all of them. Requests come in batches of :data:`BATCH`; gathering them is not counted.
Seconds are the process's own on a CPU, which other work on the machine does not lengthen, and the clock's on a GPU.
"""

import statistics
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from hmar import export
from hmar.atomic import write_json
from hmar.data.counting import PriorCounts
from hmar.data.snapshot import Snapshot, Targets
from hmar.data.targets import histories_for
from hmar.errors import DataError, HmarError
from hmar.evaluate.run import choose_device, device_name
from hmar.models.base import Recommender
from hmar.settings import LayeredSettings
from hmar.threads import limit_threads, sleep_while_waiting

BATCH = 20


class CostSettings(LayeredSettings):
    """Measure an exported model's parameters and the time it takes to score candidates; write both as JSON."""

    model_dir: Path
    """Directory of an exported model."""
    snapshot: Path
    """The snapshot it was trained on."""
    split: str
    """Whose test targets' histories are scored."""
    out: Path
    """The JSON file to write."""
    histories: int = Field(200, ge=1)
    """Requests of a pass, evenly spread over the test targets."""
    candidates: int = Field(1000, ge=1)
    """Candidates of a request, drawn from the catalog with the same seed for every model."""
    passes: int = Field(5, ge=1)
    """Passes over the requests; the median counts."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(1, ge=0)


def measure(s: CostSettings) -> dict[str, Any]:
    """``parameters``, ``milliseconds`` per 1,000 scored candidates, and what it was measured with.

    Raises:
        DataError: the model is of another snapshot, or the split has no test targets.
    """
    loaded = export.load(s.model_dir)
    snapshot = Snapshot(s.snapshot)
    if loaded.meta.snapshot != snapshot.manifest.id:
        raise DataError(f"{s.model_dir}: the model is of snapshot {loaded.meta.snapshot}, not {snapshot.manifest.id}")
    limit_threads(s.threads)
    device = choose_device(s.device)
    targets = _some(snapshot, s.split, s.histories)
    count = min(s.candidates, snapshot.n_items)
    drawn = torch.from_numpy(np.random.default_rng(0).integers(snapshot.n_items, size=(len(targets), count)))
    model = loaded.model.to(device)
    seconds = _seconds(model, snapshot, targets, drawn, loaded.meta.max_length, s.passes)
    return {
        "parameters": export.parameters(model),
        "milliseconds": 1e6 * statistics.median(seconds) / drawn.numel(),
        "histories": len(targets),
        "candidates": count,
        "passes": seconds,
        "threads": torch.get_num_threads(),
        "device": device_name(device),
    }


def _some(snapshot: Snapshot, split: str, count: int) -> Targets:
    targets = snapshot.targets(split, "test")
    if not len(targets):
        raise DataError(f"{snapshot.path}: split {split} has no test targets, so there is nothing to score")
    chosen = np.linspace(0, len(targets) - 1, min(count, len(targets))).astype(np.int64)
    return targets.take(chosen)


def _seconds(
    model: Recommender,
    snapshot: Snapshot,
    targets: Targets,
    drawn: torch.Tensor,
    max_length: int,
    passes: int,
) -> list[float]:
    """Seconds of each pass. One before them is not counted: it pays for what is made once."""
    device = model.popularity.device
    prior = PriorCounts(snapshot)
    requests = []
    for start in range(0, len(targets), BATCH):
        some = targets.take(np.arange(start, min(start + BATCH, len(targets))))
        histories = histories_for(snapshot, some, max_length, model.reads)
        seen = prior.history_items(some.user, some.history_end)
        if model.published is not None:
            past = prior.of(some.user)
            histories, seen = model.published.evaluation(snapshot, some, past, histories, seen)
        requests.append((histories.to(device), seen.to(device), drawn[start : start + BATCH].to(device)))
    found = []
    model.eval()
    with torch.inference_mode():
        for _ in range(passes + 1):
            before = _now(device)
            for histories, seen, items in requests:
                model.score(histories, seen, items)
            found.append(_now(device) - before)
    return found[1:]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    sleep_while_waiting()
    try:
        s = CostSettings.resolve(arguments=arguments, use_environment=False, program="python -m hmar.evaluate.cost")
        write_json(s.out, measure(s))
    except HmarError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
