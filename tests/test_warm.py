"""A process that starts warm is what it would have been: same words, same code, child of the one that started it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support import warm

pytestmark = pytest.mark.slow


def said(start: type, words: list[str], cwd: Path) -> tuple[int, str, str]:
    command = [sys.executable, "-m", *words]
    with start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("line", ["hmar.train --model sasrex", "hmar.evaluate --training no"])
def test_it_says_what_it_would_have_said(line: str, tmp_path: Path) -> None:
    words = line.split()
    assert warm.is_warm([sys.executable, "-m", *words])
    assert said(warm.Popen, words, tmp_path) == said(warm.COLD, words, tmp_path)


def test_it_is_a_child_in_a_session_of_its_own_and_dies_of_signals(tmp_path: Path) -> None:
    words = ["pipeline.guarded", str(tmp_path / "pid.json"), str(os.getpid()), "hmar.train", "--help"]
    process = warm.Popen([sys.executable, "-m", *words], stdout=subprocess.PIPE, start_new_session=True)
    process.send_signal(signal.SIGSTOP)
    try:
        assert process.poll() is None
        assert psutil.Process(process.pid).ppid() == os.getpid()
        assert os.getsid(process.pid) == process.pid
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()
