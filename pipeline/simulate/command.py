"""``hmar simulate``: settings, files, accounts."""

import json
import time as clock
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, model_validator

from hmar.errors import SettingsError
from hmar.settings import LayeredSettings
from pipeline.simulate import movielens, taobao
from pipeline.simulate.dirt import Dirt, dirty_rows
from pipeline.simulate.lines import join, mixed, raw_file, rows_at, write
from pipeline.simulate.world import Floats, World, generator
from pipeline.storage.atomic import new_directory, write_json

BLOCK = 20_000
"""Users that are made at a time: bounds the memory, and is part of what a seed means."""


class SimulateSettings(LayeredSettings):
    """Write a made-up raw log of a known structure in the exact format of a real source, its truth beside it."""

    source: Literal["movielens", "taobao"]
    """Whose format."""
    out: Path
    """Directory to write; it may hold an earlier simulation, which is replaced."""
    users: int = Field(1000, ge=2)
    """Users of the log."""
    items: int = Field(1000, ge=20)
    """Items, or films, of the log."""
    days: int | None = Field(None, ge=1)
    """Time span; taobao 9 (its preset keeps just those nine days), movielens 210 if not given."""
    events_per_user: float = Field(60, ge=2)
    """Mean rows per user, about; the distribution is heavy-tailed."""
    seed: int = Field(0, ge=0)
    """Equal seeds and settings give equal bytes."""
    order: float = Field(0.55, ge=0, le=1)
    """How often the next item follows from the previous one rather than from taste and popularity alone."""
    drift: float = Field(0.7, ge=0)
    """How far popularity moves over the span: weights change by up to e to this power, up and down."""
    layout: Literal["100k", "1m", "latest"] = "100k"
    """movielens: u.data with tabs, ratings.dat with '::', or CSV with a header, half stars and tags."""
    gzip: bool = False
    """taobao: write UserBehavior.csv.gz."""
    dirt: Dirt = Dirt()
    """Flaws to plant."""

    @model_validator(mode="after")
    def _fits_source(self) -> "SimulateSettings":
        if self.source == "taobao" and self.layout != "100k":
            raise ValueError(f"layout {self.layout!r} is a MovieLens layout; leave it out for taobao")
        if self.source == "movielens" and self.gzip:
            raise ValueError("gzip is for taobao; MovieLens is not published that way")
        return self

    @property
    def span(self) -> int:
        """Days."""
        return self.days or (taobao.DAYS if self.source == "taobao" else movielens.DAYS)


def simulate(
    source: Literal["movielens", "taobao"],
    out: Path,
    users: int = 1000,
    items: int = 1000,
    days: int | None = None,
    seed: int = 0,
    *,
    events_per_user: float = 60,
    order: float = 0.55,
    drift: float = 0.7,
    layout: Literal["100k", "1m", "latest"] = "100k",
    gzip: bool = False,
    dirt: Dirt | Mapping[str, Any] | None = None,
) -> Path:
    """Write a log; equal arguments give equal bytes.

    Beside the raw files stand ``truth.json`` (settings; accounts that an ingest must arrive at) and ``truth.npz``
    (per item: source id, cluster, popularity, quality, successors; per user: source id, tastes).

    Returns:
        ``out``, the directory to give as ``raw``.

    Raises:
        SettingsError: a bad value, or ``out`` holds something that is not an earlier simulation.
    """
    planted = dirt.model_dump() if isinstance(dirt, Dirt) else dict(dirt or {})
    values = {
        "source": source, "out": out, "users": users, "items": items, "days": days, "seed": seed,
        "events_per_user": events_per_user, "order": order, "drift": drift, "layout": layout, "gzip": gzip,
        "dirt": planted,
    }  # fmt: skip
    run(SimulateSettings.resolve(values, use_environment=False))
    return out


def main(arguments: list[str]) -> int:
    """The command line."""
    settings = SimulateSettings.resolve(arguments=arguments, use_environment=False, program="hmar simulate")
    start = clock.perf_counter()
    truth = run(settings)
    accounts = truth["accounts"]
    seconds = clock.perf_counter() - start
    print(f"{settings.out}: {', '.join(truth['files'])}")
    print(
        f"{accounts['rows']:,} rows in {seconds:.1f} s: {accounts['events']:,} events, "
        f"{accounts['duplicates']:,} duplicates, {accounts['quarantined']:,} that must be quarantined"
    )
    print(", ".join(f"{name} {count:,}" for name, count in truth["behaviors"].items()))
    return 0


def run(s: SimulateSettings) -> dict[str, Any]:
    """Write the log and its truth; returns the content of truth.json."""
    _make_room(s.out)
    with new_directory(s.out) as directory:
        world = World.build(s.items, s.seed, s.drift)
        write_log = _write_taobao if s.source == "taobao" else _write_movielens
        log = write_log(s, directory, world)
        truth = {
            "settings": json.loads(s.model_dump_json(exclude={"out"})),
            "files": log.files,
            "accounts": {
                "rows": log.events + s.dirt.duplicates + s.dirt.quarantined,
                "events": log.events,
                "duplicates": s.dirt.duplicates,
                "quarantined": s.dirt.quarantined,
            },
            "behaviors": log.behaviors,
        }
        arrays = {**world.truth(), "item_id": log.item_id, "user_id": log.user_id, "user_tastes": log.tastes}
        np.savez_compressed(directory / "truth.npz", **arrays)  # type: ignore[arg-type]
        write_json(directory / "truth.json", truth)
    return truth


class _Log(NamedTuple):
    files: list[str]
    events: int
    behaviors: dict[str, int]
    item_id: NDArray[np.int64]
    user_id: NDArray[np.int64]
    tastes: Floats


def _make_room(out: Path) -> None:
    """Remove an earlier simulation or an empty directory; never anything else."""
    if not out.exists():
        return
    if not out.is_dir():
        raise SettingsError(f"out: {out} is a file; name a directory")
    marker = out / "truth.json"
    if marker.exists():
        for name in (*json.loads(marker.read_text(encoding="utf-8"))["files"], "truth.npz", "truth.json"):
            (out / Path(name).name).unlink(missing_ok=True)
    try:
        out.rmdir()
    except OSError:
        raise SettingsError(f"out: {out} holds files that are not an earlier simulation; name another") from None


def _blocks(users: int) -> list[tuple[int, int]]:
    """(first user, number of users) of each block."""
    return [(first, min(BLOCK, users - first)) for first in range(0, users, BLOCK)]


def _write_block(
    stream: IO[bytes], s: SimulateSettings, columns: Sequence[Any], separator: str, code_column: int, first: bool
) -> None:
    """Append the rows; the flawed ones all go into the first block."""
    lines = join(columns, separator)
    if first:
        rng = generator(s.seed, 2)
        some = rows_at(columns, rng.integers(len(lines), size=min(len(lines), 4096)))
        code = "view" if s.source == "taobao" else "9"
        extra = [separator.join(row) + "\n" for row in dirty_rows(s.dirt, rng, some, code, code_column)]
        lines = mixed(lines, extra, rng)
    write(stream, lines)


def _cut_line(stream: IO[bytes], s: SimulateSettings, columns: Sequence[Any], separator: str) -> None:
    """End the file with the beginning of a row."""
    if s.dirt.cut_last_line:
        last = rows_at(columns, np.array([0]))[0]
        stream.write(separator.join(last[:-1]).encode())


def _write_taobao(s: SimulateSettings, out: Path, world: World) -> _Log:
    rng = generator(s.seed, 3)
    item_id = rng.choice(5_000_000, s.items, replace=False) + 1
    # Categories are finer than tastes: a cluster spans several.
    category = 100_000 + 37 * (world.cluster * 4 + rng.integers(4, size=s.items))
    user_id = 1 + np.sort(rng.choice(max(1_000_000, 3 * s.users), s.users, replace=False))
    codes = pa.array(taobao.BEHAVIORS, pa.large_string())
    name = "UserBehavior.csv" + (".gz" if s.gzip else "")
    counts = np.zeros(len(taobao.BEHAVIORS), np.int64)
    tastes = np.empty((s.users, world.clusters))
    with raw_file(out / name) as stream:
        for number, (first, users) in enumerate(_blocks(s.users)):
            events, tastes[first : first + users] = taobao.block(
                world, generator(s.seed, 1, number), users, s.span, s.events_per_user, s.order
            )
            columns = [
                user_id[first + events.user],
                item_id[events.item],
                category[events.item],
                codes.take(pa.array(events.behavior)),
                events.time,
            ]
            _write_block(stream, s, columns, ",", code_column=3, first=number == 0)
            counts += np.bincount(events.behavior, minlength=len(counts))
        _cut_line(stream, s, columns, ",")
    behaviors = dict(zip(taobao.BEHAVIORS, counts.tolist(), strict=True))
    return _Log([name], int(counts.sum()), behaviors, item_id, user_id, tastes)


_LAYOUTS = {"100k": ("u.data", "\t"), "1m": ("ratings.dat", "::"), "latest": ("ratings.csv", ",")}


def _write_movielens(s: SimulateSettings, out: Path, world: World) -> _Log:
    rng = generator(s.seed, 3)
    item_id = 1 + rng.permutation(s.items)
    user_id = 1 + rng.permutation(s.users)
    name, separator = _LAYOUTS[s.layout]
    latest = s.layout == "latest"
    files = [name, *_write_films(s, out, world, item_id)] + (["tags.csv"] if latest else [])
    half = pa.array([f"{n / 2:.1f}" for n in range(11)], pa.large_string())
    counts = np.zeros(3, np.int64)
    tagged = 0
    tastes = np.empty((s.users, world.clusters))
    with ExitStack() as stack:
        stream = stack.enter_context(raw_file(out / name))
        tag_stream = stack.enter_context(raw_file(out / "tags.csv")) if latest else None
        if tag_stream:
            stream.write(b"userId,movieId,rating,timestamp\n")
            tag_stream.write(b"userId,movieId,tag,timestamp\n")
        for number, (first, users) in enumerate(_blocks(s.users)):
            rng = generator(s.seed, 1, number)
            ratings, tastes[first : first + users] = movielens.block(
                world, rng, users, s.span, s.events_per_user, s.order
            )
            stars = movielens.whole_stars(ratings.half_stars)
            # Published files are not in time order: u.data is shuffled, the others go by user and film.
            order = (
                rng.permutation(len(ratings))
                if s.layout == "100k"
                else np.lexsort((item_id[ratings.item], user_id[first + ratings.user]))
            )
            columns = [
                user_id[first + ratings.user][order],
                item_id[ratings.item][order],
                half.take(pa.array(ratings.half_stars[order])) if latest else stars[order],
                ratings.time[order],
            ]
            _write_block(stream, s, columns, separator, code_column=2, first=number == 0)
            given = ratings.half_stars if latest else 2 * stars
            counts += np.bincount(np.digitize(given, [5, 8]), minlength=3)
            if tag_stream:
                tagged += _write_tags(tag_stream, rng, ratings, user_id[first:], item_id)
        _cut_line(stream, s, columns, separator)
    behaviors = dict(zip(("dislike", "neutral", "like"), counts.tolist(), strict=True))
    if latest:
        behaviors = {"tag": tagged, **behaviors}
    return _Log(files, sum(behaviors.values()), behaviors, item_id, user_id, tastes)


def _write_tags(
    stream: IO[bytes],
    rng: np.random.Generator,
    ratings: movielens.Ratings,
    user_id: NDArray[np.int64],
    item_id: NDArray[np.int64],
) -> int:
    user, item, tag, time = movielens.tags(rng, ratings)
    quoted = ['"' + text.replace('"', '""') + '"' if set(text) & set(',"') else text for text in movielens.TAGS]
    text = pa.array(quoted, pa.large_string()).take(pa.array(tag))
    write(stream, join([user_id[user], item_id[item], text, time], ","))
    return len(user)


def _write_films(s: SimulateSettings, out: Path, world: World, item_id: NDArray[np.int64]) -> list[str]:
    """The file with the titles, as each layout names and encodes it."""
    by_id = np.argsort(item_id)
    names = movielens.titles(generator(s.seed, 4), s.items)
    genres = [movielens.GENRES[c % len(movielens.GENRES)] for c in world.cluster[by_id].tolist()]
    rows = list(zip(item_id[by_id].tolist(), names, genres, strict=True))
    if s.layout == "latest":
        text = "movieId,title,genres\n" + "".join(f"{i},{name},{genre}\n" for i, name, genre in rows)
        (out / "movies.csv").write_text(text, encoding="utf-8")
        return ["movies.csv"]
    if s.layout == "1m":
        lines = "".join(f"{i}::{name}::{genre}\n" for i, name, genre in rows)
        (out / "movies.dat").write_text(lines, encoding="latin-1")
        return ["movies.dat"]
    flags = {name: "|".join("1" if n == name else "0" for n in ("unknown", *movielens.GENRES)) for name in set(genres)}
    lines = "".join(f"{i}|{name}|01-Jan-{name[-5:-1]}||http://localhost/{i}|{flags[g]}|{'|'.join('0' * 8)}\n"
                    for i, name, g in rows)  # fmt: skip
    (out / "u.item").write_text(lines, encoding="latin-1")
    return ["u.item"]
