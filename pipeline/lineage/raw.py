"""Raw columns by name, in the statements that cut raw lines.

Those say ``parts[3]`` or ``found[2]``. Here the third column of a line, or the second key of an object, becomes a
column of the relation ``raw``, so that it can be followed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlglot import exp
from sqlglot.optimizer.simplify import simplify

from pipeline.lineage.statements import Statement

RAW = "raw"
"""The relation of the columns of raw lines, whatever they are read through."""
BESIDE = ("businesses",)
"""Files beside the log, whose lines are cut too: relations with columns of their own."""

_TABLE = "table_"
_FAULTS = ("fault", "reason")


def named(statement: Statement, columns: Sequence[str], variables: Mapping[str, Any]) -> Statement:
    """The statement with raw columns by name; the same if it cuts no raw line.

    That a value is only given where the row has no fault is left out: it would make every column depend on all others.

    Args:
        columns: of a raw line, from left to right. The keys of JSON lines stand in the statement; the columns of one's
            own log are called by what the settings map them to: user, item, ...
        variables: what the statement reads with getvariable. True and false decide which columns it reads; of one's
            own log it is taken that it has every column that the settings can map.
    """
    select: exp.Expr = statement.select.transform(lambda node: _decided(node, variables))
    if select != statement.select:
        select = simplify(select)
    select = select.transform(_without_fault)
    assert isinstance(select, exp.Query)
    read = _name_cut(select, columns) | _name_picked(select)
    return replace(statement, select=select, reads=statement.reads | read)


def keys(statement: Statement) -> tuple[str, ...]:
    """The keys that a statement takes out of JSON lines, each once."""
    return tuple(dict.fromkeys(key for name, cut in _cut(statement.select) for key in _keys(cut, name)))


def _name_cut(select: exp.Expr, columns: Sequence[str]) -> set[str]:
    """Places in a cut line as columns; the relations of these."""
    read = set()
    for name, cut in list(_cut(select)):
        relation = _relation_of(cut)
        used: dict[str, None] = {}
        for place in [one for one in _places(select) if one.parts == name]:
            found = _at(place.at, _keys(cut, name) or columns)
            used |= dict.fromkeys(found)
            inner = [exp.column(_inner(column), table=place.table or None, quoted=True) for column in found]
            place.node.replace(inner[0] if len(inner) == 1 else exp.Array(expressions=inner))
        for column in used:
            raw = exp.column(column, table=relation, quoted=True)
            cut.select(exp.alias_(raw, _inner(column), quoted=True), copy=False)
        read |= _joined(cut, relation)
    return read


def _name_picked(select: exp.Expr) -> set[str]:
    """``columns(lambda c: c = ...)`` as the column that it stands for; the relations of these."""
    read = set()
    for picked in list(select.find_all(exp.Columns)):
        wanted = next(one for one in picked.this.this.args.values() if not isinstance(one, exp.Identifier))
        if isinstance(wanted, exp.Literal):
            picked.replace(exp.column(wanted.name))
            continue
        within = picked.find_ancestor(exp.Select)
        assert within is not None
        picked.replace(exp.column(_mapped(wanted), table=RAW, quoted=True))
        read |= _joined(within, RAW)
    return read


class _Place(NamedTuple):
    """``parts[index]`` as it stands in a statement; or a macro that is given both."""

    node: exp.Expr
    parts: str
    table: str
    at: exp.Expr


def _places(select: exp.Expr) -> list[_Place]:
    found = []
    for node in select.find_all(exp.Bracket, exp.Anonymous):
        given = [node.this, *node.expressions] if isinstance(node, exp.Bracket) else node.expressions
        if len(given) < 2 or not isinstance(given[-2], exp.Column):
            continue
        if isinstance(node, exp.Bracket) or _variable(given[-1]).startswith(_TABLE):
            found.append(_Place(node, given[-2].name, given[-2].table, given[-1]))
    return found


def _cut(select: exp.Expr) -> list[tuple[str, exp.Select]]:
    """Where a line is cut: what the parts are called, and the select that does it."""
    indexed = {one.parts for one in _places(select)}
    return [
        (made.alias, within)
        for within in select.find_all(exp.Select)
        for made in within.expressions
        if isinstance(made, exp.Alias)
        and made.alias in indexed
        and any(column.name == "line" for column in made.find_all(exp.Column))
    ]


def _keys(cut: exp.Select, name: str) -> list[str]:
    """The keys of a JSON line by place; empty for other lines."""
    made = next(one for one in cut.expressions if one.alias == name)
    written = [one.name for array in made.find_all(exp.Array) for one in array.find_all(exp.Literal)]
    return [path.removeprefix("$.").split("[")[0] for path in written if path.startswith("$.")]


def _at(place: exp.Expr, columns: Sequence[str]) -> list[str]:
    """The columns at a place: a number from 0 (sqlglot counts so), one from the right, a slice, or a mapped one."""
    if isinstance(place, exp.Slice):
        return list(columns[int(place.this.name) - 1 : int(place.expression.name)])
    if isinstance(place, exp.Neg):
        return [columns[1 - int(place.this.name)]]
    return [columns[int(place.name)] if isinstance(place, exp.Literal) else _mapped(place)]


def _mapped(value: exp.Expr) -> str:
    """``getvariable('table_user')`` is the column that table.user names."""
    variable = value.find(exp.Anonymous)
    assert variable is not None
    return str(variable.expressions[0].name).removeprefix(_TABLE)


def _relation_of(cut: exp.Select) -> str:
    return next((table.name for table in cut.find_all(exp.Table) if table.name in BESIDE), RAW)


def _joined(cut: exp.Select, relation: str) -> set[str]:
    """Make ``cut`` read the relation too, if it does not."""
    if relation not in {table.name for table in cut.find_all(exp.Table)}:
        cut.join(relation, join_type="cross", copy=False)
    return {relation}


def _inner(column: str) -> str:
    """A name within the statement that none of its own columns has."""
    return f"{RAW} {column}"


def _decided(node: exp.Expr, variables: Mapping[str, Any]) -> exp.Expr:
    if isinstance(node, exp.Anonymous) and isinstance(variables.get(_variable(node)), bool):
        return exp.Boolean(this=variables[_variable(node)])
    if isinstance(node, exp.Is) and _variable(node.this).startswith(_TABLE) and isinstance(node.expression, exp.Null):
        return exp.false()
    return node


def _variable(node: exp.Expr) -> str:
    is_read = isinstance(node, exp.Anonymous) and node.name.lower() == "getvariable"
    return str(node.expressions[0].name) if is_read else ""


def _without_fault(node: exp.Expr) -> exp.Expr:
    """``x`` for ``if(fault is null, x, null)`` and ``case when fault is null then x end``."""
    choice = node.args["ifs"][0] if isinstance(node, exp.Case) and len(node.args["ifs"]) == 1 else node
    if not isinstance(choice, exp.If) or node.arg_key == "ifs":
        return node
    otherwise = node.args.get("default") if isinstance(node, exp.Case) else node.args.get("false")
    is_good = (
        isinstance(choice.this, exp.Is)
        and choice.this.this.name in _FAULTS
        and isinstance(choice.this.expression, exp.Null)
        and isinstance(otherwise, exp.Null | None)
    )
    good: exp.Expr = choice.args["true"] if is_good else node
    return good
