"""``hmar simulate``: from settings to a directory."""

import json
import time as clock
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hmar.errors import SettingsError
from pipeline.simulate import truth
from pipeline.simulate.again import deliver_again
from pipeline.simulate.delivery import Delivery, Piece, pieces
from pipeline.simulate.dirt import Dirt, clean, plant
from pipeline.simulate.formats.base import Log
from pipeline.simulate.seasons import Season
from pipeline.simulate.settings import SimulateSettings
from pipeline.simulate.world import DAY, Ints, World, generator
from pipeline.storage.atomic import new_directory

BLOCK = 4000
"""Users that are made at a time: bounds the memory, and is part of what a seed means."""


def simulate(
    source: str,
    out: Path,
    users: int = 1000,
    items: int = 1000,
    days: int | None = None,
    seed: int = 0,
    *,
    events_per_user: float = 60,
    order: float = 0.55,
    funnel: float = 1.0,
    drift: float = 0.7,
    season: float | None = None,
    layout: str = "",
    per_day: bool = False,
    gzip: bool = False,
    workers: int = 4,
    dirt: Dirt | Mapping[str, Any] | None = None,
) -> Path:
    """Write a log; equal arguments give equal bytes.

    Beside the raw files stand ``truth.json`` and ``truth.npz``, see :mod:`pipeline.simulate.truth`.

    Returns:
        ``out``, the directory to give as ``raw``.

    Raises:
        SettingsError: a bad value, or ``out`` holds something that is not an earlier simulation.
    """
    planted = dirt.model_dump() if isinstance(dirt, Dirt) else dict(dirt or {})
    values = {
        "source": source, "out": out, "users": users, "items": items, "days": days, "seed": seed,
        "events_per_user": events_per_user, "order": order, "funnel": funnel, "drift": drift, "season": season,
        "layout": layout, "per_day": per_day, "gzip": gzip, "workers": workers, "dirt": planted,
    }  # fmt: skip
    run(SimulateSettings.resolve(values, use_environment=False))
    return out


def main(arguments: list[str]) -> int:
    """The command line."""
    settings = SimulateSettings.resolve(arguments=arguments, use_environment=False, program="hmar simulate")
    start = clock.perf_counter()
    told = run(settings)
    accounts = told["accounts"]
    seconds = clock.perf_counter() - start
    files = told["files"]
    print(f"{settings.out}: {', '.join(files[:5])}" + (f" and {len(files) - 5} more files" if len(files) > 5 else ""))
    print(
        f"{accounts['rows']:,} rows in {seconds:.1f} s: {accounts['events']:,} events, "
        f"{accounts['duplicates']:,} duplicates, {accounts['quarantined']:,} that must be quarantined"
    )
    print(", ".join(f"{name} {count:,}" for name, count in told["behaviors"].items()))
    return 0


def run(s: SimulateSettings) -> dict[str, Any]:
    """Write the log and its truth; returns the content of truth.json."""
    _make_room(s.out)
    with new_directory(s.out) as directory:
        world = World.build(s.items, s.seed, s.drift)
        season = Season.build(s.format.start, s.span, s.format.offset, s.swing, s.format.holiday)
        log = s.format.log(s, world, season)
        delivery = Delivery(directory)
        users, clusters, shares = [], [], []
        counts = np.zeros(len(log.behaviors), np.int64)
        for made in _blocks(s, log, (season.end - 1) // DAY):
            for piece in made.pieces:
                delivery.append(piece)
            delivery.late.update(map(tuple, made.late.tolist()))
            counts += made.counts
            users.append(made.users)
            clusters.append(made.clusters)
            shares.append(made.shares)
        if s.dirt.cut_last_line:
            delivery.append_cut(log.kinds[0], made.first_row)
        delivery.close()
        deliver_again(s, delivery, log.kinds[0])
        beside = log.beside(directory, delivery.folders())
        behaviors = dict(zip(log.behaviors, counts.tolist(), strict=True))
        told = truth.told(s, log, season, delivery, behaviors, beside)
        known = truth.arrays(world, log, np.concatenate(users), np.concatenate(clusters), np.concatenate(shares))
        truth.write(directory, told, known)
    return told


@dataclass(frozen=True)
class _Made:
    """One block of users: pieces of files, late rows [L, 2], events by behavior, the users, their favorite clusters."""

    pieces: list[Piece]
    late: Ints
    counts: Ints
    users: Any
    clusters: Any
    shares: Any
    first_row: list[Any]


def _blocks(s: SimulateSettings, log: Log, last_day: int) -> Iterator[_Made]:
    """The blocks in order, some made ahead."""
    starts = range(0, s.users, BLOCK)
    with ThreadPoolExecutor(s.workers) as pool:
        ahead: deque[Future[_Made]] = deque()
        try:
            for number, first in enumerate(starts):
                ahead.append(pool.submit(_block, s, log, number, first, min(BLOCK, s.users - first), last_day))
                if len(ahead) > s.workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for one in ahead:
                one.cancel()


def _block(s: SimulateSettings, log: Log, number: int, first: int, users: int, last_day: int) -> _Made:
    batches, tastes = log.block(number, first, users)
    here, before = s.dirt.share(first, users, s.users)
    made: list[Piece] = []
    counts = np.zeros(len(log.behaviors), np.int64)
    late = np.empty((0, 2), np.int64)
    for batch in batches:
        kind = log.kinds[batch.kind]
        if batch.kind == 0 and here != Dirt():
            planted = plant(here, before, generator(s.seed, 2, number), log, kind, batch, last_day)
            late = planted.late
        else:
            planted = clean(kind, batch)
        made += pieces(kind, planted, s.per_day)
        counts += np.bincount(batch.behavior, minlength=len(counts))
    clusters, shares = truth.favorites(tastes)
    first_row = [column[:1] for column in batches[0].columns]
    return _Made(made, late, counts, log.user_id(first, users), clusters, shares, first_row)


def _make_room(out: Path) -> None:
    """Remove an earlier simulation or an empty directory; never anything else."""
    if not out.exists():
        return
    if not out.is_dir():
        raise SettingsError(f"out: {out} is a file; name a directory")
    marker = out / truth.JSON
    if marker.exists():
        files = [out / name for name in json.loads(marker.read_text(encoding="utf-8"))["files"]]
        inside = [path for path in files if path.resolve().is_relative_to(out.resolve())]
        for path in (*inside, out / truth.ARRAYS, marker):
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in inside} - {out}:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    try:
        out.rmdir()
    except OSError:
        raise SettingsError(f"out: {out} holds files that are not an earlier simulation; name another") from None
