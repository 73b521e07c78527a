"""One trained model judged on the validation and test targets, in a process of its own."""

from collections.abc import Callable
from pathlib import Path

from pipeline.judged import as_evaluated, evaluation_directory
from pipeline.process import run_module
from pipeline.results import Built, Evaluated, Trained
from pipeline.settings import RetrainSettings


def evaluate(
    s: RetrainSettings, built: Built, trained: Trained, *, relay: Callable[[str], None] | None = None
) -> Evaluated:
    """Judge the model under full and sampled ranking; the results go to its directory and its MLflow run.

    Args:
        relay: see :func:`pipeline.process.run_module`.

    Raises:
        HmarError: what the evaluation process ended with.
    """
    arguments = [
        "--training",
        str(trained.directory),
        "--tracking-uri",
        s.mlflow_uri,
        *("--explain-users", str(s.explain.users)),
        *_common(s, built, trained.model),
    ]
    directory = trained.directory / "evaluation"
    run_module("hmar.evaluate", arguments, directory, what=f"evaluation of {trained.model}", relay=relay)
    return as_evaluated(s, built, trained.model, trained.directory, trained.mlflow_run)


def evaluate_export(s: RetrainSettings, built: Built, model: str, export: Path, out: Path) -> Path:
    """Judge an exported model, which may be older than the snapshot; the directory of its results.

    Raises:
        DataError: the model does not fit the snapshot (other behaviors, for example).
        HmarError: what the evaluation process ended with.
    """
    arguments = ["--model-dir", str(export), "--out", str(out), "--explain-users", "0", *_common(s, built, model)]
    run_module("hmar.evaluate", arguments, out, what=f"evaluation of {model}")
    return evaluation_directory(out, built.id, s.split)


def _common(s: RetrainSettings, built: Built, model: str) -> list[str]:
    """What is the same for every model that is to be compared."""
    arguments = [
        *("--snapshot", str(built.snapshot)),
        *("--split", s.split),
        *("--confidence", str(s.promote.confidence)),
        *("--seed", str(s.promote.seed)),
    ]
    for key in ("device", "threads"):
        value = s.overrides.get(model, {}).get(key, s.train.get(key))
        if value is not None:
            arguments += [f"--{key}", str(value)]
    return arguments
