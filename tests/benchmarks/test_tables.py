"""What the command lines of the benchmarks have in common."""

import shlex
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hmar_leaks import LeaksSettings
from benchmarks.tables import command, kept, run_benchmark, tell
from hmar.errors import DataError, SettingsError

SCRIPTS = (
    "atrank",
    "data_loading",
    "dfar",
    "evaluate",
    "funnel",
    "hmar_leaks",
    "ingest",
    "on_gpu",
    "peers",
    "published",
    "repeat_and_new",
    "sequences",
    "snapshot",
    "time_to_quality",
    "train_step",
)

MADE_ANEW = (
    "atrank",
    "data_loading",
    "dfar",
    "funnel",
    "hmar_leaks-generated",
    "hmar_leaks-ml-100k",
    "hmar_leaks-taobao",
    "published-ml-100k",
    "repeat_and_new",
    "time_to_quality",
)
ADDED_TO = ("evaluate", "ingest", "sequences", "snapshot", "train_step")


def test_tables_are_kept_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results" / "made"
    assert kept(out) == {}
    assert run_benchmark(lambda: out, lambda path: tell(path, {"b": 1, "a": [2]}, "# Made\n")) == 0
    assert capsys.readouterr().out == "# Made\n\n"
    assert list(kept(out).items()) == [("b", 1), ("a", [2])], "in the order of the numbers: it is that of the rows"
    assert out.with_suffix(".md").read_text(encoding="utf-8") == "# Made\n"


def test_the_command_gives_the_settings() -> None:
    base = ["--dataset", "taobao", "--raw", "/somewhere/raw"]
    given = ["--seeds", "3,4", "--ties", "file", "--overrides", '{"hmar": {"lr": 0.1}}', "--epochs", "7"]
    always, changed = ("dataset", "raw", "epochs"), ("seeds", "ties", "train", "overrides")
    for words in (given, []):
        s = LeaksSettings.resolve(arguments=[*base, *words], use_environment=False)
        printed = command("benchmarks.hmar_leaks", s, always, changed)
        assert printed.startswith("python -m benchmarks.hmar_leaks --dataset taobao --raw RAW --epochs ")
        again = LeaksSettings.resolve(arguments=shlex.split(printed)[3:], use_environment=False)
        assert again.model_dump(exclude={"raw"}) == s.model_dump(exclude={"raw"})
    assert "--seeds" not in printed


def test_numbers_that_cannot_be_read_are_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "made.json").write_text('{"a": [')
    assert run_benchmark(lambda: tmp_path / "made", lambda out: tell(out, {**kept(out), "b": 1}, "")) != 0
    assert "made.json: not JSON" in capsys.readouterr().err
    assert (tmp_path / "made.json").read_text() == '{"a": ['


@pytest.mark.parametrize("name", MADE_ANEW)
def test_kept_numbers_give_the_kept_tables(name: str, checkout: Path) -> None:
    script = import_module(f"benchmarks.{'leak_table' if name.startswith('hmar_leaks') else name.partition('-')[0]}")
    out = checkout / "benchmarks" / "results" / name
    assert script.markdown(kept(out)) == out.with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ADDED_TO)
def test_a_number_that_is_kept_again_changes_nothing(name: str, checkout: Path, tmp_path: Path) -> None:
    """Of the scripts that measure a part and add it to what is there."""
    before, out = checkout / "benchmarks" / "results" / name, tmp_path / name
    shutil.copy(before.with_suffix(".json"), out.with_suffix(".json"))
    key, found = next(iter(kept(before).items()))
    again: tuple[Any, ...] = (key, next(iter(found.values()))) if name == "evaluate" else (found,)
    import_module(f"benchmarks.{name}").write(out, *again)
    for ending in (".json", ".md"):
        assert out.with_suffix(ending).read_text() == before.with_suffix(ending).read_text(encoding="utf-8")


def test_a_measurement_that_fails_is_one_line_and_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    def measure(_: object) -> None:
        raise DataError("log.csv: empty")

    assert run_benchmark(lambda: None, measure) == DataError.exit_code
    assert capsys.readouterr() == ("", "error: log.csv: empty\n")


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_refuses_an_unknown_flag_in_one_line(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_module(f"benchmarks.{script}").main(["--ouf", "x"]) == SettingsError.exit_code
    told = capsys.readouterr().err
    assert told.startswith("error: unknown flag --ouf")
    assert len(told.splitlines()) == 1
