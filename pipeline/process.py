"""Stages that run as a process of their own: started, listened to, stopped with their parent, judged by exit code."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

import psutil

from hmar.errors import Interrupted, from_exit_code
from hmar.threads import SLEEPING
from pipeline.signals import handled_by

PID_FILE = "process.json"

_FORMER_SECONDS = 60
"""How long a former child may take for its last checkpoint before it is killed."""

_LAST_LINES_SECONDS = 10

_LOG_COLUMNS = "140"

_PACKAGES = Path(__file__).resolve().parent.parent
"""What has to be on the child's path: the checkout, or site-packages."""


_LOOK_SECONDS = 0.2
"""How often a caller who wants to end a child early is asked."""


def run_module(
    module: str,
    arguments: list[str],
    directory: Path,
    *,
    what: str,
    relay: Callable[[str], None] | None = None,
    enough: Callable[[], bool] | None = None,
) -> bool:
    """Run ``python -m module arguments`` and wait for it; whether it ended by itself.

    The child's lines are relayed as they come; on a terminal it writes there itself, so that it can draw a progress
    bar, and only its errors are read. SIGTERM and SIGINT are passed on and the child is waited for, so that
    a training ends in a checkpoint. A child that an earlier, killed call left behind in ``directory`` is stopped
    first: two of them must not write there.

    Args:
        directory: the child's own; its pid file is kept there.
        what: names the child in messages, for example "training of hmar".
        relay: gets every line of the child's output; printed if not given.
        enough: asked again and again; when it says yes, the child is sent SIGTERM and waited for.

    Raises:
        HmarError: of the kind that the exit code stands for, with the child's ``error:`` line as its message.
        Interrupted: a signal stopped this process or the child; the same call goes on from there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    pid_file = directory / PID_FILE
    stop_former(pid_file, what)
    command = [sys.executable, "-m", "pipeline.guarded", str(pid_file), str(os.getpid()), module, *arguments]
    listener = _Listener(relay or _print)
    terminal = relay is None and sys.stdout.isatty()
    # A session of its own: Ctrl-C in a terminal signals the whole foreground group, and a child that got it twice
    # (from the terminal and passed on) would take the second for impatience.
    with subprocess.Popen(
        command,
        stdout=None if terminal else subprocess.PIPE,
        stderr=subprocess.PIPE if terminal else subprocess.STDOUT,
        text=True,
        errors="replace",
        env=child_environment(os.environ),
        start_new_session=True,
    ) as child:
        stream = child.stderr if terminal else child.stdout
        assert stream is not None
        reader = threading.Thread(target=listener.listen, args=(stream,), daemon=True)
        with _passed_on(child) as received:
            reader.start()
            code, told = _wait(child, enough)
            reader.join(_LAST_LINES_SECONDS)
    pid_file.unlink(missing_ok=True)
    if received:
        name = signal.Signals(received[0]).name
        raise Interrupted(f"{what}: stopped by {name}; the same call goes on from its last checkpoint")
    if code != 0 and not told:
        raise from_exit_code(code, f"{what}: {listener.error or _ended(code)}")
    return not told


def _wait(child: subprocess.Popen[str], enough: Callable[[], bool] | None) -> tuple[int, bool]:
    """The child's exit code, and whether it was told to end because ``enough`` said so.

    An exception from outside (Airflow's execution timeout is one) ends the child as well.
    """
    try:
        if enough is None:
            return child.wait(), False
        while True:
            try:
                return child.wait(_LOOK_SECONDS), False
            except subprocess.TimeoutExpired:
                if enough():
                    return _told_to_end(child), True
    except BaseException:
        _told_to_end(child)
        raise


def _told_to_end(child: subprocess.Popen[str]) -> int:
    child.terminate()
    try:
        return child.wait(_FORMER_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The child's variables: no ``HMAR_*`` (its settings file holds them resolved), this code on its path."""
    kept = {key: value for key, value in environment.items() if not key.startswith("HMAR_")}
    path = [part for part in kept.get("PYTHONPATH", "").split(os.pathsep) if part and part != str(_PACKAGES)]
    ours = {"PYTHONPATH": os.pathsep.join([str(_PACKAGES), *path]), "PYTHONUNBUFFERED": "1"}
    # Tables that a log receives instead of a terminal need not fold at 80 columns.
    return {"COLUMNS": _LOG_COLUMNS, **SLEEPING, **kept, **ours}


def stop_former(pid_file: Path, what: str) -> None:
    """End the process that ``pid_file`` names if it is still the one that wrote it.

    Raises:
        Interrupted: it could not be ended.
    """
    former = _former(pid_file)
    if former is None:
        return
    _print(f"{what}: stopping process {former.pid}, which an earlier run left behind")
    try:
        former.terminate()
        if _ended_within(former, _FORMER_SECONDS):
            return
        former.kill()
        if _ended_within(former, _FORMER_SECONDS):
            return
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied:
        pass
    raise Interrupted(
        f"{what}: process {former.pid} of an earlier run still holds {pid_file.parent} and cannot be ended; "
        "end it and run again"
    )


def _ended_within(process: psutil.Process, seconds: float) -> bool:
    """Whether the process ends in time. A zombie has ended: in a container often nobody collects orphans."""
    deadline = time.monotonic() + seconds
    while _alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _former(pid_file: Path) -> psutil.Process | None:
    try:
        record = json.loads(pid_file.read_text(encoding="utf-8"))
        # A process id says nothing on another machine (a shared home), and by itself nothing on this one: ids recur.
        if record["host"] != socket.gethostname():
            return None
        process = psutil.Process(int(record["pid"]))
        alive = process.create_time() == record["started"] and _alive(process)
    except (OSError, ValueError, KeyError, TypeError, psutil.NoSuchProcess):
        return None
    return process if alive else None


class _Listener:
    """Relays lines and remembers the last error among them."""

    def __init__(self, relay: Callable[[str], None]) -> None:
        self.relay = relay
        self.error = ""

    def listen(self, stream: IO[str]) -> None:
        for raw in stream:
            line = raw.rstrip("\n")
            if line.startswith("error: "):
                self.error = line.removeprefix("error: ")
            else:
                self.relay(line)


@contextmanager
def _passed_on(child: subprocess.Popen[str]) -> Iterator[list[int]]:
    """Pass SIGTERM and SIGINT on to the child while the block runs; the list says what came."""
    received: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        impatient = received.count(signal.SIGINT) > 1
        child.send_signal(signal.SIGKILL if impatient else number)

    # In another thread than the main one nothing is passed on; the kernel still ties the child to this process.
    with handled_by(pass_on):
        yield received


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}; its last lines above say why"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}; the same call goes on from its last checkpoint"


def _print(line: str) -> None:
    print(line, flush=True)
