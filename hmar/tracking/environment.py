"""What a run was made by: the tags that let someone make it again."""

import platform
import subprocess
from pathlib import Path

from hmar import __version__

ENVIRONMENT_TAGS = (
    "hmar.version",
    "hmar.device",
    "hmar.threads",
    "hmar.processes",
    "hmar.torch",
    "hmar.python",
    "mlflow.source.git.commit",
)
"""The tags of a training's run that say what it ran in; ``hmar.processes`` is the training's own to set."""


def environment_tags(device: str, threads: int) -> dict[str, str]:
    """Tags: versions, device, threads, and the commit if the code runs from a checkout."""
    import torch

    commit = _commit()
    return {
        "hmar.version": __version__,
        "hmar.device": device,
        "hmar.threads": str(threads),
        "hmar.torch": torch.__version__,
        "hmar.python": platform.python_version(),
        **({"mlflow.source.git.commit": commit} if commit else {}),
    }


def processor() -> str:
    """The processor's name, as far as the system says it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str:
    """The checkout's commit, marked if files differ from it; empty where there is no checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
