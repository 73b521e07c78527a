"""Every statement says what its rows and its columns are, and the data dictionary is about columns that there are."""

import re
from functools import cache
from pathlib import Path

import pytest

from pipeline.lineage import wiring
from pipeline.lineage.graph import Graph
from pipeline.lineage.statements import FOLDERS, Statement, dictionary, read_all
from tests.support.unit_rows import cases, columns, statements

ALL = [one for folder in FOLDERS for one in read_all(folder)]


def folder(one: Statement) -> str:
    return Path(one.path).parent.name


def given(one: Statement) -> tuple[str, ...]:
    """The columns that a statement gives."""
    return _graph(one).columns_of(one)


def _graph(one: Statement) -> Graph:
    return next(graph for graph in _graphs(folder(one)) if one.name in {each.name for each in graph.statements})


@cache
def _graphs(folder: str) -> list[Graph]:
    if folder == "snapshot":
        return [wiring.snapshot()]
    return [wiring.ingest(layout) for source in wiring.sources() for layout in wiring.layouts(source)]


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.path)
def test_every_column_is_documented(one: Statement) -> None:
    assert set(given(one)) <= dictionary()[folder(one)].keys() | one.documented.keys()


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.path)
def test_a_header_documents_only_columns_that_the_statement_gives(one: Statement) -> None:
    assert one.documented.keys() <= set(given(one))


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.path)
def test_a_header_refers_to_statements_that_there_are(one: Statement) -> None:
    named = re.findall(r"\b(\d\d_\w+?)(?:\.sql)?\b", " ".join((one.grain, *one.about, *one.documented.values())))
    assert set(named) <= {path.stem for path in statements()}


def test_the_dictionary_is_about_columns_that_there_are() -> None:
    used: dict[str, set[str]] = {name: set() for name in FOLDERS}
    for one in ALL:
        used[folder(one)] |= set(given(one))
    for case in cases():
        tables = [case.expect, *case.given.values()]
        used[case.statement.parent.name] |= {column for table in tables for column in table["columns"]}
    assert {name: set(known) - used[name] for name, known in columns().items()} == {name: set() for name in FOLDERS}
