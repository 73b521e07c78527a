"""A child process that does what a test tells it: ``python -m tests.support.child COMMAND ...``."""

import os
import signal
import sys
import time
from pathlib import Path


def main(arguments: list[str]) -> int:
    command, *rest = arguments
    if command == "say":
        print("first line", flush=True)
        print("warning: to stderr", file=sys.stderr, flush=True)
        print("last line")
        return 0
    if command == "fail":
        print("error: data.csv: line 3: broken", file=sys.stderr)
        return int(rest[0])
    if command == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if command == "environment":
        print("\n".join(f"{key}={value}" for key, value in os.environ.items()))
        return 0
    if command == "train":
        return _train(Path(rest[0]), stubborn="stubborn" in rest)
    return 2


def _train(marker: Path, stubborn: bool) -> int:
    """Runs until SIGTERM or SIGINT, then leaves a checkpoint and ends with 75."""
    stopped: list[int] = []

    def stop(number: int, frame: object) -> None:
        stopped.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN if stubborn else stop)
    marker.write_text(str(os.getpid()), encoding="utf-8")
    print("ready", flush=True)
    while not stopped:
        time.sleep(0.02)
    time.sleep(0.3)
    marker.with_suffix(".checkpoint").write_text(signal.Signals(stopped[0]).name, encoding="utf-8")
    return 75


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
