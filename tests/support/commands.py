"""Commands that end badly."""

import errno
import os


def interrupted(arguments: list[str]) -> int:
    raise KeyboardInterrupt


def disk_full(arguments: list[str]) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x")
