"""``python -m pipeline.guarded PID_FILE MODULE ARGUMENTS...``: becomes MODULE, tied to the life of its parent.

Not for people: :mod:`pipeline.process` starts every child through it. What has to happen between fork and exec
happens here, in a fresh interpreter, because Python code after a fork can deadlock where the parent has threads (an
Airflow task has). The process id stays the same through exec, so what is written down is the child's own.
"""

import ctypes
import json
import os
import signal
import socket
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Ask the kernel for a SIGTERM when the parent dies, write the pid file, then exec the module.

    A worker that is killed by SIGKILL (out of memory, `kill -9`, an orchestrator out of patience) cannot stop its
    child; without this the child would go on training, holding the GPU and the directory that the retry needs. The
    signal is SIGTERM and not SIGKILL so that a training still writes its checkpoint.
    """
    pid_file, parent, module, *rest = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):  # it died before the line above could take effect
        sys.exit(75)
    import psutil

    record = {"pid": os.getpid(), "started": psutil.Process().create_time(), "host": socket.gethostname()}
    path = Path(pid_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    temporary.write_text(json.dumps(record), encoding="utf-8")
    temporary.replace(path)
    os.execv(sys.executable, [sys.executable, "-m", module, *rest])


if __name__ == "__main__":
    main(sys.argv[1:])
