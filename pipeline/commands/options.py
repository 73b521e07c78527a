"""What the commands have in common: flags from settings, a settings file, help, the key of a run."""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from hmar.errors import DataError
from hmar.settings import LayeredSettings
from pipeline.commands.help import show
from pipeline.home import Home, run_key
from pipeline.settings import RetrainSettings


class DataSettings(RetrainSettings):
    """A stage that starts from published events: the raw log is not needed."""

    raw: Path = Path()
    """Not used by this command."""


class RunSettings(DataSettings):
    """A stage of one run."""

    run: str = ""
    """Key of the run, as 'hmar retrain' printed it; the newest one of this dataset if empty."""


S = TypeVar("S", bound=LayeredSettings)


def parse(kind: type[S], arguments: list[str], program: str) -> S | None:
    """The settings of a command: flags over environment over ``--settings FILE`` over the dataset's preset.

    None if help was asked for; it is printed then.

    Raises:
        SettingsError: an unknown flag or key, a bad value, an unreadable file.
    """
    if any(word in ("-h", "--help") for word in arguments):
        show(kind, program)
        return None
    files = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    files.add_argument("--settings")
    known, rest = files.parse_known_args(arguments)
    return kind.resolve(arguments=rest, yaml_file=known.settings, program=program)


def plain(settings: RetrainSettings) -> RetrainSettings:
    """The run's settings without the command's own."""
    values: dict[str, Any] = {name: getattr(settings, name) for name in RetrainSettings.model_fields}
    return RetrainSettings.model_construct(_fields_set=settings.model_fields_set & values.keys(), **values)


def new_run(name: str) -> str:
    """A key for a run started by hand."""
    return run_key(f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}")


def find_run(s: RetrainSettings, run: str) -> str:
    """``run``, or the newest run of this dataset that has trainings.

    Raises:
        DataError: there is no such run.
    """
    found = runs(s.paths, s.name)
    if run:
        if run not in [key for key, _ in found]:
            known = f"; runs of {s.name}: {', '.join(key for key, _ in found[:5])}" if found else ""
            raise DataError(f"run {run!r} has no trainings of {s.name} in {s.paths.root}{known}")
        return run
    if not found:
        raise DataError(f"{s.paths.root}: no run of {s.name} has trainings; run 'hmar train' or 'hmar retrain' first")
    return found[0][0]


def runs(home: Home, name: str) -> list[tuple[str, list[str]]]:
    """The runs of a dataset that have finished trainings, newest first, with their models."""
    import json

    found: dict[str, list[tuple[float, str]]] = {}
    for record in (home.root / "trainings").glob("*/*/run.json"):
        try:
            settings = json.loads((record.parent / "settings.json").read_text(encoding="utf-8"))
            finished = json.loads(record.read_text(encoding="utf-8"))["status"] == "finished"
        except (OSError, ValueError, KeyError):
            continue
        if finished and settings.get("tracking", {}).get("tags", {}).get("hmar.dataset") == name:
            found.setdefault(record.parent.parent.name, []).append((record.stat().st_mtime, record.parent.name))
    newest = sorted(found.items(), key=lambda item: max(item[1]), reverse=True)
    return [(run, sorted(model for _, model in models)) for run, models in newest]
