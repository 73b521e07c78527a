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
    from hmar.evaluate.judge import judge
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
            among_all, among_unseen = (
                judge(
                    model, snapshot, s.split, s.part,
                    max_length=loaded.meta.max_length, sampled=False, top=0, prior=prior, unseen=unseen,
                ).rank_full
                for unseen in (False, True)
            )  # fmt: skip
            if evidence is not None:
                with torch.no_grad():
                    evidence.bias[0] -= offset
            rows.append({"model": label, "offset": offset, **_means(among_all, among_unseen, targets.repeat)})
    manifest = snapshot.manifest
    about = {
        "dataset": manifest.dataset, "snapshot": manifest.id, "split": s.split, "part": s.part,
        "targets": len(targets), "repeat": int(targets.repeat.sum()), "torch": torch.__version__,
    }  # fmt: skip
    return {"about": about, "rows": rows}


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
