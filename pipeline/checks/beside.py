"""Great Expectations in a process of its own, made ready while this one reads the log.

Importing it takes longer than reading millions of rows, and most of that import is for what no check of ours asks for.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hmar.errors import HmarError
from pipeline.checks.check import Check, Verdict

UNUSED = ("altair", "scipy.stats")
"""What Great Expectations imports for expectations about distributions: half of its import."""


class Beside:
    """A child process that judges once, on demand. Leave the ``with`` block and it is gone."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C is for this process, which then ends the child.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def judge(
        self, project: Path, name: str, subject: str, suite: Sequence[Check], measures: Mapping[str, Any]
    ) -> tuple[list[Verdict], Path]:
        """:func:`pipeline.checks.judge.judge`, in the child; once.

        Raises:
            HmarError: the child came to an end. OSError: as in the child.
        """
        asked = {
            "project": str(project),
            "name": name,
            "subject": subject,
            "suite": [asdict(check) for check in suite],
            "measures": dict(measures),
        }
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with suppress(BrokenPipeError):
            self._child.stdin.write(json.dumps(asked))
            self._child.stdin.close()
        # The pages that follow are drawn with it, and the child is busy for as long as this takes.
        import matplotlib.figure  # noqa: F401

        # To the end of the answer, not of the child: that takes its time to put away what it has imported.
        answer = self._child.stdout.read()
        if not answer:
            raise HmarError(f"the judging process ended with {self._child.wait()}; see its messages above")
        told = json.loads(answer)
        if "error" in told:
            raise OSError(*told["error"])
        passed = zip(suite, told["passed"], strict=True)
        return [Verdict(check, measures[check.measure], success) for check, success in passed], Path(told["page"])


def main() -> None:
    """Get ready, then answer the one question that standard input asks, if it asks one."""
    # Nothing but the answer may stand in standard output.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for name in UNUSED:
        _put_off(name)
    import great_expectations  # noqa: F401

    from pipeline.checks.judge import judge

    text = sys.stdin.read()
    if not text:
        return
    asked = json.loads(text)
    try:
        verdicts, page = judge(
            Path(asked["project"]),
            asked["name"],
            asked["subject"],
            [Check(**check) for check in asked["suite"]],
            asked["measures"],
        )
    except OSError as error:
        told: dict[str, Any] = {"error": [error.errno, error.strerror, error.filename]}
    else:
        told = {"passed": [verdict.success for verdict in verdicts], "page": str(page)}
    with answer:
        json.dump(told, answer)


def _put_off(name: str) -> None:
    """Let a module be executed when something of it is first used."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    main()
