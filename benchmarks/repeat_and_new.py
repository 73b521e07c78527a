"""What a ranking can have of repeat targets and of new ones at the same time, where items recur.

    python -m benchmarks.repeat_and_new --snapshot DIR --models '{"hmar_plus": "RUN/hmar_plus/model"}'

A ranking that puts a user's own items first moves everything else down by as many places: what is lost for new targets
that way says nothing about how well new items are ordered. Beside NDCG of all, repeat and new targets there is that of
new targets among the items that are not in the history. And where a model gives the items of the past evidence
(hmar_plus), the same with an offset added to the score of all of them: how much of one stratum buys how much of the
other. The models are exported ones, trained on the snapshot; nothing is chosen by what is seen here.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmarks.tables import run_benchmark, tell
from hmar.data.snapshot import Part
from hmar.settings import LayeredSettings

METRIC = "ndcg@10"


class RepeatAndNewSettings(LayeredSettings):
    """Judge exported models by repeat and new targets; a table as Markdown and JSON."""

    snapshot: Path
    models: dict[str, Path] = Field(min_length=1)
    """Label: directory of an exported model."""
    split: str = "leave_one_out"
    part: Part = "test"
    offsets: tuple[float, ...] = (0, 1, 2, 3, 5, 10)
    """Added to the score of every item of the past, where a model has evidence."""
    memory_mb: int = Field(64, ge=1)
    """Scores held at once."""
    out: Path = Path("benchmarks/results/repeat_and_new")
    """The table is written to OUT.md, all numbers to OUT.json."""


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    program = "python -m benchmarks.repeat_and_new"
    return run_benchmark(
        lambda: RepeatAndNewSettings.resolve(arguments=arguments, use_environment=False, program=program), _work
    )


def _work(s: RepeatAndNewSettings) -> None:
    result = measure(s)
    tell(s.out, result, markdown(result))


def measure(s: RepeatAndNewSettings) -> dict[str, Any]:
    """All models, at all offsets.

    Raises:
        DataError: no exported model or snapshot there, or they do not fit each other.
    """
    import torch

    from hmar.data.counting import PriorCounts
    from hmar.data.snapshot import Snapshot
    from hmar.evaluate.adapt import adapt
    from hmar.export import load

    snapshot = Snapshot(s.snapshot)
    prior = PriorCounts(snapshot)
    targets = snapshot.targets(s.split, s.part)
    rows = []
    for label, directory in s.models.items():
        loaded = load(directory)
        model = adapt(loaded, snapshot)
        evidence = getattr(loaded.model, "evidence", None)
        for offset in s.offsets if evidence is not None else (0,):
            if evidence is not None:
                with torch.no_grad():
                    evidence.bias[0] += offset
            ranks = judged(model, snapshot, targets, prior, loaded.meta.max_length, s.memory_mb)
            if evidence is not None:
                with torch.no_grad():
                    evidence.bias[0] -= offset
            rows.append({"model": label, "offset": offset, **_means(*ranks, targets.repeat)})
    manifest = snapshot.manifest
    about = {
        "dataset": manifest.dataset, "snapshot": manifest.id, "split": s.split, "part": s.part,
        "targets": len(targets), "repeat": int(targets.repeat.sum()), "torch": torch.__version__,
    }  # fmt: skip
    return {"about": about, "rows": rows}


def judged(
    model: Any, snapshot: Any, targets: Any, prior: Any, max_length: int, memory_mb: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each target's rank among all candidates, as :func:`hmar.evaluate.judge.judge` has it, and among those that are
    not in the user's history, but for the target; float64 [N] each."""
    import torch

    from hmar.data.targets import histories_for
    from hmar.evaluate.ranking import consumed_cells

    among_all, among_unseen = np.full(len(targets), np.inf), np.full(len(targets), np.inf)
    rows = max(1, memory_mb * 2**20 // (8 * snapshot.n_items))
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(targets), rows):
            chosen = np.arange(start, min(start + rows, len(targets)))
            some = targets.take(chosen)
            seen = prior.history_items(some.user, some.history_end)
            scores = model.score_all(histories_for(snapshot, some, max_length, model.reads), seen)
            scores = scores.index_put(
                tuple(map(torch.from_numpy, consumed_cells(snapshot, some.user, some.history_end))),
                torch.tensor(-torch.inf),
            )
            catalog = torch.from_numpy(some.catalog.astype(np.int64))
            scores = scores.masked_fill(torch.arange(snapshot.n_items) >= catalog[:, None], -torch.inf)
            item = torch.from_numpy(some.item.astype(np.int64))
            own = scores.gather(1, item[:, None])
            above = scores >= own
            own_above = torch.zeros(len(some)).index_add(
                0, seen.row, (above[seen.row, seen.item] & (seen.item != item[seen.row])).float()
            )
            rank = above.sum(1).double().masked_fill(own[:, 0] == -torch.inf, torch.inf)
            among_all[chosen], among_unseen[chosen] = rank.numpy(), (rank - own_above).numpy()
    return among_all, among_unseen


def _means(
    among_all: NDArray[np.float64], among_unseen: NDArray[np.float64], repeat: NDArray[np.bool_]
) -> dict[str, float]:
    from hmar.evaluate import metrics

    found, unseen = metrics.of_ranks(among_all, METRIC), metrics.of_ranks(among_unseen, METRIC)
    parts = {"all": found, "repeat": found[repeat], "new": found[~repeat], "new_among_unseen": unseen[~repeat]}
    return {name: float(values.mean()) if len(values) else float("nan") for name, values in parts.items()}


def markdown(result: Mapping[str, Any]) -> str:
    """The table, in words what it is of."""
    about = result["about"]
    lines = [
        "# Repeat and new targets", "",
        f"{METRIC}, full ranking, of {about['targets']:,} {about['part']} targets of {about['dataset']}, "
        f"{about['split']}, {about['repeat']:,} of them repeat. Snapshot `{about['snapshot']}`, torch "
        f"{about['torch']}. *Offset*: added to the score of every item of the user's past, where a model gives them "
        "evidence. *Among unseen*: new targets ranked among the items that are not in the history.", "",
        "| model | offset | all | repeat | new | new, among unseen |", "|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    lines += [
        f"| {row['model']} | {row['offset']:g} | {row['all']:.4f} | {row['repeat']:.4f} | {row['new']:.4f} | "
        f"{row['new_among_unseen']:.4f} |"
        for row in result["rows"]
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
