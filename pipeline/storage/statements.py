"""Finds the SQL: beside the packages in a checkout, inside this one in an installed wheel."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


@cache
def root() -> Path:
    """The directory that holds sql/."""
    for candidate in (_PACKAGE / "sql", _PACKAGE.parent / "sql"):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"sql/ stands neither in {_PACKAGE} nor beside it; the installation is broken")


def statement(name: str) -> str:
    """The text of ``sql/<name>.sql``, for example ``statement("snapshot/30_items")``."""
    return (root() / f"{name}.sql").read_text(encoding="utf-8")


def digest(folder: str, chosen: Callable[[str], bool] = lambda name: True) -> str:
    """sha256 over names and texts of the statements in ``sql/<folder>``.

    Args:
        chosen: by file name, which of them; all if not given.
    """
    state = hashlib.sha256()
    for path in sorted(path for path in (root() / folder).glob("*.sql") if chosen(path.name)):
        state.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()
