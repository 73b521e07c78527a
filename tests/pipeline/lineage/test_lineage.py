"""Columns go back to the raw columns that they are made of, and the page says so."""

import re
from functools import cache
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.lineage import wiring
from pipeline.lineage.expressions import expressions
from pipeline.lineage.graph import ROWS, Column, Graph
from pipeline.lineage.page import FILES, GIVEN, STATIONS, page
from pipeline.lineage.raw import RAW
from pipeline.lineage.statements import read_all, statement
from pipeline.sources import SOURCES, Layout

LAYOUTS = [layout for source in wiring.sources() for layout in wiring.layouts(source)]
SAME: dict[str, tuple[str, ...]] = {
    "Taobao UserBehavior.csv": (),
    "Tianchi mobile log": (),
    "Tmall user_log_format1.csv": (),
    "Yelp reviews": (),
    "Yelp tips": ("behavior",),
    "MovieLens tags.dat": ("behavior", "category_id"),
    "MovieLens tags.csv": ("behavior", "category_id"),
    **{layout.name: () for layout in wiring.layouts("table")},
}
"""Event columns that are the same for all rows of a layout; the category where nothing is said."""
TAOBAO = wiring.layouts("taobao")[0]


snapshot = cache(wiring.snapshot)


@cache
def _graph(name: str) -> Graph:
    return wiring.graph(next(layout for layout in LAYOUTS if layout.name == name))


def graph(layout: Layout) -> Graph:
    return _graph(layout.name)


def raw(layout: Layout, relation: str, name: str) -> set[str]:
    """The raw columns that a column goes back to."""
    return {one.name for one in graph(layout).origins(Column(relation, name)) if one.relation == RAW} - {ROWS}


# -- every column of every snapshot file -----------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_no_way_back_ends_before_the_raw_line(layout: Layout) -> None:
    found = graph(layout)
    for columns in wiring.FILES.values():
        for column in columns.values():
            for step in found.walk(column):
                for source in step.sources:
                    assert source.relation in found.given or found.steps(source), f"{step.statement.path}: {source}"
                    if source.relation in found.given and source.name != ROWS:
                        assert source.name in found.given[source.relation], f"{step.statement.path}: {source}"


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_snapshot_column_is_made_of_raw_lines(layout: Layout) -> None:
    """Unless it is made of nothing but what is the same in every row of such files, as the behavior of a tag is."""
    same = {Column(wiring.EVENTS, name) for name in SAME.get(layout.name, ("category_id",))}
    for file, columns in wiring.FILES.items():
        for name, column in columns.items():
            origins = {one for one in graph(layout).origins(column) if one.relation not in wiring.EARLIER}
            assert bool(origins) != (snapshot().origins(column) <= same), f"{file}: {name}"


def test_every_source_is_there() -> None:
    assert set(wiring.sources()) == {*SOURCES, "table"}
    assert all(wiring.layouts(source) for source in wiring.sources())
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


# -- known answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relation", "column", "expected"),
    [
        ("users", "user_id", {"user"}),
        ("users", "user", {"user", "timestamp"}),
        ("users", "first_seen", {"timestamp"}),
        ("items", "item_id", {"item"}),
        ("items", "category_id", {"category"}),
        ("hbi", "behavior", {"behavior"}),
        ("hbi", "event_time", {"timestamp"}),
        ("hbi", "hbi_0", {"user", "item", "behavior", "timestamp"}),
        ("targets", "event_time", {"timestamp"}),
        ("targets", "catalog", {"item", "timestamp"}),
        ("targets", "cold_item", {"item", "timestamp"}),
        ("targets", "repeat", {"user", "item", "behavior", "timestamp"}),
        ("offers", "candidate", {"user", "item", "behavior", "timestamp"}),
    ],
)
def test_taobao(relation: str, column: str, expected: set[str]) -> None:
    assert raw(TAOBAO, relation, column) == expected


def test_hbi_is_the_same_by_every_statement_and_for_every_behavior() -> None:
    found = graph(TAOBAO)
    steps = {column: found.steps(Column("hbi", column)) for column in found.columns("hbi") if column.startswith("hbi_")}
    assert len(steps) == 8
    assert {step.statement.name for step in steps["hbi_3"]} == {"42_hbi_narrow", "42_hbi_packed", "43_hbi_counted"}
    assert {step.statement.name for step in steps["hbi_4"]} == {"42_hbi_packed", "43_hbi_counted"}
    assert {step.sources for of in steps.values() for step in of} == {
        frozenset(Column("dense", name) for name in ("user", "item", "behavior", "event_time"))
    }


@pytest.mark.parametrize(
    ("layout", "behavior", "category"),
    [
        ("Tmall user_log_format1.csv", {"action_type"}, {"cat_id"}),
        ("Tmall reduced log", {"action_type"}, set()),
        ("Tianchi mobile log", {"behavior_type"}, {"item_category"}),
        ("MovieLens ratings.csv", {"rating"}, set()),
        ("MovieLens tags.csv", set(), set()),
        ("Amazon reviews", {"overall"}, set()),
        ("Amazon ratings of 2018", {"rating"}, set()),
        (
            "KuaiRand log",
            {"is_hate", "is_follow", "is_like", "long_view", "is_click", "is_comment", "is_forward"},
            set(),
        ),
        ("one's own log as Parquet", {"behavior"}, {"category"}),
    ],
)
def test_other_sources(layout: str, behavior: set[str], category: set[str]) -> None:
    found = next(one for one in LAYOUTS if one.name == layout)
    assert raw(found, "hbi", "behavior") == behavior
    assert raw(found, "items", "category_id") == category


def test_categories_of_yelp_come_from_the_file_beside() -> None:
    for layout in wiring.layouts("yelp"):
        origins = graph(layout).origins(Column("items", "category_id")) - {Column("published_files", "category_id")}
        assert origins == {Column("businesses", "categories")}


def test_the_two_layouts_of_amazon_ratings_differ() -> None:
    by_year = [layout for layout in wiring.layouts("amazon") if "ratings" in layout.name]
    assert [[column.name for column in layout.columns][:2] for layout in by_year] == [
        ["user", "item"],
        ["item", "user"],
    ]
    assert [raw(layout, "users", "user_id") for layout in by_year] == [{"user"}, {"user"}]


def test_what_was_known_before_is_told_apart() -> None:
    origins = graph(TAOBAO).origins(Column("users", "user"))
    assert {one.relation for one in origins} & wiring.EARLIER.keys() == {"published_files", "known_users"}


# -- the parts it is read with ---------------------------------------------------------------------------------


def test_expressions_are_those_of_the_file() -> None:
    text = """
with first as (
    select
        a, b, -- why
        if(a = ',', (select 1 from x), f(a, b)) as c
    from t
    union all
    select a, b, 'from, as' as c
    from u
),

final as (select distinct c, case
        -- a note
        when a then b
    end as d from first)

select * from final
"""
    assert expressions(text) == {
        ("first", "a"): ("a", "a"),
        ("first", "b"): ("b", "b"),
        ("first", "c"): ("if(a = ',', (select 1 from x), f(a, b))", "'from, as'"),
        ("final", "c"): ("c",),
        ("final", "d"): ("case\n    when a then b\nend",),
    }


def test_named_windows_and_counts_are_followed() -> None:
    text = """
with counted as (select u, count(*) as n from t left join z on t.k = z.k group by u),
final as (select sum(n) over w as running, 1 as one from counted window w as (order by u))
select * from final
"""
    found = Graph([statement("made.sql", "0_made", text)], {}, {"t": ("u", "k"), "z": ("k",)})
    assert found.origins(Column("made", "running")) == {Column("t", "u"), Column("t", ROWS)}
    assert found.origins(Column("made", "one")) == set()
    (step,) = found.steps(Column("made", "running"))
    assert step.expressions == (("running", "sum(n) over w"), ("n", "count(*)"))


def test_a_relation_that_nothing_fills_is_an_error() -> None:
    found = Graph([statement("made.sql", "0_made", "select a from nowhere")], {}, {})
    with pytest.raises(KeyError, match="nowhere"):
        found.origins(Column("made", "a"))


# -- the page --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole() -> str:
    return page(wiring.sources())


def test_the_page_needs_nothing_from_outside(whole: str) -> None:
    assert not re.search(r"https?:|//\w+\.\w|@import|url\(|<link|<script|<img|\bsrc=", whole)


def test_the_page_has_every_source_file_column_and_statement(whole: str) -> None:
    for source in wiring.sources():
        assert f'id="source-{source}"' in whole
    for layout in LAYOUTS:
        assert layout.name.replace("'", "&#39;") in whole
        assert all(f"<b>{column.name}</b>" in whole for column in layout.columns)
    for file, columns in wiring.FILES.items():
        assert f">{file.replace('<', '&lt;').replace('>', '&gt;')}</h3>" in whole
        assert all(f"<b>{name.replace('<', '&lt;').replace('>', '&gt;')}</b>" in whole for name in columns)
    for folder in ("ingest", "snapshot"):
        for one in read_all(folder):
            assert f"<h4>{one.path}</h4>" in whole


def test_the_page_has_words_for_what_there_is() -> None:
    names = {one.name for folder in ("ingest", "snapshot") for one in read_all(folder)}
    assert {name for _, name, _ in STATIONS} - {"20_*"} <= names
    assert set(GIVEN) == {relation for layout in LAYOUTS for relation in graph(layout).given} | {wiring.EVENTS}
    assert all(name in wiring.FILES[file] for file, name in FILES)


def test_every_link_of_the_page_leads_somewhere(whole: str) -> None:
    anchors = re.findall(r'\bid="([^"]+)"', whole)
    assert len(set(anchors)) == len(anchors)
    assert set(re.findall(r'href="#([^"]+)"', whole)) <= set(anchors)


def test_the_page_of_one_source_has_no_other() -> None:
    only = page(["tianchi"])
    assert "20_tianchi" in only
    assert "20_taobao" not in only


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "below" / "lineage.html"
    assert main(["lineage", "--source", "taobao", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text(encoding="utf-8") == page(["taobao"])


def test_the_command_names_the_nearest_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lineage", "--source", "taoboa", "--out", str(tmp_path / "x.html")]) == 78
    assert "did you mean 'taobao'" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()
