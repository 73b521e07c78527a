"""Settings, files and truth."""

import gzip
import inspect
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from hmar.errors import SettingsError
from pipeline.simulate import SimulateSettings, main, simulate
from pipeline.simulate.formats import FORMATS
from tests.pipeline.simulate.logs import CASES, digests, every_flaw, known, lines, truth


def test_gzip_holds_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.simulate import command

    monkeypatch.setattr(command, "BLOCK", 20)
    plain = simulate("taobao", tmp_path / "plain", users=50, items=40, seed=2)
    packed = simulate("taobao", tmp_path / "packed", users=50, items=40, seed=2, gzip=True)
    assert gzip.decompress((packed / "UserBehavior.csv.gz").read_bytes()) == (plain / "UserBehavior.csv").read_bytes()


@pytest.mark.parametrize(("source", "layout"), CASES)
def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path: Path, source: str, layout: str) -> None:
    settings: dict[str, Any] = {"users": 60, "items": 50, "layout": layout, "dirt": every_flaw(source, layout)}
    one = digests(simulate(source, tmp_path / "one", seed=5, **settings))
    two = digests(simulate(source, tmp_path / "two", seed=5, **settings))
    other = digests(simulate(source, tmp_path / "other", seed=6, **settings))
    assert one == two
    assert all(one[name] != other[name] for name in one if name not in {"truth.json", "shop.yaml"})


def test_an_earlier_simulation_is_replaced_and_nothing_else_ever(tmp_path: Path) -> None:
    out = simulate("yelp", tmp_path / "log", users=30, items=30, per_day=True, days=5)
    assert len([path for path in out.iterdir() if path.is_dir()]) == 5
    simulate("movielens", out, users=30, items=30, layout="latest")
    simulate("taobao", out, users=30, items=30)
    assert {path.name for path in out.iterdir()} == {"UserBehavior.csv", "truth.json", "truth.npz"}
    (out / "mine.txt").write_text("keep")
    with pytest.raises(SettingsError, match="holds files that are not an earlier simulation"):
        simulate("taobao", out, users=30, items=30)
    assert (out / "mine.txt").read_text() == "keep"


def test_a_truth_that_names_files_elsewhere_removes_none_of_them(tmp_path: Path) -> None:
    out = tmp_path / "log"
    out.mkdir()
    (tmp_path / "precious.csv").write_text("keep")
    (out / "truth.json").write_text('{"files": ["../precious.csv"]}')
    simulate("taobao", out, users=30, items=30)
    assert (tmp_path / "precious.csv").read_text() == "keep"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "taobao", "--layout", "1m"], "leave it out for taobao"),
        (["--source", "movielens", "--layout", "lates"], "movielens has no 'lates'; did you mean 'latest'"),
        (["--source", "movielens", "--gzip"], "movielens is not published that way"),
        (["--source", "table", "--layout", "parquet", "--gzip"], "Parquet is not published that way"),
        (["--source", "taobao", "--user", "5"], "did you mean '--users'"),
        (["--source", "taobao", "--users", "many"], "users: .*valid integer"),
        (["--source", "tmall", "--days", "300"], "a log of tmall can have 186 at most"),
        (["--source", "yelp", "--days", "2000", "--per-day"], "at most 1000 days"),
        (["--source", "netflix"], "source: "),
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
    given = {name: p.default for name, p in inspect.signature(simulate).parameters.items()}
    for name, field in SimulateSettings.model_fields.items():
        if name in {"source", "out", "dirt"}:
            continue
        assert given[name] == field.default, name


def test_every_format_can_be_named() -> None:
    from typing import get_args

    assert set(get_args(SimulateSettings.model_fields["source"].annotation)) == set(FORMATS)
    assert all(form.name == name for name, form in FORMATS.items())


def test_every_source_of_the_pipeline_can_be_made() -> None:
    from pipeline.sources import SOURCES

    assert set(FORMATS) == {*SOURCES, "table"}


def test_later_users_do_not_change_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks have generators of their own, so a longer log begins with the events of the shorter one."""
    from pipeline.simulate import command

    monkeypatch.setattr(command, "BLOCK", 40)

    def events(users: int) -> list[list[str]]:
        out = simulate("taobao", tmp_path / str(users), users=users, items=60, seed=7)
        by_user: dict[str, list[str]] = defaultdict(list)
        for line in lines(out / "UserBehavior.csv"):
            user, rest = line.split(",", 1)
            by_user[user].append(rest)
        return list(by_user.values())

    assert events(120)[:40] == events(40)


@pytest.mark.parametrize(("source", "layout"), [("taobao", ""), ("amazon", "csv-2014"), ("kuairand", "")])
def test_truth_names_users_and_items_as_the_log_does(tmp_path: Path, source: str, layout: str) -> None:
    out = simulate(source, tmp_path / "log", users=60, items=40, seed=7, layout=layout)
    (name,) = truth(out)["files"]
    split = [line.split(",") for line in lines(out / name)][1 if source == "kuairand" else 0 :]
    told = known(out)

    def texts(ids: str) -> set[str]:
        return {one.decode() if isinstance(one, bytes) else str(one) for one in told[ids].tolist()}

    assert {row[0] for row in split} == texts("user_id")
    assert {row[1] for row in split} <= texts("item_id")
    assert told["user_shares"].shape == told["user_clusters"].shape
    assert (told["user_shares"][:, :-1] >= told["user_shares"][:, 1:]).all()
