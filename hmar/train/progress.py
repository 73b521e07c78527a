"""What a training shows: a bar on a terminal, one line per interval elsewhere; train.log has the lines either way."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from hmar.train.log import LOGGER

_BAR_SECONDS = 0.5


class Reporter:
    """Tells how far a training is. Use it as a context manager.

    The training asks :meth:`due` before it works out a number to show, because reading a loss from a GPU waits for
    the GPU.
    """

    def __init__(self, log_seconds: float, max_epochs: int, console: Console | None = None) -> None:
        self.log_seconds = log_seconds
        self.max_epochs = max_epochs
        self.console = console or Console(file=sys.stdout, soft_wrap=True)
        self._bar: Progress | None = None
        self._task = None
        self._last_line = time.monotonic()
        self._last_shown = 0.0
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
                TextColumn("loss {task.fields[loss]}"),
                TextColumn("{task.fields[rate]} tokens/s"),
                TextColumn("eta {task.fields[eta]}"),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task("epoch", total=None, start=True, loss="-", rate="-", eta="-", visible=False)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def due(self) -> bool:
        """Whether it is time for :meth:`step`."""
        now = time.monotonic()
        return now - self._last_line >= self.log_seconds or (
            self._bar is not None and now - self._last_shown >= _BAR_SECONDS
        )

    def step(self, epoch: int, step: int, steps: int, loss: float, rate: float, eta: float) -> None:
        """One progress figure.

        Args:
            epoch: 1-based. step: steps done of this epoch's ``steps``. loss: mean since the last call.
            rate: tokens per second. eta: seconds to the end of the last possible epoch.
        """
        now = time.monotonic()
        if self._bar is not None and self._task is not None:
            self._last_shown = now
            self._bar.update(
                self._task,
                description=f"epoch {epoch}/{self.max_epochs}",
                completed=step,
                total=steps,
                loss=f"{loss:.4f}",
                rate=f"{rate:,.0f}",
                eta=f"{clock(eta)} at most",
                visible=True,
            )
        if now - self._last_line >= self.log_seconds:
            self._last_line = now
            self._line(
                f"epoch {epoch}/{self.max_epochs} step {step}/{steps} loss {loss:.4f} {rate:,.0f} tokens/s "
                f"eta {clock(eta)} at most",
                shown=self._bar is None,
            )

    def say(self, text: str) -> None:
        """One line for the reader and the log."""
        self._line(text, shown=True)

    def warn(self, text: str) -> None:
        """One line that deserves attention."""
        LOGGER.warning(text)
        self._print(f"warning: {text}")

    def _line(self, text: str, shown: bool) -> None:
        LOGGER.info(text)
        if shown:
            self._print(text)

    def _print(self, text: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, visible=False)  # until the next step: what it shows is over
        self.console.print(text, markup=False, highlight=False)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
