"""HMAR under the published protocol on MovieLens 100K, beside what its published code reached there, epoch by epoch.

    python -m benchmarks.published --raw path/to/ml-100k

The reference was measured by running the published code unchanged on a 4-core CPU, with its MovieLens script and that
script's settings, one seed: ratings up to 2 are dislikes, below 4 neutral, the others likes; users without a like left
out; lines by user, then time. A training that is there already is not repeated.

The published code knows no times, only lines. MovieLens users rate dozens of films in one second, so which like is a
user's last depends on the order of equal times: there the file's, in a snapshot the neutral one, in which likes come
last. ``--ties file`` (the default) gives every line a second of its own, in the order of the reference; ``--ties
neutral`` leaves the log as it is.
"""

import json
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.tables import command, run_benchmark, tell
from hmar.errors import DataError
from pipeline.settings import RetrainSettings

REFERENCE = {
    110: (0.689, 0.414),
    120: (0.698, 0.422),
    250: (0.726, 0.462),
    255: (0.736, 0.463),
    285: (0.746, 0.467),
    300: (0.739, 0.456),
}
"""Epoch -> HR@10, NDCG@10 on the target among 99 items outside the history."""

TOLERANCE = 0.02

LIKED = 4
"""Lowest rating that is a like."""
FIRST_SECOND = 880_000_000
"""A time in MovieLens's years."""


class PublishedSettings(RetrainSettings):
    """Train HMAR as published with several seeds; print a table, write it as Markdown and JSON."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """One training per seed."""
    epochs: int = max(REFERENCE)
    """Of each training."""
    ties: Literal["file", "neutral"] = "file"
    """The order of what a user rated in one second."""
    out: Path = Path("benchmarks/results/published-ml-100k")
    """The table is written to OUT.md, all numbers to OUT.json."""


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    given = ["--dataset", "movielens", "--protocol", "published", "--models", "hmar", *arguments]
    program = "python -m benchmarks.published"
    return run_benchmark(lambda: PublishedSettings.resolve(arguments=given, program=program), _work)


def _work(s: PublishedSettings) -> None:
    result = measure(s)
    tell(s.out, result, markdown(result))


def measure(s: PublishedSettings) -> dict[str, Any]:
    """Every seed's metrics at the epochs of the reference.

    Raises:
        HmarError: of the stage that failed.
    """
    import torch

    from hmar.data.snapshot import Snapshot
    from pipeline.preflight import check
    from pipeline.stages.ingest import land
    from pipeline.stages.snapshot import build
    from pipeline.stages.train import train
    from pipeline.stages.validate import validate

    given = command("benchmarks.published", s, ("raw",), ("seeds", "epochs", "ties", "train", "overrides"))
    if s.ties == "file":
        s = s.model_copy(
            update={"raw": in_file_order(s.raw, s.paths.root / "in-file-order"), "name": f"{s.name}-lines"}
        )
    check(s, promotes=False)
    built = build(s, validate(s, land(s)))
    snapshot = Snapshot(built.snapshot)
    seeds = {}
    started = time.monotonic()
    for seed in s.seeds:
        one = s.model_copy(update={"seed": seed, "train": {**s.train, "max_epochs": s.epochs}})
        trained = train(one, built, "hmar", f"published-{built.id[:8]}-{seed}")
        history = json.loads((trained.directory / "history.json").read_text(encoding="utf-8"))
        judged = {row["epoch"]: row["validation"] for row in history if row["validation"] is not None}
        seeds[seed] = {epoch: judged[epoch] for epoch in REFERENCE if epoch in judged}
    return {
        "about": {
            "ties": s.ties,
            "snapshot": built.id,
            "targets": len(snapshot.targets("published", "test")),
            "code_version": snapshot.manifest.code_version,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {s.train.get('threads', 2)} threads",
            "seconds": round(time.monotonic() - started, 1),
            "command": given,
        },
        "reference": {epoch: dict(zip(("hr@10", "ndcg@10"), pair, strict=True)) for epoch, pair in REFERENCE.items()},
        "seeds": seeds,
    }


def in_file_order(raw: Path, into: Path) -> Path:
    """A copy of a log in MovieLens 100K's format in which no two ratings have one time: lines by user, then time, lines
    of one time as they stand; users without a like are left out. Returns its directory.

    Raises:
        DataError: there is no u.data.
    """
    path = raw if raw.is_file() else raw / "u.data"
    if not path.is_file():
        raise DataError(f"raw: {path} does not exist; give the directory of MovieLens 100K")
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line]
    who_likes = {user for user, _, rating, _ in lines if float(rating) >= LIKED}
    kept = sorted((line for line in lines if line[0] in who_likes), key=lambda line: (int(line[0]), int(line[3])))
    into.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{user}\t{item}\t{rating}\t{FIRST_SECOND + n}\n" for n, (user, item, rating, _) in enumerate(kept))
    (into / "u.data").write_text(text, encoding="utf-8")
    return into


def markdown(result: Mapping[str, Any]) -> str:
    """The table, its protocol above it."""
    about, seeds = result["about"], result["seeds"]
    lines = [
        "## MovieLens 100K, published protocol",
        "",
        "HMAR as its published code trains and judges it, leaks included (docs/published-protocol.md): the target "
        f"among 99 items outside the history, {about['targets']} targets. Ours: mean ± standard deviation over seeds "
        f"{', '.join(map(str, seeds))}; reference: the published code, one seed. Equal times stand in "
        f"{about['ties']} order. Not to be compared with numbers of another protocol.",
        "",
        f"Snapshot `{about['snapshot']}`, code {about['code_version']}, torch {about['torch']}, {about['machine']}, "
        f"{about['seconds'] / 60:.0f} min. `{about['command']}`",
        "",
        "| epoch | HR@10 | reference | difference | NDCG@10 | reference | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for epoch, reference in result["reference"].items():
        cells = [str(epoch)]
        for metric in ("hr@10", "ndcg@10"):
            values = [judged[epoch][metric] for judged in seeds.values() if epoch in judged]
            if not values:
                cells += ["", f"{reference[metric]:.3f}", ""]
                continue
            spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            gap = float(np.mean(values)) - reference[metric]
            flag = "" if abs(gap) <= TOLERANCE else " (!)"
            cells += [f"{np.mean(values):.3f}{spread}", f"{reference[metric]:.3f}", f"{gap:+.3f}{flag}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"(!): more than {TOLERANCE} away.", ""])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
