"""The lineage as one HTML page: raw columns, snapshot columns, and the statements between them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hmar import __version__
from pipeline.lineage import wiring
from pipeline.lineage.graph import ROWS, Column, Graph, Step
from pipeline.lineage.raw import BESIDE, RAW
from pipeline.lineage.statements import FOLDERS, Documented, Statement, dictionary
from pipeline.pages.render import render
from pipeline.sources import Layout
from pipeline.storage.atomic import write_text

GIVEN = {
    RAW: "the raw line",
    "chunks": "the raw file's text",
    "rows": "the raw Parquet file",
    "raw_files": "names of the raw files",
    "businesses": "the business file beside the log",
    wiring.EVENTS: "published events",
    "published_files": "events published earlier",
    "known_users": "known users (vocabulary)",
    "known_items": "known items (vocabulary)",
}
"""Relations that no statement fills, in words."""

STATIONS = (
    ("raw line", "10_lines", "lines of a file, numbered"),
    ("typed row", "20_*", "columns, and what is wrong with them"),
    ("candidate", "30_candidates", "an event, or rejected with a reason"),
    ("event", "50_events", "published, duplicates left out"),
    ("log", "10_log", "behaviors as codes, k-core"),
    ("users, items", "30_users", "dense ids that never move"),
    ("sequence", "42_hbi_packed", "events in order, with counts so far"),
    ("target", "65_targets", "what is to be predicted, from which history"),
    ("candidates", "72_candidates", "negatives of the moment"),
    ("impression", "79_impressions", "what was said yes or no to, and what was only drawn"),
)
"""The way of a row: what it is, the statement that makes it so, and that in words."""

FILES: dict[tuple[str, str], Documented] = {
    ("events.parquet", "hbi_<behavior>"): Documented(
        "usmallint", "how often the user had done this behavior with the item, this event included"
    ),
    ("arrays/", "offsets.npy"): Documented("bigint", "first rows of the users, closed by the number of events"),
    ("arrays/", "hbi.npy"): Documented("usmallint", "the columns hbi_<behavior>, side by side"),
    ("splits/<split>/train_end.npy", "train_end"): Documented("bigint", "row after each user's last training event"),
    ("splits/<split>/candidates.parquet", "position"): Documented("smallint", "place among the target's candidates"),
    ("splits/<split>/candidates.parquet", "item"): Documented(
        "integer", "a negative, stored once for all models; null where the catalog is too small"
    ),
}
"""Columns of files that are not what the statements call so."""

_IDS = ("user_id", "item_id", "category_id")
_EVENT_COLUMNS = ("user_id", "item_id", "behavior", "event_time", "category_id", "value", "source_file", "source_row")
_Reached = dict[str, list[tuple[str, list[str]]]]
"""Event column -> snapshot files, each with its columns that are made of it."""
_HERE = Path(__file__).parent


def write_page(path: Path, sources: Sequence[str]) -> None:
    """Write the page.

    Args:
        sources: whose raw columns are shown; see :func:`pipeline.lineage.wiring.sources`.

    Raises:
        SettingsError: a source is unknown.
        StorageError: the disk refused.
    """
    write_text(path, page(sources))


def page(sources: Sequence[str]) -> str:
    """The page as text."""
    layouts = {name: wiring.layouts(name) for name in sources}
    graphs = {layout.name: wiring.ingest(layout) for found in layouts.values() for layout in found}
    snapshot = wiring.snapshot()
    reached = _reached(snapshot)
    return render(
        _HERE / "lineage.html.j2",
        {
            "version": __version__,
            "stations": STATIONS,
            "sources": [
                {
                    "name": name,
                    "layouts": _alike(
                        _layout(graphs[layout.name], layout, wiring.id_types(name), reached) for layout in found
                    ),
                }
                for name, found in layouts.items()
            ],
            "files": [_file(snapshot, file, columns) for file, columns in wiring.FILES.items()],
            "statements": _statements([*graphs.values(), snapshot]),
        },
    )


def _reached(snapshot: Graph) -> _Reached:
    reached: _Reached = {name: [] for name in _EVENT_COLUMNS}
    for file, columns in wiring.FILES.items():
        if file == "arrays/":
            continue
        origins = {name: snapshot.origins(column) for name, column in columns.items()}
        for event, found in reached.items():
            made = [name for name, of in origins.items() if Column(wiring.EVENTS, event) in of]
            if made:
                found.append((file, made))
    return reached


def _layout(graph: Graph, layout: Layout, types: Mapping[str, str], reached: _Reached) -> dict[str, Any]:
    origins = {name: graph.origins(Column(wiring.EVENTS, name)) for name in _EVENT_COLUMNS}
    raw = [(Column(RAW, column.name), column.expected) for column in layout.columns]
    beside = sorted({one for found in origins.values() for one in found if one.relation in BESIDE})
    rows = []
    for column, expected in [*raw, *((one, GIVEN[one.relation]) for one in beside)]:
        events = [name for name, found in origins.items() if column in found]
        rows.append(
            {
                "name": column.name,
                "expected": expected,
                "events": events,
                "reached": _merged([reached[name] for name in events]),
            }
        )
    return {
        "name": layout.name,
        "anchor": _anchor(layout.name),
        "rows": rows,
        "statements": [_link(one) for one in graph.statements if one.name in wiring.parsing(layout)],
        "events": [
            {
                "name": name,
                "documented": _documented("ingest", name, types),
                "chain": _chain(graph, Column(wiring.EVENTS, name)),
                "constant": not any(one.relation not in wiring.EARLIER for one in origins[name]),
            }
            for name in _EVENT_COLUMNS
        ],
    }


def _alike(layouts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Layouts that differ in nothing but their names become one."""
    found: list[dict[str, Any]] = []
    for one in layouts:
        names = {"name": one["name"], "anchor": one["anchor"]}
        same = next((other for other in found if {**other, **names} == one), None)
        if same:
            same["name"] += f", {one['name']}"
        else:
            found.append(one)
    return found


def _merged(found: Iterable[list[tuple[str, list[str]]]]) -> list[tuple[str, list[str]]]:
    """Columns by file, of several event columns together, in the files' order."""
    merged: dict[str, dict[str, None]] = {}
    for files in found:
        for file, columns in files:
            merged.setdefault(file, {}).update(dict.fromkeys(columns))
    return [
        (file, [name for name in wiring.FILES[file] if name in merged[file]]) for file in wiring.FILES if file in merged
    ]


def _file(snapshot: Graph, file: str, columns: dict[str, Column]) -> dict[str, Any]:
    return {
        "name": file,
        "anchor": _anchor(file),
        "columns": [
            {
                "name": name,
                "documented": FILES.get((file, name)) or _of_relation(snapshot, column),
                "events": [one.name for one in _events(snapshot, column) if one.name != ROWS],
                "counted": Column(wiring.EVENTS, ROWS) in snapshot.origins(column),
                "known": sorted({one.relation for one in snapshot.origins(column) if one.relation in wiring.EARLIER}),
                "chain": _chain(snapshot, column),
            }
            for name, column in columns.items()
        ],
    }


def _events(snapshot: Graph, column: Column) -> list[Column]:
    found = [one for one in snapshot.origins(column) if one.relation == wiring.EVENTS]
    return sorted(found, key=lambda one: (*_EVENT_COLUMNS, ROWS).index(one.name))


def _chain(graph: Graph, column: Column) -> dict[str, Any]:
    """The steps that make something new, and the statements that only hand a column on or count its rows."""
    steps = list(graph.walk(column))
    made = [step for step in steps if step.expressions and step.statement.path != wiring.PLAIN]
    makers = {step.statement.name for step in made}
    others = [step.statement for step in steps if step.statement.name not in makers]
    handed = {_link(one)["name"]: _link(one) for one in others}
    return {
        "steps": [
            {
                "column": step.column,
                "statement": _link(step.statement),
                "expressions": step.expressions,
                "documented": _of_step(step) if step.column.name != column.name else None,
                "sources": [_named(one) for one in sorted(step.sources)],
            }
            for step in made
        ],
        "handed": [handed[name] for name in sorted(handed)],
    }


def _named(column: Column) -> str:
    where = GIVEN.get(column.relation, column.relation)
    return f"rows of {where}" if column.name == ROWS else f"{where}: {column.name}" if " " in where else str(column)


def _statements(graphs: Sequence[Graph]) -> dict[str, list[dict[str, Any]]]:
    """Folder -> its statements, each once."""
    found: dict[str, dict[str, dict[str, Any]]] = {folder: {} for folder in FOLDERS}
    for graph in graphs:
        for one in graph.statements:
            folder = _folder(one)
            if one.path.startswith("sql/") and one.name not in found[folder]:
                found[folder][one.name] = _described(graph, one)
            elif one.name in found[folder]:
                known = found[folder][one.name]
                known["reads"] |= _read(graph, one)
                known["read_by"] |= _readers(graph, one)
    return {folder: [found[folder][name] for name in sorted(found[folder])] for folder in FOLDERS}


def _described(graph: Graph, one: Statement) -> dict[str, Any]:
    folder = _folder(one)
    return {
        **_link(one),
        "path": one.path,
        "grain": one.grain,
        "about": " ".join(one.about),
        "reads": _read(graph, one),
        "read_by": _readers(graph, one),
        "columns": [
            {
                "name": name,
                "documented": _documented(folder, name),
                "narrower": one.documented.get(name, ""),
            }
            for name in graph.columns_of(one)
        ],
        "text": one.text.strip(),
    }


def _read(graph: Graph, one: Statement) -> dict[str, list[dict[str, str]]]:
    """Relation in words -> the statements that may fill it."""
    return {
        GIVEN.get(relation, relation): [_link(maker) for maker in graph.makers(relation)]
        for relation in sorted(one.reads)
    }


def _readers(graph: Graph, one: Statement) -> dict[str, dict[str, str]]:
    """Name -> the statement, of all that read what this one fills."""
    return {
        other.name: _link(other)
        for other in graph.statements
        for relation in other.reads
        if one in graph.makers(relation)
    }


def _link(one: Statement) -> dict[str, str]:
    """A statement by name; what is made in code has no anchor."""
    in_sql = one.path.startswith("sql/")
    return {
        "name": one.name if in_sql else one.path,
        "anchor": _anchor(one.path) if in_sql else "",
    }


def _of_step(step: Step) -> Documented | None:
    return _narrowed(step.statement, step.column.name)


def _of_relation(graph: Graph, column: Column) -> Documented | None:
    """What the first of the statements that fill a relation says of a column."""
    return _narrowed(graph.makers(column.relation)[0], column.name)


def _narrowed(one: Statement, name: str) -> Documented | None:
    known = _documented(_folder(one), name)
    said = one.documented.get(name, "")
    return known if known is None or not said or ".sql" in said else Documented(known.type, said)


def _documented(folder: str, name: str, types: Mapping[str, str] | None = None) -> Documented | None:
    """What the data dictionary says, with the types of ids that a source has or, where it is any source, may have."""
    found = dictionary()[folder].get(name)
    if found is None or name not in _IDS:
        return found
    return Documented((types or {}).get(name, "bigint or varchar"), found.meaning)


def _folder(one: Statement) -> str:
    return "ingest" if "/ingest/" in one.path else "snapshot"


def _anchor(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.removesuffix(".sql"))
