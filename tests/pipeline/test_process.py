"""Child processes: their output, their end, and the end of their parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hmar.errors import DataError, Interrupted, ModelError, ServiceError, SettingsError, StorageError
from pipeline import process
from pipeline.process import PID_FILE, child_environment, run_module, stop_former

CHILD = "tests.support.child"
ROOT = Path(__file__).resolve().parents[2]


def test_lines_of_both_streams_are_relayed_in_order(tmp_path: Path) -> None:
    lines: list[str] = []
    run_module(CHILD, ["say"], tmp_path, what="child", relay=lines.append)
    assert lines == ["first line", "warning: to stderr", "last line"]
    assert not (tmp_path / PID_FILE).exists()


def test_lines_go_to_standard_output_where_airflow_collects_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_module(CHILD, ["say"], tmp_path, what="child")
    assert capsys.readouterr().out == "first line\nwarning: to stderr\nlast line\n"


@pytest.mark.parametrize(
    ("code", "kind"),
    [(78, SettingsError), (65, DataError), (74, StorageError), (69, ServiceError), (75, Interrupted), (70, ModelError)],
)
def test_exit_code_becomes_the_error_it_stands_for(tmp_path: Path, code: int, kind: type[Exception]) -> None:
    with pytest.raises(kind) as raised:
        run_module(CHILD, ["fail", str(code)], tmp_path, what="training of hmar", relay=lambda line: None)
    assert type(raised.value) is kind
    assert str(raised.value) == "training of hmar: data.csv: line 3: broken"


def test_killed_child_is_retryable_and_says_how_it_died(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match=r"training of hmar: was killed by SIGKILL \(out of memory\?\)"):
        run_module(CHILD, ["die"], tmp_path, what="training of hmar")


def test_module_that_does_not_exist(tmp_path: Path) -> None:
    lines: list[str] = []
    with pytest.raises(ModelError, match="exit code 1"):
        run_module("tests.support.no_such_module", [], tmp_path, what="child", relay=lines.append)
    assert any("No module named" in line for line in lines)


def test_child_gets_no_setting_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HMAR_TRAIN__LR", "1")
    monkeypatch.setenv("UNRELATED", "kept")
    lines: list[str] = []
    run_module(CHILD, ["environment"], tmp_path, what="child", relay=lines.append)
    assert "UNRELATED=kept" in lines
    assert not [line for line in lines if line.startswith("HMAR_")]


def test_child_finds_the_code_from_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    lines: list[str] = []
    run_module(CHILD, ["say"], tmp_path, what="child", relay=lines.append)
    assert lines[0] == "first line"


def test_child_environment_puts_the_code_first_once() -> None:
    root = str(ROOT)
    assert child_environment({"PYTHONPATH": f"/other{os.pathsep}{root}"})["PYTHONPATH"] == f"{root}{os.pathsep}/other"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_is_passed_on_and_the_checkpoint_waited_for(tmp_path: Path, number: signal.Signals) -> None:
    marker = tmp_path / "marker"
    handler = signal.getsignal(number)
    _when(marker.exists, lambda: os.kill(os.getpid(), number))
    with pytest.raises(Interrupted, match=f"training of hmar: stopped by {number.name}"):
        run_module(CHILD, ["train", str(marker)], tmp_path, what="training of hmar", relay=lambda line: None)
    assert marker.with_suffix(".checkpoint").read_text(encoding="utf-8") == number.name
    assert signal.getsignal(number) is handler


def test_second_interrupt_ends_a_stubborn_child(tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    _when(marker.exists, twice)
    with pytest.raises(Interrupted, match="SIGINT"):
        run_module(CHILD, ["train", str(marker), "stubborn"], tmp_path, what="child", relay=lambda line: None)
    assert not psutil.pid_exists(int(marker.read_text(encoding="utf-8")))


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_child_of_a_killed_parent_writes_its_checkpoint_and_ends(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    parent = _parent(tmp_path, marker)
    _wait(marker.exists)
    child = psutil.Process(int(marker.read_text(encoding="utf-8")))
    parent.kill()
    parent.wait()
    assert psutil.wait_procs([child], timeout=10)[1] == []
    assert marker.with_suffix(".checkpoint").read_text(encoding="utf-8") == "SIGTERM"


def test_child_left_behind_is_ended_before_a_new_one_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "_FORMER_SECONDS", 1)
    marker = tmp_path / "marker"
    parent = _parent(tmp_path, marker, "stubborn")
    _wait(marker.exists)
    child = psutil.Process(int(marker.read_text(encoding="utf-8")))
    parent.kill()
    parent.wait()
    assert child.is_running(), "a child that ignores SIGTERM outlives its parent"
    run_module(CHILD, ["say"], tmp_path, what="training of hmar")
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert f"stopping process {child.pid}" in capsys.readouterr().out


def test_recycled_process_id_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        record = f'{{"pid": {bystander.pid}, "started": 1.0, "host": "{os.uname().nodename}"}}'
        (tmp_path / PID_FILE).write_text(record, encoding="utf-8")
        stop_former(tmp_path / PID_FILE, "child")
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}', "[]"])
def test_damaged_pid_file_stops_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / PID_FILE).write_text(content, encoding="utf-8")
    stop_former(tmp_path / PID_FILE, "child")


def _parent(directory: Path, marker: Path, *options: str) -> subprocess.Popen[bytes]:
    code = "import sys; from pathlib import Path; from pipeline.process import run_module; " + (
        "run_module(sys.argv[1], sys.argv[3:], Path(sys.argv[2]), what='training')"
    )
    words = [sys.executable, "-c", code, CHILD, str(directory), "train", str(marker), *options]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)


def _wait(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def _when(condition: Callable[[], bool], act: Callable[[], None]) -> None:
    def watch() -> None:
        _wait(condition)
        time.sleep(0.1)
        act()

    threading.Thread(target=watch, daemon=True).start()


def test_a_caller_who_has_enough_gets_a_checkpoint_and_no_error(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    ended = run_module(
        CHILD, ["train", str(marker)], tmp_path, what="trial 1", relay=lambda line: None, enough=marker.exists
    )
    assert not ended
    assert marker.with_suffix(".checkpoint").read_text(encoding="utf-8") == "SIGTERM"
    assert not (tmp_path / PID_FILE).exists()
    assert run_module(CHILD, ["say"], tmp_path, what="trial 1", relay=lambda line: None, enough=lambda: False)
