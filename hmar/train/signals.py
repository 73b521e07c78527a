"""SIGTERM and SIGINT: a training ends between two steps, after a checkpoint; anything else ends at once."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hmar.errors import Interrupted

ECHO_SECONDS = 2.0
"""Signals this close to the first one are the first one: a parent with threads that is killed has the kernel tell its
child once for each thread that dies (PR_SET_PDEATHSIG), over some milliseconds, and longer on a busy machine."""


class StopSignal:
    """Knows whether the process was asked to stop.

    Outside :meth:`deferred` the handler raises Interrupted where the program stands: all that runs there is safe to
    cut off, because it is repeated by the same command. Inside, the first signal is only noted, so that the block
    can finish its step and write a checkpoint; a second one raises. Echoes of the first are not heard, or they would
    cut off that checkpoint, and what is written down about the end.
    """

    def __init__(self) -> None:
        self.name = ""
        self._heard = 0.0
        self._deferred = False

    def install(self) -> None:
        """Take over both signals. Call it in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    @property
    def requested(self) -> bool:
        return bool(self.name)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Inside :meth:`deferred`: a part that may be cut off anywhere."""
        self._deferred = False
        try:
            self.check()
            yield
        finally:
            self._deferred = True
        self.check()

    def check(self) -> None:
        """Raise if a signal came whose exception was lost in a library's ``except``.

        Raises:
            Interrupted: the process was asked to stop.
        """
        if self.requested:
            raise self.interrupted()

    def interrupted(self, where: str = "") -> Interrupted:
        name = self.name or "a signal to another process"
        return Interrupted(f"stopped by {name}{where}; the same command continues this training")

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now, again = time.monotonic(), self.requested
        if again and now - self._heard < ECHO_SECONDS:
            return
        self.name, self._heard = signal.Signals(number).name, now
        if again or not self._deferred:
            raise self.interrupted()
