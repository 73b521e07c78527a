"""What the command lines of the benchmarks have in common."""

from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.tables import kept, run_benchmark, tell
from hmar.errors import DataError, SettingsError

SCRIPTS = (
    "atrank",
    "data_loading",
    "evaluate",
    "funnel",
    "hmar_leaks",
    "ingest",
    "on_gpu",
    "peers",
    "published",
    "sequences",
    "snapshot",
    "time_to_quality",
    "train_step",
)


def test_tables_are_kept_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results" / "made"
    assert kept(out) == {}
    assert run_benchmark(lambda: out, lambda path: tell(path, {"b": 1, "a": [2]}, "# Made\n")) == 0
    assert capsys.readouterr().out == "# Made\n\n"
    assert kept(out) == {"a": [2], "b": 1}
    assert out.with_suffix(".md").read_text(encoding="utf-8") == "# Made\n"


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
