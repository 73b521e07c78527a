"""Environments of the projects that we are measured against, each its own virtual environment in a work directory.

    python -m benchmarks.peers --work /somewhere/with/space

makes them all. One that is there is used again, unless what it is made of has changed here.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import Field

from benchmarks.tables import run_benchmark
from hmar.errors import HmarError
from hmar.settings import LayeredSettings

TORCH = "torch==2.13.0"
PEERS: dict[str, tuple[str, ...]] = {
    "rectools": ("rectools[torch]==0.19.*", "numpy<2", "pyarrow==25.*"),
    "replay": ("replay-rec==0.22.*", "lightning"),
    "recbole": ("recbole==1.2.1", "numpy<2", "pandas<3", "setuptools<81"),
}
"""What pip installs beside torch. (RecBole imports pkg_resources, which newer setuptools have not.)"""
NAMES = {"rectools": "RecTools 0.19", "replay": "RePlay 0.22", "recbole": "RecBole 1.2.1"}


class PeersSettings(LayeredSettings):
    """Make the environments of the peers."""

    work: Path = Path(tempfile.gettempdir()) / "hmar-benchmark"
    """Directory for the environments."""
    torch: str = TORCH
    """What pip is to install first; by plain pip, so that the machine's pip configuration decides between builds."""
    peers: list[str] = Field(default_factory=lambda: list(PEERS))
    """Which."""


def environment(work: Path, peer: str, torch: str = TORCH) -> Path:
    """The Python of a peer's own environment under ``work``, made unless it is there.

    Raises:
        HmarError: no such peer, or pip could not install it.
    """
    if peer not in PEERS:
        raise HmarError(f"no environment for {peer!r}; there are {', '.join(PEERS)}")
    home = work.absolute() / peer
    python, done = home / "bin" / "python", home / "installed"
    recipe = "\n".join((torch, *PEERS[peer])) + "\n"
    if done.is_file() and done.read_text(encoding="utf-8") == recipe:
        return python
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [*pip, torch],
        [*pip, torch, *PEERS[peer]],
    ):
        try:
            subprocess.run(command, check=True)
        except subprocess.CalledProcessError as error:
            raise HmarError(f"{NAMES[peer]}: {' '.join(command)} ended with {error.returncode}") from None
    done.write_text(recipe, encoding="utf-8")
    return python


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    return run_benchmark(
        lambda: PeersSettings.resolve(arguments=arguments, program="python -m benchmarks.peers"), _work
    )


def _work(s: PeersSettings) -> None:
    for peer in s.peers:
        print(environment(s.work, peer, s.torch))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
