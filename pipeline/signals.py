"""What SIGTERM and SIGINT do for a while."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """``handler`` gets both while the block runs; not in a thread beside the main one, which may set none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, old in former.items():
            signal.signal(number, old)


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set while the block runs, for work in threads, which get no signals."""
    stop = threading.Event()
    with handled_by(lambda number, frame: stop.set()):
        yield stop
