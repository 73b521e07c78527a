"""The page says what the pipeline does: real runs fill relations with the statements that the wiring names."""

import re
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sqlglot

from pipeline.ingest import ordering
from pipeline.lineage import wiring
from pipeline.lineage.graph import Column, Graph
from pipeline.lineage.statements import read_all
from pipeline.settings import RetrainSettings
from pipeline.simulate import simulate
from pipeline.snapshot import candidates
from pipeline.sources import delivery, source_of
from pipeline.stages import snapshot
from pipeline.storage.engine import connect
from tests.pipeline.simulate.logs import CASES, every_flaw
from tests.pipeline.simulate.test_accounts import settings
from tests.support.events import publish_events
from tests.support.raw_logs import land_and_publish, write
from tests.support.raw_logs import settings as raw_settings
from tests.support.spied import Made, spying
from tests.support.tiny_snapshot import random_events, snapshot_run

pytestmark = pytest.mark.slow

PLAIN_TABLE = ("table", "plain")
"""A log of one's own that is nothing but digits and codes; the simulated ones are none of those."""
LOGS = [*CASES, PLAIN_TABLE]


def by_relation(made: list[Made]) -> dict[str, set[str]]:
    """Relation -> the statements that filled it; a query of code's own by its text."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in made:
        if one.relation and one.query:
            found[one.relation].add(one.statement or plain(one.query))
    return found


def wired(graph: Graph, relation: str) -> set[str]:
    """The same as the wiring has it."""
    return {maker.name if maker.path.startswith("sql/") else plain(maker.text) for maker in graph.makers(relation)}


def plain(query: str) -> str:
    return sqlglot.parse_one(query, dialect="duckdb").sql("duckdb")


# -- ingest ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[list[Graph], list[Made]]]:
    """By source and layout: the graphs of the kinds of files that were read, and what was made.

    The Taobao log is delivered twice: the second time it is added to published events.
    """
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "in_memory", ordering.through_duckdb)
        for case in LOGS:
            made: list[Made] = []
            patch.setattr("pipeline.ingest.staging.connect", spying(connect, made))
            home = tmp_path_factory.mktemp("home")
            read = set()
            for seed in (1, 2) if case[0] == "taobao" else (1,):
                s = plain_table(home) if case == PLAIN_TABLE else simulated(home, *case, seed)
                land_and_publish(s)
                read |= {file.layout.name.split(" (")[0] for file in delivery(source_of(s), s.raw)}
            found[case] = (graphs(case[0], read), made)
    return found


def simulated(home: Path, source: str, layout: str, seed: int) -> RetrainSettings:
    out = simulate(source, home / str(seed), 40, 40, seed=seed, layout=layout, dirt=every_flaw(source, layout))
    return settings(out, home, mode="append")


def plain_table(home: Path) -> RetrainSettings:
    raw = write(home / "log.csv", "who,what,code,at\n7,50,1,1511539200\n7,50,2,1511539201\n")
    table = {"user": "who", "item": "what", "behavior": "code", "behaviors": [{"view": 1}, {"buy": 2}], "time": "at"}
    return raw_settings("table", raw, home, name="shop", table={**table, "ids": "int64"})


def graphs(source: str, read: set[str]) -> list[Graph]:
    """The graphs of the layouts of these names; one's own log is called by its format there."""
    formats = {"CSV": "as CSV or TSV", "TSV": "as CSV or TSV", "JSON lines": "as JSON lines", "Parquet": "as Parquet"}
    names = {formats.get(name, name) for name in read}
    return [wiring.ingest(one) for one in wiring.layouts(source) if one.name.endswith(tuple(names))]


@pytest.mark.parametrize("case", LOGS, ids=str)
def test_the_ingest_fills_relations_as_they_are_wired(
    ingested: dict[tuple[str, str], tuple[list[Graph], list[Made]]], case: tuple[str, str]
) -> None:
    graphs, made = ingested[case]
    assert graphs
    for relation, filled in by_relation(made).items():
        if relation not in graphs[0].given:
            assert filled <= set().union(*(wired(graph, relation) for graph in graphs)), relation


def test_every_statement_of_the_ingest_runs_and_no_wire_is_stale(
    ingested: dict[tuple[str, str], tuple[list[Graph], list[Made]]],
) -> None:
    filled: dict[str, set[str]] = defaultdict(set)
    for _, made in ingested.values():
        for relation, names in by_relation(made).items():
            filled[relation] |= names
    run = {one.statement for _, made in ingested.values() for one in made}
    assert {one.name for one in read_all("ingest")} - run == set()
    for graphs, _ in ingested.values():
        for graph in graphs:
            for relation in filled.keys() & graph.relations:
                assert wired(graph, relation) <= filled[relation], relation


def test_the_event_files_are_as_they_are_wired(tmp_path: Path) -> None:
    out = simulate("taobao", tmp_path / "log", 20, 20)
    s = settings(out, tmp_path / "home")
    land_and_publish(s)
    for path in s.paths.events(s.name).rglob("*.parquet"):
        graph = wiring.snapshot()
        assert tuple(pq.read_schema(path).names) == graph.columns(wiring.EVENTS)
        assert graph.columns(wiring.EVENTS) == wiring.ingest(*wiring.layouts("taobao")).columns(wiring.EVENTS)


# -- snapshot --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Made], Path]:
    """What several builds made, and the first snapshot: k-core and not, few behaviors and many, a user with very many
    events of one item, a second build on a known vocabulary, and too few draws."""
    made: list[Made] = []
    every = ("leave_one_out", "temporal", "published")
    many = ("a", "b", "c", "d", "e")
    log = random_events(30, 40, 900, seed=1)
    robot = [(1, 10, "view", float(second)) for second in range(33_000)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "connect", spying(connect, made))
        patch.setattr(candidates, "DEVIATIONS", -4)
        home = tmp_path_factory.mktemp("home")
        shown = {"negative": ["cart"], "sampled": 1, "tasks": ["view"]}
        s = snapshot_run(home, candidates=5, splits=list(every), k_core={"user": 2, "item": 2}, impressions=shown)
        first = snapshot.build(s, publish_events(s.paths.events(s.name), log))
        snapshot.build(s, publish_events(s.paths.events(s.name), [*log, (100, 1000, "buy", 2e6)]))
        for behaviors, events in (
            (many, random_events(30, 40, 900, seed=2, behaviors=many)),
            (("view", "cart", "buy"), [*log, *robot]),
        ):
            popular = {"sampled": 2, "sampled_from": "popularity"}
            other = snapshot_run(tmp_path_factory.mktemp("home"), behaviors, candidates=5, impressions=popular)
            snapshot.build(other, publish_events(other.paths.events(other.name), events))
    return made, first.snapshot


def test_the_snapshot_fills_relations_as_they_are_wired(built: tuple[list[Made], Path]) -> None:
    graph = wiring.snapshot()
    for relation, filled in by_relation(built[0]).items():
        if relation == "events":
            # Its columns depend on the settings' behaviors: the wiring has one of each kind.
            made = next(one.query for one in built[0] if one.relation == relation)
            assert tuple(sqlglot.parse_one(made, dialect="duckdb").named_selects) == graph.columns(relation)
        elif relation not in graph.given:
            assert filled == wired(graph, relation), relation


def test_every_statement_of_the_snapshot_runs(built: tuple[list[Made], Path]) -> None:
    assert {one.name for one in read_all("snapshot")} - {one.statement for one in built[0]} == set()


def test_the_files_of_a_snapshot_are_those_of_the_page(built: tuple[list[Made], Path]) -> None:
    """Their names, their columns, and what each column is written from."""
    made, snapshot_directory = built
    found: dict[str, tuple[str, ...]] = {}
    for path in snapshot_directory.rglob("*"):
        name = "/".join("<split>" if parent == "splits" else part for parent, part in _parts(path, snapshot_directory))
        name = _of_any_task(name)
        if path.suffix == ".parquet":
            found[name] = tuple(
                "hbi_<behavior>" if column.startswith("hbi_") else column for column in pq.read_schema(path).names
            )
        elif path.suffix == ".npy":
            found[name] = (path.stem,)
    told = {file: tuple(columns) for file, columns in wiring.FILES.items() if file != "arrays/"}
    told |= {f"arrays/{name}": (name.removesuffix(".npy"),) for name in wiring.FILES["arrays/"]}
    assert {name: tuple(dict.fromkeys(columns)) for name, columns in found.items()} == told
    for query in {one.query for one in made if one.query.startswith("copy")}:
        _check_copy(query)
    (train_end,) = {
        one.query for one in made if " from training " in one.query and one.query.startswith("select train")
    }
    assert train_end.startswith("select train_end from training order by user")


def _of_any_task(name: str) -> str:
    return re.sub(r"-\d+\.parquet$", "-<task>.parquet", name)


def _parts(path: Path, directory: Path) -> list[tuple[str, str]]:
    parts = path.relative_to(directory).parts
    return list(zip(("", *parts), parts, strict=False))


def _check_copy(query: str) -> None:
    """A file that DuckDB writes has its columns from where the page says."""
    copied = sqlglot.parse_one(query, dialect="duckdb")
    path = Path(copied.args["files"][0].name)
    if "vocabularies" in path.parts:
        return
    name = _of_any_task(path.name)
    file = name if path.parent.parent.name != "splits" else f"splits/<split>/{name}"
    select = copied.this.unnest()
    relation = select.find(sqlglot.exp.Table).name
    for chosen in select.expressions:
        name = "hbi_<behavior>" if chosen.alias.startswith("hbi_") else chosen.alias
        told = wiring.FILES[file][name]
        column = "hbi_0" if name == "hbi_<behavior>" else chosen.this.name
        assert told == Column(relation, column), f"{file}: {name}"
