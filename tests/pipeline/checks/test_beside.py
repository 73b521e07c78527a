"""The judging in a process of its own: the same verdicts and pages as here, and nothing stays behind."""

import os
import time
from pathlib import Path

import pytest

from hmar.errors import HmarError
from pipeline.checks.beside import Beside
from pipeline.checks.check import Check

SUITE = [Check("events", 1, None, "Something came."), Check("share", 0, 0.5, "Not too much of it.")]
MEASURES = {"events": 3, "share": 0.75}


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
def test_child_judges_as_this_process_would(tmp_path: Path) -> None:
    with Beside() as beside:
        pid = beside.pid
        verdicts, page = beside.judge(tmp_path, "shop", "shop delivery", SUITE, MEASURES)
    assert [(one.check, one.observed, one.success) for one in verdicts] == [
        (SUITE[0], 3, True),
        (SUITE[1], 0.75, False),
    ]
    assert page.is_file()
    assert page.is_relative_to(tmp_path)
    assert gone(pid)


def test_unasked_child_is_gone_with_the_block() -> None:
    with Beside() as beside:
        pid = beside.pid
    assert gone(pid)


@pytest.mark.slow
def test_disk_trouble_of_the_child_is_this_process_trouble(tmp_path: Path) -> None:
    (tmp_path / "project").write_text("no directory")
    with Beside() as beside, pytest.raises(FileExistsError):
        beside.judge(tmp_path / "project", "shop", "shop delivery", SUITE, MEASURES)


def test_child_that_died_is_told(tmp_path: Path) -> None:
    with Beside() as beside:
        os.kill(beside.pid, 9)
        time.sleep(0.1)
        with pytest.raises(HmarError, match="the judging process ended with -9"):
            beside.judge(tmp_path, "shop", "shop delivery", SUITE, MEASURES)
