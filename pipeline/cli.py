"""``hmar <command>``: the same verbs as the tasks of the DAG, and the services around them."""

import sys
from dataclasses import dataclass
from importlib import import_module

from hmar import __version__
from hmar.errors import HmarError, SettingsError, StorageError
from hmar.settings import nearest
from hmar.streams import outlive_readers
from hmar.threads import sleep_while_waiting


@dataclass(frozen=True)
class Command:
    """``target`` is 'module:function', a function of the remaining words that returns the exit code."""

    target: str
    help: str


GROUPS: dict[str, dict[str, Command]] = {
    "Run": {
        "retrain": Command("pipeline.commands.retrain:main", "A raw log to a judged, registered and promoted model"),
        "tune": Command("pipeline.commands.tune:main", "Search better settings for a model, on validation only"),
        "benchmark": Command("pipeline.commands.benchmark:main", "Models on logs, with intervals and costs, as tables"),
        "recommend": Command("pipeline.commands.recommend:main", "Items for every user by the champion, or one user's"),
        "explain": Command("pipeline.commands.explain:main", "Which events carried a user's recommendations"),
        "report": Command("pipeline.commands.report:main", "A run as one HTML page"),
    },
    "One stage at a time": {
        "ingest": Command("pipeline.commands.ingest:main", "Read, account for, validate and publish a raw log"),
        "snapshot": Command("pipeline.commands.snapshot:main", "Published events to point-in-time correct sequences"),
        "train": Command("pipeline.commands.train:main", "Train the models on the snapshot"),
        "evaluate": Command("pipeline.commands.evaluate:main", "Judge a run's trained models"),
        "promote": Command("pipeline.commands.promote:main", "Register a run's best model; promote it if it is better"),
    },
    "Services on this machine": {
        "up": Command("pipeline.services.control:up_main", "Start Airflow and the MLflow pages"),
        "down": Command("pipeline.services.control:down_main", "Stop them"),
        "status": Command("pipeline.services.control:status_main", "What runs and where"),
        "trigger": Command("pipeline.services.trigger:main", "Start a run in Airflow, and follow it"),
    },
    "Look around": {
        "doctor": Command("pipeline.commands.doctor:main", "Check this machine, the data directory and MLflow"),
        "models": Command("pipeline.commands.models:main", "The models and their settings"),
        "lineage": Command("pipeline.commands.lineage:main", "Where every column comes from, as one HTML page"),
        "schema": Command("pipeline.commands.schema:main", "The JSON schema of a run's settings"),
        "simulate": Command("pipeline.simulate:main", "Write a made-up raw log of a known structure"),
    },
}

COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}

INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code says how it ended (:mod:`hmar.errors`), an error is one line on stderr."""
    words = sys.argv[1:] if arguments is None else arguments
    sleep_while_waiting()
    outlive_readers()
    try:
        return _run(words)
    except HmarError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return StorageError.exit_code


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        show_help()
        return 0
    if words[0] in ("-V", "--version"):
        print(f"hmar {__version__}")
        return 0
    name, *rest = words
    if name not in COMMANDS:
        what = "flag" if name.startswith("-") else "command"
        raise SettingsError(f"unknown {what} {name!r}{nearest(name, list(COMMANDS))}")
    module, function = COMMANDS[name].target.split(":")
    code = getattr(import_module(module), function)(rest)
    return int(code or 0)


def show_help() -> None:
    """The list of commands."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print("[bold]hmar[/bold]  nightly retraining for multi-behavior sequential recommendation\n")
    console.print("usage: hmar COMMAND [flags]        hmar COMMAND --help lists its flags\n", markup=False)
    for title, commands in GROUPS.items():
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2), title=title, title_justify="left")
        table.title_style = "bold"
        table.add_column(style="cyan", width=10, no_wrap=True)
        table.add_column()
        for name, command in commands.items():
            table.add_row(name, command.help)
        console.print(table)
        console.print()
    console.print("start here:  hmar retrain --dataset movielens --raw ml-100k", markup=False)


if __name__ == "__main__":
    sys.exit(main())
