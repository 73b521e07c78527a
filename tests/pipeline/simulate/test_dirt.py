"""Flaws in exact numbers, the clean rows as they are without them."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hmar.errors import SettingsError
from pipeline.simulate import Dirt, simulate
from pipeline.simulate.formats import FORMATS
from tests.pipeline.simulate.logs import CASES, FLAWS, digests, every_flaw, lines, log_files, truth

MAIN = {"movielens": "ratings", "yelp": "review"}


def main_file(out: Path, source: str) -> Path:
    """The file that has the flaws."""
    names = [name for name in log_files(out) if MAIN.get(source, "") in name or name == "u.data"]
    return out / names[0]


def test_every_flaw_of_a_taobao_log_can_be_found_by_eye(tmp_path: Path) -> None:
    dirt = Dirt.model_validate({**FLAWS, "shuffled_rows": 0})
    clean = simulate("taobao", tmp_path / "clean", users=120, items=80, seed=1)
    dirty = simulate("taobao", tmp_path / "dirty", users=120, items=80, seed=1, dirt=dirt)
    good = lines(clean / "UserBehavior.csv")
    text = (dirty / "UserBehavior.csv").read_text(encoding="ascii")
    assert not text.endswith("\n")
    *body, last = text.split("\n")
    assert 0 < last.count(",") < 4 or last.isdigit()
    short = [line for line in body if line.count(",") < 4]
    assert len(short) == dirt.short_lines + dirt.cut_lines
    whole = [line for line in body if line.count(",") == 4]
    assert sum(",view," in line for line in whole) == dirt.unknown_codes
    times = [int(line.rsplit(",", 1)[1]) for line in whole]
    assert sum(0 < time < 1_000_000 for time in times) == dirt.outside_window
    assert sum(time == 0 for time in times) == dirt.zero_time
    assert sum(10**12 > time >= 4_102_444_800 for time in times) == dirt.far_future
    assert sum(time > 10**12 for time in times) == dirt.wrong_unit
    extra = Counter(body) - Counter(good)
    assert sum(n for line, n in extra.items() if line in set(good)) == dirt.duplicates
    rest = iter(body)
    assert all(line in rest for line in good), "the clean rows stand in their order"
    # A cut line may stand anywhere, and cut lines are cut anywhere.
    where = [number for number, line in enumerate(body) if line.count(",") < 4]
    assert max(where) - min(where) > len(body) // 2
    assert len({line.count(",") for line in short}) > 1
    assert truth(dirty)["accounts"] == {
        "rows": len(body) + 1,
        "events": len(good),
        "duplicates": dirt.duplicates,
        "quarantined": dirt.quarantined,
    }
    assert sum(truth(dirty)["reasons"].values()) == dirt.quarantined


@pytest.mark.parametrize(("source", "layout"), CASES)
def test_flaws_only_add_rows(tmp_path: Path, source: str, layout: str) -> None:
    dirt = every_flaw(source, layout)
    clean = simulate(source, tmp_path / "clean", users=60, items=50, seed=2, layout=layout)
    dirty = simulate(source, tmp_path / "dirty", users=60, items=50, seed=2, layout=layout, dirt=dirt)
    told = truth(dirty)["accounts"]
    assert told["events"] == truth(clean)["accounts"]["rows"]
    assert (told["duplicates"], told["quarantined"]) == (dirt.duplicates, dirt.quarantined)
    good, bad = main_file(clean, source), main_file(dirty, source)
    if good.suffix == ".parquet":
        before, after = (Counter(map(str, pq.read_table(path).to_pylist())) for path in (good, bad))
    else:
        before, after = Counter(lines(good)), Counter(lines(bad))
    assert before <= after
    assert (after - before).total() == dirt.duplicates + dirt.quarantined
    if good.suffix == ".json":
        broken = 0
        for line in lines(bad):
            try:
                json.loads(line)
            except ValueError:
                broken += 1
        assert broken == dirt.cut_lines + dirt.cut_last_line


def test_shuffled_rows_are_the_same_rows_elsewhere(tmp_path: Path) -> None:
    plain = simulate("taobao", tmp_path / "plain", users=60, items=50, seed=2)
    mixed = simulate("taobao", tmp_path / "mixed", users=60, items=50, seed=2, dirt={"shuffled_rows": 40})
    one, two = lines(plain / "UserBehavior.csv"), lines(mixed / "UserBehavior.csv")
    assert Counter(one) == Counter(two)
    place = {line: number for number, line in enumerate(one)}
    moved = {line for line in two if abs(place[line] - two.index(line)) > 50}
    assert 25 < len(moved) <= 40
    rest = [place[line] for line in two if line not in moved]
    assert sum(b != a + 1 for a, b in pairwise(rest)) < 200
    assert truth(mixed)["accounts"] == truth(plain)["accounts"]


def test_numbers_are_exact_over_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.simulate import command

    clean = simulate("taobao", tmp_path / "one", users=100, items=50, seed=2)
    monkeypatch.setattr(command, "BLOCK", 7)
    out = simulate("taobao", tmp_path / "many", users=100, items=50, seed=2, dirt=FLAWS)
    told = truth(out)["accounts"]
    assert told["duplicates"] == FLAWS["duplicates"]
    found = lines(out / "UserBehavior.csv")
    assert len(found) == told["rows"]
    assert sum(",view," in line for line in found) == FLAWS["unknown_codes"]
    # Blocks have streams of their own, so the log differs from one in a single block, but not by much.
    assert 0.8 < told["events"] / truth(clean)["accounts"]["events"] < 1.25


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(("source", "layout"), [("taobao", ""), ("yelp", "2018"), ("table", "parquet")])
def test_bytes_do_not_depend_on_the_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, layout: str, workers: int
) -> None:
    from pipeline.simulate import command

    monkeypatch.setattr(command, "BLOCK", 9)
    settings: dict[str, Any] = {
        "users": 70,
        "items": 50,
        "seed": 2,
        "layout": layout,
        "dirt": every_flaw(source, layout),
    }
    some = simulate(source, tmp_path / "some", workers=workers, **settings)
    many = simulate(source, tmp_path / "many", workers=8, **settings)
    assert digests(some) == digests(many)


@pytest.mark.parametrize(
    ("source", "layout", "dirt", "message"),
    [
        ("tmall", "", {"duplicates": 1}, "duplicates makes no sense for tmall: equal rows are separate events"),
        ("tianchi", "", {"duplicates": 1}, "dirt.duplicate_files delivers whole files twice"),
        ("tmall", "", {"wrong_unit": 1}, "its times have no unit"),
        ("yelp", "", {"wrong_unit": 1}, "its times have no unit"),
        ("table", "parquet", {"cut_lines": 1}, "a Parquet file has no lines"),
        ("table", "parquet", {"cut_last_line": True}, "a Parquet file has no lines"),
        ("taobao", "", {"late_rows": 1}, "dirt.late_rows needs per_day"),
        ("taobao", "", {"duplicate_files": 1}, "dirt.duplicate_files needs per_day"),
        ("taobao", "", {"shuffled_rows": 10**6}, "dirt.shuffled_rows: more rows than the log can give"),
        ("taobao", "", {"typos": 1}, "unknown setting"),
    ],
)
def test_flaws_that_make_no_sense_are_refused(
    tmp_path: Path, source: str, layout: str, dirt: dict[str, int], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        simulate(source, tmp_path / "log", users=30, items=30, layout=layout, dirt=dirt)
    assert not (tmp_path / "log").exists()


def test_every_flaw_is_planted_somewhere() -> None:
    assert set(FLAWS) | {"late_rows", "duplicate_files"} == set(Dirt.model_fields)
    for source, layout in CASES:
        assert every_flaw(source, layout).quarantined >= 19
    assert {name for name, form in FORMATS.items() if "duplicates" in form.refuses} == {"tmall", "tianchi"}
