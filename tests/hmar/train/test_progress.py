import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from hmar.train.log import log_to
from hmar.train.progress import Reporter, clock


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=terminal, width=160, soft_wrap=True), stream


def test_without_a_terminal_there_is_one_line_per_interval() -> None:
    shown, stream = console(terminal=False)
    with Reporter(log_seconds=1000, max_epochs=5, console=shown) as reporter:
        assert not reporter.due()
        reporter.step(1, 3, 10, 0.5, 1234.0, 61.0)
    assert stream.getvalue() == ""
    with Reporter(log_seconds=1e-9, max_epochs=5, console=shown) as reporter:
        assert reporter.due()
        reporter.step(1, 3, 10, 0.51234, 1234.4, 61.0)
        reporter.say("epoch 1/5 loss 0.5 [done]")
    assert stream.getvalue().splitlines() == [
        "epoch 1/5 step 3/10 loss 0.5123 1,234 tokens/s eta 0:01:01 at most",
        "epoch 1/5 loss 0.5 [done]",
    ]


def test_a_terminal_gets_a_bar_with_loss_speed_and_eta(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    shown, stream = console(terminal=True)
    with Reporter(log_seconds=1000, max_epochs=5, console=shown) as reporter:
        assert reporter.due()
        reporter.step(2, 3, 10, 0.5, 98765.0, 3700.0)
    text = stream.getvalue()
    for part in ("epoch 2/5", "3/10 steps", "loss 0.5000", "98,765 tokens/s", "eta 1:01:40"):
        assert part in text


def test_the_log_file_has_the_lines_of_a_terminal_session_too(tmp_path: Path) -> None:
    shown, _ = console(terminal=True)
    with log_to(tmp_path / "train.log"), Reporter(1e-9, 5, shown) as reporter:
        reporter.step(2, 3, 10, 0.5, 98765.0, 3700.0)
        reporter.warn("look here")
    lines = (tmp_path / "train.log").read_text(encoding="utf-8").splitlines()
    assert lines[0].endswith("INFO hmar.train: epoch 2/5 step 3/10 loss 0.5000 98,765 tokens/s eta 1:01:40 at most")
    assert lines[1].endswith("WARNING hmar.train: look here")


def test_the_log_is_closed_again(tmp_path: Path) -> None:
    before = list(logging.getLogger().handlers)
    with pytest.raises(KeyError), log_to(tmp_path / "train.log"):
        raise KeyError
    assert logging.getLogger().handlers == before


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (90061, "25:01:01")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
