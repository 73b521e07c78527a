"""The command line of a benchmark, and the files that it keeps: OUT.json with all numbers, OUT.md with the tables made
of them."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from hmar.atomic import write_text
from hmar.errors import DataError, HmarError

S = TypeVar("S")


def run_benchmark(read: Callable[[], S], work: Callable[[S], object]) -> int:
    """A benchmark from its settings to its tables; the exit code, after a line about what went wrong if it did.

    Args:
        read: gives the settings. work: measures with them, keeps and prints.
    """
    try:
        work(read())
    except HmarError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def command(program: str, s: BaseModel, always: Sequence[str], changed: Sequence[str] = ()) -> str:
    """The command line that a table was made with: what regenerates it, given the same raw log.

    Args:
        always: settings that are told whatever they are, dots leading into sections; a place is told as its name in
            capital letters, since it is another one on another machine.
        changed: settings that are told where they are not the default.
    """
    told = {name: _value(s, name) for name in always}
    for name in changed:
        if _value(s, name) != type(s).model_fields[name].get_default(call_default_factory=True):
            told[name] = _value(s, name)
    words = [f"--{name.replace('_', '-')} {_word(name, value)}" for name, value in told.items()]
    return " ".join([f"python -m {program}", *words])


def _value(s: Any, name: str) -> Any:
    for part in name.split("."):
        s = getattr(s, part)
    return s


def _word(name: str, value: Any) -> str:
    if isinstance(value, Path):
        return name.upper()
    if isinstance(value, list | tuple) and value and not any("," in str(one) for one in value):
        return shlex.quote(",".join(map(str, value)))
    return shlex.quote(value if isinstance(value, str) else json.dumps(value, sort_keys=True))


def kept(out: Path) -> dict[str, Any]:
    """What OUT.json holds; empty where there is none.

    Raises:
        DataError: it is not JSON. Measuring on would replace what it held by less, so that is for a person to decide.
    """
    path = out.with_suffix(".json")
    if not path.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); restore it, or delete it to begin anew") from None
    return found


def keep(out: Path, numbers: Mapping[str, Any], text: str) -> None:
    """Replace both files. The numbers keep their order: tables made of OUT.json are those made of ``numbers``."""
    write_text(out.with_suffix(".json"), json.dumps(numbers, indent=2) + "\n")
    write_text(out.with_suffix(".md"), text)


def tell(out: Path, numbers: Mapping[str, Any], text: str) -> None:
    """Replace both files, and print the tables."""
    keep(out, numbers, text)
    print(text)
