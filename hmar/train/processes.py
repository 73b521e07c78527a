"""Several processes without torchrun: a training that is told to have N starts N - 1 copies of itself.

This process is the first rank. The others write nothing, so they can be ended at any moment; they get signals through
the first, which tells them at the next step. (Under torchrun it is torchrun that starts and ends all of them.)
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hmar.errors import Interrupted, from_exit_code
from hmar.train.ranks import Ranks

_GRACE_SECONDS = 20
"""How long the others may take to end by themselves."""


@contextmanager
def together(processes: int, arguments: Sequence[str]) -> Iterator[Ranks]:
    """The ranks of this training while the block runs: torchrun's, or this process and as many copies as are missing.

    Args:
        arguments: of the command line, the same for all.

    Raises:
        HmarError: one of the others ended, of the kind that its exit code stands for.
    """
    ranks = Ranks.of_environment()
    if processes == 1 or not ranks.alone:
        yield ranks
        return
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
    }
    os.environ.update({**shared, "RANK": "0", "LOCAL_RANK": "0"})
    others = [
        subprocess.Popen(
            [sys.executable, "-m", "hmar.train", *arguments],
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for rank in range(1, processes)
    ]
    try:
        yield Ranks.of_environment()
    except Interrupted as error:
        for rank, code in enumerate(_ended(others), start=1):
            if code not in (0, Interrupted.exit_code):
                raise from_exit_code(code, f"process {rank} of this training ended with exit code {code}") from error
        raise
    finally:
        for other in others:
            other.kill()
            other.wait()


def _ended(others: Sequence["subprocess.Popen[bytes]"]) -> list[int]:
    """Exit codes of those that ended in time; 0 for the rest."""
    codes = []
    for other in others:
        try:
            codes.append(other.wait(_GRACE_SECONDS))
        except subprocess.TimeoutExpired:
            codes.append(0)
    return codes


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
