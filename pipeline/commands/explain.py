"""``hmar explain``: which events of a user carried what is recommended, as text and as pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pydantic import Field

from hmar.errors import DataError, SettingsError
from pipeline.commands.options import DataSettings, find_run, parse, plain
from pipeline.settings import RetrainSettings

if TYPE_CHECKING:
    from hmar.data.snapshot import Snapshot


class ExplainCommand(DataSettings):
    """Say which events and behaviors of a user carried what the champion recommends, and draw it; of ATRank and DFAR
    also what their attention looks at in many histories."""

    user: str
    """A user id of the log."""
    item: str = ""
    """An item id of the log: explain this item; those recommended first if empty."""
    top: int = Field(3, ge=1)
    """How many of the recommended items to explain."""
    show: int = Field(10, ge=1)
    """How many events to list for each item."""
    run: str = ""
    """Key of a run: explain a model that it trained, instead of the champion."""
    model: str = ""
    """Which of the run's models; the first of 'models' that it trained if empty."""
    out: Path | None = None
    """Directory of the pictures; explanations/<name>/<user> in home if not given."""


def main(arguments: list[str]) -> int:
    command = parse(ExplainCommand, arguments, "hmar explain")
    if command is None:
        return 0
    from hmar.atomic import write_json
    from hmar.data.snapshot import Snapshot
    from hmar.evaluate.adapt import adapt
    from hmar.evaluate.plots import write
    from hmar.evaluate.run import choose_device
    from hmar.explain import figures
    from hmar.explain.case_studies import case_studies
    from hmar.explain.explanation import end_of, explain
    from hmar.explain.past import Past
    from hmar.explain.ranked import ranked
    from hmar.explain.screen import shown
    from hmar.export import load
    from hmar.threads import limit_threads
    from pipeline.commands import screen, stages
    from pipeline.home import run_key

    s = plain(command)
    out = command.out or s.paths.explanations(s.name) / run_key(command.user)
    _refuse_file(out)
    limit_threads(int(s.train.get("threads", 0)))
    built = stages.built(s)
    snapshot = Snapshot(built.snapshot)
    user = _place(snapshot, "user", command.user)
    item = _place(snapshot, "item", command.item) if command.item else None
    with _exported(s, command) as (export, told):
        loaded = load(export)
    model = adapt(loaded, snapshot).to(choose_device(str(s.train.get("device", "auto"))))
    past = Past.of(snapshot, user, end_of(snapshot), loaded.meta.max_length, model.reads)
    ids = snapshot.items.column("item_id")
    for rank, chosen in ranked(model, snapshot, user, loaded.meta.max_length, command.top, item):
        name = ids[chosen].as_py()
        place = "no recommendation" if rank is None else f"rank {rank}"
        title = f"User {command.user}, item {name}, {place}, by {told} on snapshot {built.id}"
        found = explain(model, past, chosen)
        screen.console.print(f"[bold]{title}[/bold]", soft_wrap=True)
        screen.console.print(shown(found, lambda number: ids[number].as_py(), snapshot.behaviors, command.show))
        figure = figures.carried(found, lambda number: ids[number].as_py(), snapshot.behaviors, title)
        path = write(figure, out / f"{run_key(f'{told}-{name}')}.png")
        screen.console.print(str(path), markup=False, soft_wrap=True)
    for one in case_studies(loaded, model, snapshot, loaded.meta.split, f"{told} on snapshot {built.id}"):
        name = run_key(f"{one.name}-{told}")
        write_json(out / f"{name}.json", one.figures)
        path = write(one.picture, out / f"{name}.png")
        screen.console.print(str(path), markup=False, soft_wrap=True)
    return 0


def _refuse_file(out: Path) -> None:
    """Refuse a directory for the pictures that cannot be one, before minutes of work for them.

    Raises:
        SettingsError: it, or what it lies in, is a file.
    """
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise SettingsError(f"out: {there} is a file; give a directory for the pictures")


@contextmanager
def _exported(s: RetrainSettings, command: ExplainCommand) -> Iterator[tuple[Path, str]]:
    """The exported model to explain and what it is called.

    Raises:
        DataError: no champion, no such run, or the run has no such model.
    """
    from pipeline.commands import stages
    from pipeline.registry import Registry
    from pipeline.stages.recommend import champion_export

    if not command.run and not command.model:
        registry = Registry(s)
        champion = registry.champion()
        with TemporaryDirectory() as folder:
            yield champion_export(s, registry, champion, Path(folder)), f"version {champion.version}"
        return
    run = find_run(s, command.run)
    found = {one.model: one.directory for one in stages.trained(s, run)[1]}
    model = command.model or next(iter(found))
    if model not in found:
        raise DataError(f"run {run!r} has trained no {model!r}; it has {', '.join(found)}")
    yield found[model] / "model", f"{model} of {run}"


def _place(snapshot: "Snapshot", kind: str, source_id: str) -> int:
    """The dense id of a user or an item.

    Raises:
        DataError: it is not in the snapshot, or the id is not of the log's type.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = (snapshot.users if kind == "user" else snapshot.items).column(f"{kind}_id")
    try:
        value = pa.scalar(source_id).cast(column.type)
    except pa.ArrowInvalid:
        raise DataError(f"{kind} {source_id!r}: the {kind} ids of this dataset are whole numbers") from None
    place = pc.index(column, value).as_py()
    if place < 0:
        raise DataError(
            f"{kind} {source_id!r} is not in snapshot {snapshot.manifest.id} of {snapshot.manifest.dataset}"
        )
    return int(place)
