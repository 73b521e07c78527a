"""Trainings and evaluations as real processes, without the seconds of imports at the beginning of each.

``Popen`` is :class:`subprocess.Popen`, but for ``python -m`` of one of :data:`MODULES`: such a process is forked from
one that has imported everything before (``python -m tests.support.warm``, one for each process that tests run in), and
runs the module as it would have. Process id, parent, session, signals, streams, environment, working directory and exit
code are what they would be. What other processes start is cold, as it is for a user: torchrun's processes, those of the
commands in tests/test_readme.py, those of a real Airflow.
"""

import ctypes
import io
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from hmar.threads import SLEEPING

MODULES = ("hmar.train", "hmar.evaluate", "hmar.evaluate.cost")
"""What may start warm, by itself or under ``pipeline.guarded``."""

IMPORTED = (
    "git",
    "hmar.evaluate.run",
    "hmar.evaluate.screen",
    "hmar.serving.mlflow_model",
    "hmar.serving.service",
    "hmar.train.cost",
    "hmar.train.loop",
    "hmar.train.session",
    "lightning_fabric",
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "pyarrow.dataset",
    "rich.progress",
)
"""What these import and what takes long to import."""

READ_ON_IMPORT = ("CUDA", "GOMP", "KMP", "MKL", "MPL", "OMP", "TORCH")
"""Beginnings of variables that libraries read once: a process that has other ones starts cold."""

CHECKOUT = Path(__file__).resolve().parent.parent.parent

COLD = subprocess.Popen

_SUBREAPER = 36
"""prctl: orphans below this process become its children."""


def read_on_import(environment: Mapping[str, str]) -> dict[str, str]:
    """What libraries have of it from the beginning to the end of a process."""
    return {name: value for name, value in {**SLEEPING, **environment}.items() if name.startswith(READ_ON_IMPORT)}


class _Server:
    """The process that has imported everything; it starts when it is first needed and ends with this one."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.variables = read_on_import(os.environ)
        self.lock = threading.Lock()

    def start(self, order: dict[str, Any], streams: Sequence[int]) -> int:
        """The id of a new process, a child of this one."""
        prctl = ctypes.CDLL(None).prctl
        with self.lock:
            asking = self.socket or self._begin()
            prctl(_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(asking, [json.dumps(order).encode()], streams)
                child = asking.recv(100)
            finally:
                prctl(_SUBREAPER, 0, 0, 0, 0)
        assert child, "tests.support.warm has died; its messages are above"
        return int(child)

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            subprocess.Popen(
                [sys.executable, "-m", "tests.support.warm", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=CHECKOUT,
                env={**os.environ, **self.variables},
                start_new_session=True,
            )
        self.socket = ours
        return ours


class Popen(subprocess.Popen[Any]):
    """:class:`subprocess.Popen` whose trainings and evaluations start warm."""

    server = _Server()

    def _execute_child(self, args: Any, *others: Any) -> None:
        executable, preexec, _, pass_fds, cwd, env, _, _, shell, *rest = others
        read, _, _, written, _, told, *_, session, _ = rest
        env = dict(os.environ if env is None else env)
        usual = executable is None and preexec is None and not shell and not pass_fds
        if not (usual and is_warm(args) and read_on_import(env) == self.server.variables):
            super()._execute_child(args, *others)  # type: ignore[misc]
            return
        order = {"words": args[2:], "env": env, "cwd": str(cwd or Path.cwd()), "session": session}
        ends = [standard if own == -1 else own for standard, own in enumerate((read, written, told))]
        self.pid = self.server.start(order, ends)
        self._child_created = True
        self._close_pipe_fds(*rest[:6])  # type: ignore[attr-defined]


def is_warm(words: Any) -> bool:
    """Whether a command line is one of those that start warm."""
    if not isinstance(words, list) or words[:2] != [sys.executable, "-m"]:
        return False
    return words[2] in MODULES or (words[2] == "pipeline.guarded" and words[5] in MODULES)


def main(control: int) -> None:
    """Import everything, then fork what is asked for until nobody can ask any more."""
    for module in IMPORTED:
        import_module(module)
    asked = socket.socket(fileno=control)
    while True:
        text, streams, _, _ = socket.recv_fds(asked, 1 << 20, 3)
        if not text:
            return
        said, say = os.pipe()
        starter = os.fork()
        if starter == 0:
            starter = os.getpid()
            if os.fork():
                os._exit(0)
            asked.close()
            order = json.loads(text)
            if order["session"]:
                os.setsid()
            os.write(say, str(os.getpid()).encode())
            os.close(said)
            os.close(say)
            become(order, streams, starter)
            return
        # An orphan now, the new process becomes a child of whoever asked for it.
        os.waitpid(starter, 0)
        asked.send(os.read(said, 100))
        for descriptor in (*streams, said, say):
            os.close(descriptor)


def become(order: dict[str, Any], streams: Sequence[int], starter: int) -> None:
    """In the new process, once its parent is the right one: what ``python -m`` does after its start."""
    while os.getppid() == starter:
        time.sleep(0.0005)
    for standard, own in enumerate(streams):
        os.dup2(own, standard)
        os.close(own)
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=os.isatty(1), write_through="PYTHONUNBUFFERED" in order["env"])
    os.chdir(order["cwd"])
    sys.path[0] = order["cwd"]
    os.environ.clear()
    os.environ.update(order["env"])
    # pipeline.guarded ends in one, of another module in the same process.
    os.execv = lambda program, words: run(words[2:])  # type: ignore[assignment]
    run(order["words"])


def run(words: list[str]) -> None:
    """``python -m words``."""
    module, *sys.argv[1:] = words
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
