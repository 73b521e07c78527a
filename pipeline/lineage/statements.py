"""The statements of ``sql/`` as an analyst reads them: grain, columns, what each reads."""

import re
from dataclasses import dataclass
from functools import cache

import sqlglot
from sqlglot import exp

from pipeline.storage import statements as storage

DIALECT = "duckdb"


@dataclass(frozen=True)
class Statement:
    """One file that is one ``select``."""

    path: str
    """Relative to the repository."""
    name: str
    """File name without its suffix, for example ``30_users``."""
    grain: str
    """The first line of its comment."""
    about: tuple[str, ...]
    """The other lines of its comment that are not about one column."""
    documented: dict[str, str]
    """Column -> what the comment says of it."""
    select: exp.Query
    reads: frozenset[str]
    """The relations it reads, its own common table expressions not among them."""

    @property
    def relation(self) -> str:
        """What its rows are called where nothing else is said: the name without the number."""
        return self.name.split("_", 1)[1]


@cache
def read_all() -> tuple[Statement, ...]:
    """Every statement that is one select, in the order data flows; macros and table definitions are not."""
    found = []
    for folder in ("ingest", "snapshot"):
        for path in sorted((storage.root() / folder).glob("*.sql")):
            text = path.read_text(encoding="utf-8")
            parsed = sqlglot.parse(text, dialect=DIALECT)
            if len(parsed) == 1 and isinstance(parsed[0], exp.Query):
                found.append(statement(f"sql/{folder}/{path.name}", path.stem, text))
    return tuple(found)


def statement(path: str, name: str, text: str) -> Statement:
    """A statement from its text; a table function over ``getvariable('x')`` reads the relation ``x`` (or ``x_files``)."""
    select = sqlglot.parse_one(text, dialect=DIALECT)
    assert isinstance(select, exp.Query)
    own = {cte.alias for cte in select.find_all(exp.CTE)}
    for table in list(select.find_all(exp.Table)):
        variable = table.this.find(exp.Anonymous) if not table.name else None
        if variable is not None and variable.name.lower() == "getvariable":
            read = variable.expressions[0].name
            table.replace(exp.to_table(f"{read}_files" if read in own else read, alias=table.alias or None))
    comment = [line[2:].rstrip() for line in text.splitlines() if line.startswith("--")]
    about, documented = _split_comment([line.removeprefix(" ") for line in comment[1:]])
    reads = frozenset(table.name for table in select.find_all(exp.Table) if table.name and table.name not in own)
    return Statement(path, name, comment[0].strip() if comment else "", about, documented, select, reads)


_COLUMN = re.compile(r"((?:\w+)(?:(?:, | \.\. )\w+)*)\s{2,}(\S.*)")


def _split_comment(lines: list[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Lines ``name[, name]  meaning`` (two spaces or more; deeper lines go on) are about columns, others are not."""
    about: list[str] = []
    documented: dict[str, str] = {}
    current: list[str] = []
    for line in lines:
        match = _COLUMN.fullmatch(line)
        if match:
            current = re.findall(r"\w+", match[1])
            documented |= dict.fromkeys(current, match[2])
        elif current and line.startswith("   "):
            documented |= {name: f"{documented[name]} {line.strip()}" for name in current}
        else:
            current = []
            about.append(line)
    return tuple(about), documented
