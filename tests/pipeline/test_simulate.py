"""The simulator: formats to the byte, accounts to the row, and a structure that can be learned."""

import gzip
import hashlib
import json
import re
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hmar.errors import SettingsError
from pipeline.simulate import Dirt, SimulateSettings, main, simulate
from pipeline.simulate.world import PERIODS, World, generator, sessions_of

DIRT = Dirt(duplicates=9, outside_window=4, unknown_codes=3, short_lines=2, cut_last_line=True)
TAOBAO_ROW = re.compile(r"\d+,\d+,\d+,(pv|fav|cart|buy),15\d{8}")


def truth(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "truth.json").read_text(encoding="utf-8"))
    return content


def digests(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}


def test_taobao_rows_are_what_the_source_publishes(tmp_path: Path) -> None:
    out = simulate("taobao", tmp_path / "log", users=120, items=80, seed=1)
    text = (out / "UserBehavior.csv").read_text(encoding="ascii")
    lines = text.splitlines()
    assert text.endswith("\n")
    assert all(TAOBAO_ROW.fullmatch(line) for line in lines)
    assert len(lines) == len(set(lines)) == truth(out)["accounts"]["events"]
    seconds = [int(line.rsplit(",", 1)[1]) for line in lines]
    assert min(seconds) >= 1_511_539_200
    assert max(seconds) < 1_511_539_200 + 9 * 86_400
    category = {line.split(",")[1]: line.split(",")[2] for line in lines}
    assert all(category[line.split(",")[1]] == line.split(",")[2] for line in lines)
    assert Counter(line.split(",")[3] for line in lines) == truth(out)["behaviors"]
    # Users stand in one piece, as in the published file.
    users = [line.split(",")[0] for line in lines]
    assert 1 + sum(a != b for a, b in pairwise(users)) == len(set(users)) == 120


def test_every_flaw_is_there_in_the_given_number(tmp_path: Path) -> None:
    clean = simulate("taobao", tmp_path / "clean", users=120, items=80, seed=1)
    dirty = simulate("taobao", tmp_path / "dirty", users=120, items=80, seed=1, dirt=DIRT)
    clean_lines = (clean / "UserBehavior.csv").read_text(encoding="ascii").splitlines()
    text = (dirty / "UserBehavior.csv").read_text(encoding="ascii")
    lines = text.splitlines()
    assert not text.endswith("\n")
    assert lines[-1].count(",") == 3
    body = lines[:-1]
    assert sum(line.count(",") == 3 for line in body) == DIRT.short_lines
    assert sum(",view," in line for line in body) == DIRT.unknown_codes
    old = {line for line in body if line.count(",") == 4 and int(line.rsplit(",", 1)[1]) < 1_000_000}
    assert len(old) == DIRT.outside_window
    extra = Counter(body) - Counter(clean_lines)
    assert sum(n for line, n in extra.items() if TAOBAO_ROW.fullmatch(line)) == DIRT.duplicates
    rest = iter(body)
    assert all(line in rest for line in clean_lines), "the clean rows stand in their order"
    assert truth(dirty)["accounts"] == {
        "rows": len(lines),
        "events": len(clean_lines),
        "duplicates": DIRT.duplicates,
        "quarantined": DIRT.quarantined,
    }


def test_gzip_holds_the_same_rows(tmp_path: Path) -> None:
    plain = simulate("taobao", tmp_path / "plain", users=50, items=40, seed=2)
    packed = simulate("taobao", tmp_path / "packed", users=50, items=40, seed=2, gzip=True)
    assert gzip.decompress((packed / "UserBehavior.csv.gz").read_bytes()) == (plain / "UserBehavior.csv").read_bytes()


@pytest.mark.parametrize(
    ("layout", "name", "separator", "header"),
    [
        ("100k", "u.data", "\t", None),
        ("1m", "ratings.dat", "::", None),
        ("latest", "ratings.csv", ",", "userId,movieId,rating,timestamp"),
    ],
)
def test_movielens_layouts(tmp_path: Path, layout: Any, name: str, separator: str, header: str | None) -> None:
    out = simulate("movielens", tmp_path / "log", users=100, items=90, seed=3, layout=layout)
    lines = (out / name).read_text(encoding="ascii").splitlines()
    if header:
        assert lines.pop(0) == header
    rows = [line.split(separator) for line in lines]
    assert {len(row) for row in rows} == {4}
    allowed = {f"{n / 2:.1f}" for n in range(1, 11)} if layout == "latest" else set("12345")
    assert {row[2] for row in rows} == allowed
    pairs = [(row[0], row[1]) for row in rows]
    assert len(pairs) == len(set(pairs)), "a film is rated once per user"
    behaviors = Counter("dislike" if float(r[2]) <= 2 else "neutral" if float(r[2]) < 4 else "like" for r in rows)
    told = truth(out)["behaviors"]
    assert {k: v for k, v in told.items() if k != "tag"} == behaviors
    ties = Counter((row[0], row[3]) for row in rows)
    assert max(ties.values()) > 1, "several ratings within one second are part of the real data"


def test_tags_are_quoted_as_csv_wants(tmp_path: Path) -> None:
    import csv

    out = simulate("movielens", tmp_path / "log", users=300, items=150, seed=4, layout="latest")
    with (out / "tags.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == truth(out)["behaviors"]["tag"] > 100
    assert {'based on a "true" story', "sci-fi, but not only", "überlang"} <= {row["tag"] for row in rows}
    assert len({(r["userId"], r["movieId"], r["timestamp"]) for r in rows}) == len(rows)


def test_titles_stand_beside_the_ratings(tmp_path: Path) -> None:
    out = simulate("movielens", tmp_path / "log", users=30, items=150, seed=4)
    rows = [line.split("|") for line in (out / "u.item").read_text(encoding="latin-1").splitlines()]
    assert [int(row[0]) for row in rows] == list(range(1, 151))
    assert {len(row) for row in rows} == {24}
    assert len({row[1] for row in rows}) == 150
    assert any("É" in row[1] for row in rows)


@pytest.mark.parametrize("source", ["movielens", "taobao"])
def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path: Path, source: Any) -> None:
    one = digests(simulate(source, tmp_path / "one", users=60, items=50, seed=5, dirt=DIRT))
    two = digests(simulate(source, tmp_path / "two", users=60, items=50, seed=5, dirt=DIRT))
    other = digests(simulate(source, tmp_path / "other", users=60, items=50, seed=6, dirt=DIRT))
    assert one == two
    assert all(one[name] != other[name] for name in one if name != "truth.json")


def test_an_earlier_simulation_is_replaced_and_nothing_else_ever(tmp_path: Path) -> None:
    out = simulate("movielens", tmp_path / "log", users=30, items=30, layout="latest")
    simulate("taobao", out, users=30, items=30)
    assert {path.name for path in out.iterdir()} == {"UserBehavior.csv", "truth.json", "truth.npz"}
    (out / "mine.txt").write_text("keep")
    with pytest.raises(SettingsError, match="holds files that are not an earlier simulation"):
        simulate("taobao", out, users=30, items=30)
    assert (out / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "taobao", "--layout", "1m"], "leave it out for taobao"),
        (["--source", "movielens", "--gzip"], "gzip is for taobao"),
        (["--source", "taobao", "--user", "5"], "did you mean '--users'"),
        (["--source", "taobao", "--users", "many"], "users: .*valid integer"),
        (["--source", "yelp"], "source: "),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        main([*arguments, "--out", str(tmp_path / "log")])
    assert not (tmp_path / "log").exists()


def test_command_line_prints_the_accounts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--users", "40", "--items", "40", "--dirt.duplicates", "2", "--dirt.cut-last-line"]
    assert main(["--source", "taobao", "--out", str(tmp_path / "log"), *flags]) == 0
    printed = capsys.readouterr().out
    accounts = truth(tmp_path / "log")["accounts"]
    assert f"{accounts['events']:,} events, 2 duplicates, 1 that must be quarantined" in printed


def test_function_and_command_have_the_same_defaults() -> None:
    import inspect

    given = {name: p.default for name, p in inspect.signature(simulate).parameters.items()}
    for name, field in SimulateSettings.model_fields.items():
        if name in {"source", "out", "dirt"}:
            continue
        assert given[name] == field.default, name


def test_later_users_do_not_change_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks have generators of their own, so a longer log begins with the events of the shorter one."""
    from pipeline.simulate import command

    monkeypatch.setattr(command, "BLOCK", 40)

    def events(users: int) -> list[list[str]]:
        out = simulate("taobao", tmp_path / str(users), users=users, items=60, seed=7)
        lines = (out / "UserBehavior.csv").read_text(encoding="ascii").splitlines()
        by_user: dict[str, list[str]] = defaultdict(list)
        for line in lines:
            user, rest = line.split(",", 1)
            by_user[user].append(rest)
        return list(by_user.values())

    assert events(120)[:40] == events(40)


# -- structure -------------------------------------------------------------------------------------------------------


def test_buys_are_mostly_of_viewed_items_and_carts_lead_to_them(tmp_path: Path) -> None:
    out = simulate("taobao", tmp_path / "log", users=800, items=500, seed=8)
    rows = [line.split(",") for line in (out / "UserBehavior.csv").read_text(encoding="ascii").splitlines()]
    first: dict[tuple[str, str, str], int] = {}
    for user, item, _, behavior, second in rows:
        first.setdefault((user, item, behavior), int(second))
    bought = [key for key in first if key[2] == "buy"]
    viewed_before = np.mean([first.get((u, i, "pv"), 1 << 40) < first[(u, i, b)] for u, i, b in bought])
    assert 0.6 < viewed_before < 0.95
    carted = {(u, i) for u, i, b in first if b == "cart"}
    viewed = {(u, i) for u, i, b in first if b == "pv"}
    sold = {(u, i) for u, i, _ in bought}
    assert len(carted & sold) / len(carted) > 5 * len((viewed - carted) & sold) / len(viewed - carted)
    counts = truth(out)["behaviors"]
    assert counts["pv"] > counts["cart"] > counts["buy"] > 0.03 * counts["pv"]


def test_evenings_are_busier_than_nights(tmp_path: Path) -> None:
    out = simulate("taobao", tmp_path / "log", users=300, items=200, seed=8)
    lines = (out / "UserBehavior.csv").read_text(encoding="ascii").splitlines()
    hour = np.array([(int(line.rsplit(",", 1)[1]) + 8 * 3600) // 3600 % 24 for line in lines])
    assert np.isin(hour, [20, 21, 22]).mean() > 4 * np.isin(hour, [3, 4, 5]).mean()


def test_order_dial_sets_how_often_a_successor_follows() -> None:
    world = World.build(300, seed=1, drift=0.5)
    shares = []
    for order in (0.0, 0.5, 1.0):
        rng = generator(1, 9)
        count = 4000
        cluster = rng.integers(world.clusters, size=count)
        items, offsets = world.chains(rng, rng.integers(PERIODS, size=count), cluster, np.full(count, 5), order)
        inner = np.delete(np.arange(len(items)), offsets[1:] - 1)
        follows = (world.successors[items[inner]] == items[inner + 1][:, None]).any(axis=1)
        shares.append(follows.mean())
        assert (world.cluster[items] == np.repeat(cluster, 5)).all()
    assert shares[0] < 0.25 < 0.5 < shares[1] < 0.7 < shares[2] == 1.0


def test_draws_follow_the_weights_of_the_period() -> None:
    world = World.build(60, seed=3, drift=1.0)
    rng = generator(3, 9)
    seen = [np.bincount(world.draw(rng, np.full(60_000, p), np.zeros(60_000, np.int64)), minlength=60) for p in (0, 4)]
    assert all(set(np.flatnonzero(s)) <= set(np.flatnonzero(world.cluster == 0)) for s in seen)
    weights = np.diff(world.cumulative.reshape(PERIODS, -1)[:, : (world.cluster == 0).sum()], prepend=0)
    members = world.order[: (world.cluster == 0).sum()]
    weights[1:, 0] = world.cumulative.reshape(PERIODS, -1)[1:, 0] - np.arange(1, PERIODS) * world.clusters
    for period, counts in zip((0, 4), seen, strict=True):
        np.testing.assert_allclose(counts[members] / 60_000, weights[period], atol=0.012)
    assert np.abs(seen[0] - seen[1]).sum() > 0.1 * 60_000, "popularity drifts"


def test_successors_are_of_the_same_cluster_and_never_the_item_itself() -> None:
    for items in (20, 61, 1000):
        world = World.build(items, seed=2, drift=0.7)
        assert (world.cluster[world.successors] == world.cluster[:, None]).all()
        assert (world.successors != np.arange(items)[:, None]).all()


def test_sessions_cut_events_without_losing_any() -> None:
    rng = generator(5, 1)
    events = rng.integers(2, 90, size=500)
    user, length = sessions_of(rng, events, mean=8)
    assert (np.bincount(user, weights=length) == events).all()
    assert length.min() >= 1
    assert 5 < length.mean() < 11


def test_an_item_to_item_rule_beats_popularity_clearly(tmp_path: Path) -> None:
    """The least that an honest model must find: what follows what."""
    out = simulate("movielens", tmp_path / "log", users=600, items=300, seed=9)
    rows = sorted(
        (int(u), int(t), int(i)) for u, i, _, t in (x.split("\t") for x in (out / "u.data").read_text().splitlines())
    )
    history: dict[int, list[int]] = defaultdict(list)
    for user, _, item in rows:
        history[user].append(item)
    follows = np.zeros((301, 301))
    popular = np.zeros(301)
    for items in history.values():
        np.add.at(follows, (items[:-2], items[1:-1]), 1)
        np.add.at(popular, items[:-1], 1)

    def hit_rate(scores: Any) -> float:
        hits = []
        for items in history.values():
            s = scores(items).astype(float)
            s[items[:-1]] = -1
            hits.append((s > s[items[-1]]).sum() < 10)
        return float(np.mean(hits))

    assert hit_rate(lambda items: follows[items[-2]] + 1e-6 * popular) > 2 * hit_rate(lambda items: popular)


@pytest.mark.slow
def test_a_million_rows_take_seconds(tmp_path: Path) -> None:
    import time

    start = time.perf_counter()
    out = simulate("taobao", tmp_path / "log", users=17_000, items=20_000, seed=10)
    seconds = time.perf_counter() - start
    rows = truth(out)["accounts"]["rows"]
    assert rows > 900_000
    # About 40 million rows a minute on a quiet machine; ten is the promise.
    assert rows / seconds * 60 > 10e6
