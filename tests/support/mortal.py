"""Trainings that die: ``python -m tests.support.mortal``. Every line of its input is a training to start, as JSON.

Each training is a process of its own, forked from this one, which has imported everything before: a start takes
milliseconds. It is killed by a real SIGKILL: at the n-th call of a function in certain files, which is the same instant
on a slow machine as on a fast one, or from outside, when the n-th temporary file of a checkpoint is seen on the disk.

    {"settings": FILE}                               lives to its end
    {"settings": FILE, "place": NAME, "calls": n}    killed at the n-th call of one of :data:`PLACES`
    {"settings": FILE, "folder": DIR, "sights": n}   killed when the n-th file is seen

Answers with a line of JSON: ``code``, negative for a signal, and ``calls`` in each place if it lived.
"""

import json
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import hmar
from hmar.train.__main__ import main as train

MODULES = (
    "hmar.serving.mlflow_model",
    "hmar.train.loop",
    "hmar.train.session",
    "lightning_fabric",
    "matplotlib.pyplot",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
)
"""What a training imports and what takes long to import."""

HMAR = str(Path(hmar.__file__).parent) + os.sep

PLACES = {
    "step": ("layers/", "losses/", "train/gradients.py"),
    "checkpoint": ("train/checkpoint.py", "atomic.py"),
    "evaluation": ("evaluate/",),
}
"""Files by what is being done while they are called."""


class Deadline:
    """Counts calls in each place; the last one is never made."""

    def __init__(self, place: str | None, calls: int) -> None:
        self.place, self.calls = place, calls
        self.counts = dict.fromkeys(PLACES, 0)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_filename
        if event != "call" or not name.startswith(HMAR):
            return
        for place, files in PLACES.items():
            if name.startswith(files, len(HMAR)):
                self.counts[place] += 1
                if place == self.place and self.counts[place] == self.calls:
                    os.kill(os.getpid(), signal.SIGKILL)


def live(order: dict[str, Any], answer: int) -> None:
    """In the child: train, and say how many calls it was."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    deadline = Deadline(order.get("place"), order.get("calls", 0))
    sys.setprofile(deadline)
    code = train(["--settings", order["settings"]])
    sys.setprofile(None)
    os.write(answer, json.dumps(deadline.counts).encode())
    os._exit(code)


def hunt(child: int, folder: Path, sights: int) -> int:
    """Kill the child when so many temporary files have been seen; its wait status."""
    seen: set[str] = set()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        if folder.is_dir():
            seen.update(path.name for path in folder.glob(".tmp-*"))
        if len(seen) >= sights:
            os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
        time.sleep(0.0002)


def main() -> None:
    for module in MODULES:
        import_module(module)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        said, answer = os.pipe()
        child = os.fork()
        if child == 0:
            live(order, answer)
        os.close(answer)
        if "folder" in order:
            status = hunt(child, Path(order["folder"]), order["sights"])
        else:
            _, status = os.waitpid(child, 0)
        calls = json.loads(os.read(said, 1000) or "null")
        os.close(said)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status), "calls": calls}), flush=True)


if __name__ == "__main__":
    main()
