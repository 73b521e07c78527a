"""``hmar doctor``: is this machine ready?"""

import os
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import Field

from hmar.errors import HmarError
from hmar.settings import LayeredSettings
from pipeline.commands.help import show

PACKAGES = ("apache-airflow", "duckdb", "great-expectations", "lightning-fabric", "mlflow", "pyarrow", "torch")
ENOUGH_GB = 5


class DoctorSettings(LayeredSettings):
    """Check the interpreter, the packages, the data directory, MLflow and the device, and change nothing else."""

    home: Path = Field(default_factory=lambda: Path(os.environ.get("HMAR_HOME") or "var"))
    """Data directory; HMAR_HOME or var if not given."""
    tracking_uri: str = Field(default_factory=lambda: os.environ.get("HMAR_TRACKING_URI", ""))
    """MLflow address; HMAR_TRACKING_URI or an SQLite file in home if not given."""


def main(arguments: list[str]) -> int:
    """One line per check; exit code 1 if one failed."""
    if any(word in ("-h", "--help") for word in arguments):
        show(DoctorSettings, "hmar doctor")
        return 0
    s = DoctorSettings.resolve(arguments=arguments, use_environment=False, program="hmar doctor")
    checks: dict[str, Callable[[], str]] = {
        "python": _python,
        **{name: (lambda name=name: _package(name)) for name in PACKAGES},  # type: ignore[misc]
        "sql": _sql,
        "home": lambda: _home(s.home),
        "mlflow store": lambda: _mlflow(s),
        "device": _device,
    }
    good = True
    for name, check in checks.items():
        try:
            found, sign = check(), "ok"
        except (HmarError, OSError, PackageNotFoundError) as error:
            found, sign, good = str(error), "FAILED", False
        print(f"{sign:<7} {name:<20} {found}")
    return 0 if good else 1


def _python() -> str:
    return f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores"


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        raise HmarError("is not installed; install the project's requirements again") from None


def _sql() -> str:
    from pipeline.storage.statements import root

    return f"{len(list(root().rglob('*.sql')))} statements"


def _home(home: Path) -> str:
    from pipeline.preflight import check_directory

    check_directory(home.absolute())
    free = shutil.disk_usage(home).free / 1e9
    if free < ENOUGH_GB:
        raise HmarError(f"{home.absolute()}: only {free:.1f} GB free")
    return f"{home.absolute()}, {free:,.0f} GB free"


def _mlflow(s: DoctorSettings) -> str:
    from hmar.tracking.client import public
    from pipeline.home import Home
    from pipeline.registry import quiet_client

    uri = s.tracking_uri or Home(s.home.absolute()).mlflow_uri
    quiet_client(uri)
    return public(uri)


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name(0)} (CUDA {torch.version.cuda})"
    return f"cpu, {torch.get_num_threads()} threads (no CUDA device)"
