"""A time limit that is an exception, as Airflow's is, ends the child too."""

import signal
import time
from pathlib import Path
from types import FrameType

import psutil
import pytest

from pipeline.process import run_module


class TooLong(Exception):
    """Stands where Airflow raises its own."""


@pytest.mark.slow
def test_the_child_ends_with_a_checkpoint_and_the_exception_goes_on(tmp_path: Path) -> None:
    def alarm(number: int, frame: FrameType | None) -> None:
        raise TooLong

    marker = tmp_path / "marker"
    former = signal.signal(signal.SIGALRM, alarm)
    start = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 5)
        with pytest.raises(TooLong):
            run_module("tests.support.child", ["train", str(marker)], tmp_path, what="training")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert time.monotonic() - start < 30
    assert marker.with_suffix(".checkpoint").read_text() == "SIGTERM"
    assert not psutil.pid_exists(int(marker.read_text()))
