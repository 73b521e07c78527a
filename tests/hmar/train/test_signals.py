import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from hmar.errors import Interrupted
from hmar.train.signals import StopSignal


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


def test_inside_it_is_noted_and_the_second_ends_at_once(stop: StopSignal) -> None:
    with stop.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)


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
