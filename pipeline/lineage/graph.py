"""From every column of a snapshot back to the raw columns it was made of, statement by statement.

A column depends on what its expression reads and, through them, on what those were made of; that rows were joined,
filtered or grouped by other columns is not followed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sqlglot import exp
from sqlglot.lineage import lineage
from sqlglot.optimizer.qualify import qualify

from pipeline.lineage.statements import DIALECT, Statement

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
    expressions: tuple[str, ...]
    """What the statement writes for it, from the outermost in; plain hand-overs of a column are left out."""
    sources: frozenset[Column]


class Graph:
    """All statements, wired."""

    def __init__(
        self, statements: Sequence[Statement], fills: Mapping[str, Sequence[str]], given: Mapping[str, Sequence[str]]
    ) -> None:
        """
        Args:
            fills: relation -> names of the statements that may fill it, where its own name does not say.
            given: relation -> its columns, for relations that no statement fills.
        """
        by_name = {statement.name: statement for statement in statements}
        self._makers = {relation: [by_name[name] for name in names] for relation, names in fills.items()}
        for statement in statements:
            self._makers.setdefault(statement.relation, [statement])
        self._given = given
        self._steps: dict[Column, tuple[Step, ...]] = {}
        self._columns: dict[str, tuple[str, ...]] = {name: tuple(columns) for name, columns in given.items()}

    def columns(self, relation: str) -> tuple[str, ...]:
        """The columns of a relation, in order.

        Raises:
            KeyError: nothing fills it.
        """
        if relation not in self._columns:
            # A statement that refills its own relation reads what another one has filled first.
            first = next(maker for maker in self._makers[relation] if relation not in maker.reads)
            self._columns[relation] = tuple(self._qualified(first).named_selects)
        return self._columns[relation]

    def steps(self, column: Column) -> tuple[Step, ...]:
        """How the column is made, one step per statement that may fill its relation; none where it is given."""
        if column.relation in self._given:
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
        found = {source for step in self.walk(column) for source in step.sources if source.relation in self._given}
        return found | ({column} if column.relation in self._given else set())

    def _has(self, maker: Statement, name: str) -> bool:
        return name == ROWS or name in self._qualified(maker).named_selects

    def _step(self, column: Column, maker: Statement) -> Step:
        if column.name == ROWS:
            return Step(column, maker, (), frozenset(Column(name, ROWS) for name in maker.reads))
        select = self._qualified(maker)
        expressions: list[str] = []
        sources: set[Column] = set()
        for node in lineage(column.name, select, schema=self._schema(maker), dialect=DIALECT).walk():
            inner = node.expression.unalias() if isinstance(node.expression, exp.Alias) else node.expression
            if isinstance(node.source, exp.Table) and not node.downstream:
                sources.add(Column(node.source.name, node.name.rpartition(".")[2].strip('"')))
            elif not isinstance(inner, exp.Column | exp.Table | exp.Star):
                text = inner.sql(DIALECT, pretty=True)
                if text not in expressions:
                    expressions.append(text)
                if not node.downstream and inner.find(exp.Count, exp.RowNumber):
                    sources |= {Column(name, ROWS) for name in maker.reads}
        return Step(column, maker, tuple(expressions), frozenset(sources))

    def _schema(self, maker: Statement) -> dict[str, dict[str, str]]:
        return {name: dict.fromkeys(self.columns(name), "unknown") for name in sorted(maker.reads)}

    @cached_property
    def _cache(self) -> dict[str, exp.Query]:
        return {}

    def _qualified(self, maker: Statement) -> exp.Query:
        if maker.name not in self._cache:
            selected = qualify(
                maker.select.copy(), schema=self._schema(maker), dialect=DIALECT, validate_qualify_columns=False
            )
            assert isinstance(selected, exp.Query)
            self._cache[maker.name] = selected
        return self._cache[maker.name]
