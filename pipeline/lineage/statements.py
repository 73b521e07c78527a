"""The statements of ``sql/`` as an analyst reads them: grain, columns, what each reads."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import sqlglot
import yaml
from sqlglot import exp

from pipeline.lineage.expressions import DIALECT, expressions
from pipeline.storage import statements as storage

FOLDERS = ("ingest", "snapshot")


@dataclass(frozen=True, eq=False)
class Statement:
    """One ``select``: a file of sql/, or what code makes of a relation."""

    path: str
    """Relative to the repository."""
    name: str
    """File name without its suffix, for example ``30_users``."""
    grain: str
    """The first line of its comment."""
    about: tuple[str, ...]
    """The other lines of its comment that are not about one column."""
    documented: Mapping[str, str]
    """Column -> what the comment says of it."""
    text: str
    select: exp.Query
    reads: frozenset[str]
    """The relations it reads, its own common table expressions not among them."""
    expressions: Mapping[tuple[str, str], tuple[str, ...]]
    """What it writes for a column, see :func:`pipeline.lineage.expressions.expressions`."""

    @property
    def relation(self) -> str:
        """What its rows are called where nothing else is said: the name without the number."""
        return self.name.split("_", 1)[1]


@dataclass(frozen=True)
class Documented:
    """What the data dictionary says of a column."""

    type: str
    meaning: str


@cache
def dictionary() -> Mapping[str, Mapping[str, Documented]]:
    """Folder of sql/ -> column -> type and meaning (``sql/columns.yml``)."""
    found = yaml.safe_load((storage.root() / "columns.yml").read_text(encoding="utf-8"))
    return {
        folder: {name: Documented(**column) for name, column in columns.items()} for folder, columns in found.items()
    }


@cache
def read_all(folder: str) -> tuple[Statement, ...]:
    """Every statement of a folder that is one select, in the order data flows; macros are not."""
    found = []
    for path in sorted((storage.root() / folder).glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        parsed = sqlglot.parse(text, dialect=DIALECT)
        if len(parsed) == 1 and isinstance(parsed[0], exp.Query):
            found.append(statement(f"sql/{folder}/{path.name}", path.stem, text))
    return tuple(found)


def statement(path: str, name: str, text: str) -> Statement:
    """A statement from its text; a table function over ``getvariable('x')`` reads the relation ``x``.

    It reads ``x_files`` where the statement itself, or one of its common table expressions, is called ``x``.
    """
    select = sqlglot.parse_one(text, dialect=DIALECT)
    assert isinstance(select, exp.Query)
    own = {cte.alias for cte in select.find_all(exp.CTE)}
    taken = own | {name.split("_", 1)[1]}
    for table in list(select.find_all(exp.Table)):
        variable = table.this.find(exp.Anonymous) if not table.name else None
        if variable is not None and variable.name.lower() == "getvariable":
            read = variable.expressions[0].name
            table.replace(exp.to_table(f"{read}_files" if read in taken else read, alias=table.alias or None))
    _inline_windows(select)
    comment = [line[2:].rstrip() for line in re.split(r"^(?!--)", text, maxsplit=1, flags=re.M)[0].splitlines()]
    about, documented = _split_comment([line.removeprefix(" ") for line in comment[1:]])
    reads = frozenset(table.name for table in select.find_all(exp.Table) if table.name and table.name not in own)
    grain = comment[0].strip() if comment else ""
    return Statement(path, name, grain, about, documented, text, select, reads, expressions(text))


def _inline_windows(select: exp.Query) -> None:
    """``over so_far`` with what the clause ``window so_far as (...)`` says, which lineage does not look at."""
    for within in select.find_all(exp.Select):
        named = {window.this.name: window for window in within.args.pop("windows", None) or []}
        for window in list(within.find_all(exp.Window)):
            meant = named.get(window.alias)
            if meant is not None:
                parts = {key: meant.args[key].copy() for key in ("order", "spec") if meant.args.get(key)}
                partition = [column.copy() for column in meant.args.get("partition_by") or []]
                window.replace(exp.Window(this=window.this.copy(), partition_by=partition, over="OVER", **parts))


_COLUMN = re.compile(r"((?:\w+)(?:(?:, | \.\. )\w+)*)\s{2,}(\S.*)")


def _split_comment(lines: list[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Lines ``name[, name]  meaning`` (two spaces or more; deeper lines go on) are about columns, others are not."""
    about: list[str] = []
    documented: dict[str, str] = {}
    current: list[str] = []
    for line in lines:
        match = _COLUMN.fullmatch(line)
        if match:
            current = _names(match[1])
            documented |= dict.fromkeys(current, match[2])
        elif current and line.startswith("   "):
            documented |= {name: f"{documented[name]} {line.strip()}" for name in current}
        else:
            current = []
            about.append(line)
    return tuple(about), documented


def _names(written: str) -> list[str]:
    """``a, b`` are two, ``hbi_0 .. hbi_7`` are eight."""
    names = re.findall(r"\w+", written)
    if " .. " not in written:
        return names
    stem = names[0].rstrip("0123456789")
    first, last = (int(name.removeprefix(stem)) for name in names)
    return [f"{stem}{number}" for number in range(first, last + 1)]
