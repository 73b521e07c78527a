"""Commands that end badly, and one that has more to tell than its reader wants."""

import errno
import os
import time
from pathlib import Path

from rich.console import Console


def interrupted(arguments: list[str]) -> int:
    raise KeyboardInterrupt


def disk_full(arguments: list[str]) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x")


def talkative(arguments: list[str]) -> int:
    """Prints, waits, prints in rich's way, and leaves a file when it is through with its work."""
    for n in range(20):
        print("printed", n, flush=True)
        Console().print("by rich", n)
        time.sleep(0.02)
    Path(arguments[0]).write_text("through", encoding="utf-8")
    return 0
