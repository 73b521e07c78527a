"""From every column back to the raw columns it was made of, statement by statement.

A column depends on what its expression reads and, through them, on what those were made of; that rows were joined,
filtered or grouped by other columns is not followed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.lineage import Node, lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

from pipeline.lineage.expressions import DIALECT
from pipeline.lineage.statements import Statement

ROWS = "*"
"""Stands for a relation's rows where a column counts or numbers them."""


@dataclass(frozen=True, order=True)
class Column:
    """A column of a relation; ``ROWS`` where the rows themselves are meant."""

    relation: str
    name: str

    def __str__(self) -> str:
        return f"{self.relation}.{self.name}"


@dataclass(frozen=True)
class Step:
    """How one statement makes a column."""

    column: Column
    statement: Statement
    expressions: tuple[tuple[str, str], ...]
    """What the statement writes for it and for the columns in between, from the outermost in: name and expression.
    Plain hand-overs of a column are left out."""
    sources: frozenset[Column]


class Graph:
    """Statements, wired."""

    def __init__(
        self, statements: Sequence[Statement], fills: Mapping[str, Sequence[str]], given: Mapping[str, Sequence[str]]
    ) -> None:
        """
        Args:
            fills: relation -> names of the statements that may fill it, where its own name does not say.
            given: relation -> its columns, for relations that no statement fills.
        """
        self._statements = tuple(statements)
        by_name = {statement.name: statement for statement in statements}
        self._makers = {relation: [by_name[name] for name in names] for relation, names in fills.items()}
        for statement in statements:
            self._makers.setdefault(statement.relation, [statement])
        self.given = given
        """Relation -> its columns, for relations that no statement fills."""
        self._steps: dict[Column, tuple[Step, ...]] = {}
        self._columns: dict[str, tuple[str, ...]] = {name: tuple(columns) for name, columns in given.items()}
        self._selects: dict[str, exp.Query] = {}
        self._scopes: dict[str, Scope | None] = {}

    @property
    def statements(self) -> tuple[Statement, ...]:
        """All of them, in the order that they were given in."""
        return self._statements

    @property
    def relations(self) -> frozenset[str]:
        """Those that a statement fills."""
        return frozenset(self._makers) - self.given.keys()

    def makers(self, relation: str) -> tuple[Statement, ...]:
        """The statements that may fill a relation; none where it is given.

        Raises:
            KeyError: nothing fills it.
        """
        return () if relation in self.given else tuple(self._makers[relation])

    def columns(self, relation: str) -> tuple[str, ...]:
        """The columns of a relation, in order.

        Raises:
            KeyError: nothing fills it.
        """
        if relation not in self._columns:
            # A statement that refills its own relation reads what another one has filled first.
            first = next(maker for maker in self._makers[relation] if relation not in maker.reads)
            self._columns[relation] = self.columns_of(first)
        return self._columns[relation]

    def columns_of(self, maker: Statement) -> tuple[str, ...]:
        """The columns that a statement gives, in order."""
        return tuple(self._qualified(maker).named_selects)

    def steps(self, column: Column) -> tuple[Step, ...]:
        """How the column is made, one step per statement that may fill its relation; none where it is given."""
        if column.relation in self.given:
            return ()
        if column not in self._steps:
            self._steps[column] = tuple(
                self._step(column, maker) for maker in self._makers[column.relation] if self._has(maker, column.name)
            )
        return self._steps[column]

    def walk(self, column: Column) -> Iterator[Step]:
        """Every step that the column goes back to, itself first, each once."""
        seen, waiting = {column}, [column]
        while waiting:
            for step in self.steps(waiting.pop(0)):
                yield step
                fresh = sorted(step.sources - seen)
                seen |= set(fresh)
                waiting += fresh

    def origins(self, column: Column) -> set[Column]:
        """The given columns that it goes back to."""
        found = {source for step in self.walk(column) for source in step.sources if source.relation in self.given}
        return found | ({column} if column.relation in self.given else set())

    def _has(self, maker: Statement, name: str) -> bool:
        return name == ROWS or name in self.columns_of(maker)

    def _step(self, column: Column, maker: Statement) -> Step:
        select = self._qualified(maker)
        if column.name == ROWS:
            return Step(column, maker, (), _rows_of(select, select))
        found: dict[tuple[str, str], None] = {}
        sources: set[Column] = set()
        whole = lineage(column.name, select, schema={}, dialect=DIALECT, scope=self._scopes[maker.name], copy=False)
        assert isinstance(whole, Node)
        for node in whole.walk():
            if isinstance(node.source, exp.Table):
                sources.add(self._named(node.source.name, node.name.rpartition(".")[2].strip('"')))
                continue
            found |= dict.fromkeys(_written(node, maker))
            if not node.downstream and node.expression.find(exp.Count, exp.RowNumber):
                sources |= _rows_of(node.source, select)
        return Step(column, maker, tuple(found), frozenset(sources))

    def _named(self, relation: str, name: str) -> Column:
        """The column as its relation calls it: to DuckDB, and so to sqlglot, all spellings are one."""
        known = {column.lower(): column for column in self.columns(relation)}
        return Column(relation, known.get(name.lower(), name))

    def _schema(self, maker: Statement) -> dict[str, object]:
        return {name: dict.fromkeys(self.columns(name), "unknown") for name in sorted(maker.reads)}

    def _qualified(self, maker: Statement) -> exp.Query:
        if maker.name not in self._selects:
            selected = qualify(
                maker.select.copy(), schema=self._schema(maker), dialect=DIALECT, validate_qualify_columns=False
            )
            assert isinstance(selected, exp.Query)
            self._selects[maker.name] = selected
            self._scopes[maker.name] = build_scope(selected)
        return self._selects[maker.name]


def _written(node: Node, maker: Statement) -> list[tuple[str, str]]:
    """What the statement writes at this point, if it does more than to hand a column on."""
    name = node.expression.alias_or_name
    texts = maker.expressions.get((node.reference_node_name, name))
    if texts is None:
        inner = node.expression.unalias()
        texts = () if isinstance(inner, exp.Column | exp.Star | exp.Query) else (inner.sql(DIALECT),)
    return [(name, text) for text in texts if not re.fullmatch(rf"(\w+\.)?{re.escape(name)}", text)]


def _rows_of(select: exp.Expr, whole: exp.Query) -> frozenset[Column]:
    """The rows of the relations that part of a statement takes its rows from; a left join adds none."""
    own = {cte.alias: cte.this for cte in whole.find_all(exp.CTE)}
    found: set[Column] = set()
    seen: set[str] = set()
    waiting = [select]
    while waiting:
        for table in waiting.pop().find_all(exp.Table):
            joined = table.find_ancestor(exp.Join, exp.Select)
            if table.name in seen or (isinstance(joined, exp.Join) and joined.side == "LEFT"):
                continue
            if table.name in own:
                seen.add(table.name)
                waiting.append(own[table.name])
            else:
                found.add(Column(table.name, ROWS))
    return frozenset(found)
