"""``python -m hmar.evaluate``: judge one trained model in a process of its own."""

import sys
import time

from hmar.errors import HmarError
from hmar.evaluate.settings import EvaluateSettings
from hmar.streams import outlive_readers
from hmar.threads import sleep_while_waiting


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0, or the error's; an error is one line on stderr."""
    sleep_while_waiting()
    outlive_readers()
    try:
        settings = EvaluateSettings.resolve(
            arguments=sys.argv[1:] if arguments is None else arguments,
            use_environment=False,
            program="python -m hmar.evaluate",
        )
        _run(settings)
    except HmarError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _run(settings: EvaluateSettings) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from hmar.evaluate.run import evaluate
    from hmar.evaluate.screen import part_table

    console = Console()
    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {part: progress.add_task(part, total=None) for part in settings.parts}
        result = evaluate(settings, lambda part, done, total: progress.update(tasks[part], completed=done, total=total))
    for part in result.parts:
        console.print(part_table(f"{result.model}, {result.split}, {part}", result.metrics, part))
    if result.leaks:
        console.print(f"leaks: {', '.join(result.leaks)}; not to be compared with numbers without them", soft_wrap=True)
    state = "was done before" if result.reused else f"{time.monotonic() - started:.1f} s"
    console.print(f"{result.directory} ({state})", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
