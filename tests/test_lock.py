"""requirements.lock: complete, portable, and what is installed."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import CHECKOUT

LOCK = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8")
PINS = {
    canonicalize_name(n): Version(v) for n, v in re.findall(r"^([A-Za-z0-9_.\-]+)(?:\[.*?\])?==([^ ;\\]+)", LOCK, re.M)
}
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(line) for group in (PROJECT["dependencies"], *extras) for line in group]


def test_every_dependency_is_pinned_within_its_range() -> None:
    wrong = []
    for need in requirements():
        pin = PINS.get(canonicalize_name(need.name))
        if need.name != "torch" and (pin is None or pin not in need.specifier):
            wrong.append(f"{need}: locked {pin}")
    assert not wrong, f"run make lock: {wrong}"


def test_torch_comes_by_the_machines_own_index() -> None:
    assert "torch" not in PINS
    assert not [name for name in PINS if name.startswith(("nvidia-", "triton", "cuda"))]
    pinned = re.search(r"^TORCH := torch==(\S+)$", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert pinned
    need = next(r for r in requirements() if r.name == "torch")
    assert Version(pinned.group(1)) in need.specifier


def test_the_lock_names_no_place() -> None:
    """No index, no folder of wheels: it installs from whatever index a machine has."""
    assert not re.search(r"https?://|file:|^-|--index|--find-links| @ ", LOCK, re.M)


def test_every_pin_has_a_hash() -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.M)[1:]
    assert len(blocks) == len(PINS) > 150
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_what_is_installed_is_what_is_locked() -> None:
    differs = []
    for name, pin in PINS.items():
        try:
            if Version(version(name)) != pin:
                differs.append(f"{name} {version(name)} instead of {pin}")
        except PackageNotFoundError:
            differs.append(f"{name} is missing")
    assert not differs, f"run make setup: {differs}"
