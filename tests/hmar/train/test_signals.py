import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from hmar.errors import Interrupted
from hmar.train import signals
from hmar.train.signals import StopSignal

CHILD = """
import ctypes, os, signal, sys, time
from hmar.errors import Interrupted
from hmar.train.signals import StopSignal

stop, heard = StopSignal(), []
signal.signal(signal.SIGTERM, lambda *given: (heard.append(given), stop._handle(*given)))
ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
ended = "once"
try:
    with stop.deferred():
        print("ready", flush=True)
        while not heard:
            time.sleep(0.001)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            time.sleep(0.001)
except Interrupted:
    ended = "again"
os.write(int(sys.argv[1]), f"{len(heard)} {ended}".encode())
"""

PARENT = """
import subprocess, sys, threading, time

def run():
    subprocess.run([sys.executable, "-c", *sys.argv[1:]], pass_fds=(int(sys.argv[2]),))

for number in range(20):
    threading.Thread(target=run if number == 10 else lambda: time.sleep(60), daemon=True).start()
time.sleep(60)
"""


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    one = StopSignal()
    one.install()
    yield one
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_outside_a_deferred_block_it_ends_at_once(stop: StopSignal, number: signal.Signals) -> None:
    with pytest.raises(Interrupted, match=f"stopped by {number.name}"):
        os.kill(os.getpid(), number)
    assert stop.requested


def test_inside_it_is_noted_and_the_second_ends_at_once(stop: StopSignal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "ECHO_SECONDS", 0.2)
    with stop.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        time.sleep(0.25)
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)


def test_echoes_of_the_first_end_nothing(stop: StopSignal) -> None:
    with stop.deferred():
        for _ in range(5):
            os.kill(os.getpid(), signal.SIGTERM)
        reached = True
    assert reached
    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        stop.check()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_a_killed_parent_with_threads_is_one_signal() -> None:
    """The kernel tells the child of each thread that dies; each of them raised, and what it cut off was the ending."""
    for _ in range(20):  # on a busy machine all threads may be dead before the child hears of the first
        heard, ended = killed_parent()
        assert ended == "once"
        if heard > 1:
            return
    raise AssertionError("nothing was echoed, so nothing was tested")


def killed_parent() -> tuple[int, str]:
    """How many signals a child got whose parent was killed, and how often it ended of them."""
    pipe, end = os.pipe()
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(end)], stdout=subprocess.PIPE, pass_fds=(end,))
    os.close(end)
    assert parent.stdout is not None
    with parent, os.fdopen(pipe) as told:
        assert parent.stdout.readline() == b"ready\n"
        parent.kill()
        heard, ended = told.read().split()
    return int(heard), ended


def test_an_immediate_part_of_a_deferred_block_is_cut_off(stop: StopSignal) -> None:
    def part() -> None:
        with stop.immediate():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("after")

    reached: list[str] = []
    with stop.deferred(), pytest.raises(Interrupted):
        part()
    assert reached == []


def test_a_signal_whose_exception_was_swallowed_is_raised_by_the_next_check(stop: StopSignal) -> None:
    with contextlib.suppress(Exception):
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        stop.check()


def test_no_signal_no_error(stop: StopSignal) -> None:
    stop.check()
    with stop.deferred(), stop.immediate():
        pass
    assert not stop.requested
