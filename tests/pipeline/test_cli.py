"""The command line: help, exit codes, one line per error, nothing heavy before it is needed."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.cli import COMMANDS, Command, main

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "duckdb", "mlflow", "pandas", "great_expectations", "matplotlib", "airflow", "pyarrow", "scipy")


def _run(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *words],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("words", [[], ["--help"], ["help"]])
def test_help_lists_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    shown = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name} " in shown
        assert command.help in shown


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):  # argparse's way to end after its help
        assert main([name, "--help"]) == 0
    assert f"usage: hmar {name}" in capsys.readouterr().out


def test_help_tells_flags_defaults_and_sections(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main(["retrain", "--help"])
    shown = capsys.readouterr().out
    for part in (
        "--dry-run",
        "--snapshot.k-core.user N",
        "--snapshot.repeats, --no-snapshot.repeats",
        "--recommend.k N",
        "Items per user. (default: 20)",
        "--dataset TEXT",
        "(required)",
        "One of ndcg@10, hr@10",
    ):
        assert part in shown


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\nfrom pipeline.cli import main\n"
        "for words in (['--help'], ['retrain', '--help'], ['recommend', '--help'], ['schema']): main(words)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("hmar 0.")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["retrian"], 78, "error: unknown command 'retrian'; did you mean 'retrain'?\n"),
        (["--hepl"], 78, "error: unknown flag '--hepl'"),
        (["retrain"], 78, "error: dataset: is required\nerror: raw: is required\n"),
        (["retrain", "--datset", "x"], 78, "error: unknown flag --datset; did you mean '--dataset'?\n"),
        (
            ["retrain", "--epochs", "3"],
            78,
            "error: unknown flag --epochs; did you mean --train '{\"max_epochs\": 3}'?\n",
        ),
        (["train", "--loss=bpr"], 78, 'error: unknown flag --loss=bpr; did you mean --train \'{"loss": "bpr"}\'?\n'),
        (["tune", "--mdoel", "x"], 78, "error: unknown flag --mdoel; did you mean '--model'?\n"),
        (
            ["retrain", "--dataset", "movielens", "--raw", "nowhere"],
            65,
            f"error: raw: nowhere does not exist (looked for {Path('nowhere').absolute()})",
        ),
        (["recommend", "--dataset", "movielens"], 65, "no events are published here; run `hmar ingest` first\n"),
        (["evaluate", "--dataset", "movielens", "--run", "x"], 65, "error: run 'x' has no trainings of movielens in "),
        (["promote", "--dataset", "movielens"], 65, "no run of movielens has trainings; run 'hmar train'"),
        (["models", "hmra"], 78, "error: unknown model 'hmra'; did you mean 'hmar'?\n"),
        (["models", "a", "b"], 78, "error: hmar models takes one name (given: a b)\n"),
        (["schema", "x"], 78, "error: hmar schema takes no flags (given: x)\n"),
    ],
)
def test_errors_are_one_line_with_an_exit_code(
    words: list[str], code: int, message: str, home: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("HMAR_HOME", str(home))
    assert main(words) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert all(line.startswith("error: ") for line in shown.err.splitlines())


def test_settings_file_stands_below_the_flags(home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "u.data").write_text("1\t1\t5\t900000000\n", encoding="utf-8")
    file.write_text(f"dataset: movielens\nraw: {raw}\nhome: {home}\nmodels: [hmar, recent]\n", encoding="utf-8")
    assert main(["retrain", "--settings", str(file), "--models", "sasrec", "--dry-run", "--run", "x"]) == 0
    shown = capsys.readouterr().out
    assert "train sasrec: at most" in shown
    assert "recent" not in shown
    assert str(home / "reports" / "x" / "report.html") in shown
    assert not (home / "events").exists()


def test_a_dry_run_says_that_rules_are_not_trained(
    home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "u.data").write_text("1\t1\t5\t900000000\n", encoding="utf-8")
    words = ["retrain", "--dataset", "movielens", "--raw", str(tmp_path), "--home", str(home), "--dry-run"]
    assert main([*words, "--models", "sasrec,popularity,recent"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("epochs") == 1
    for rule in ("popularity", "recent"):
        assert f"make {rule}: a rule, nothing of it is trained" in shown


def test_unknown_key_in_the_settings_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("dataset: movielens\nraw: log\nmodles: [hmar]\n", encoding="utf-8")
    assert main(["retrain", "--settings", str(file)]) == 78
    assert capsys.readouterr().err == f"error: {file}: modles: unknown setting; did you mean 'models'?\n"


def test_mlflow_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str], home: Path) -> None:
    words = ["retrain", "--dataset", "movielens", "--raw", str(ROOT / "pipeline"), "--home", str(home)]
    assert main([*words, "--tracking-uri", "http://127.0.0.1:9", "--dry-run"]) == 69
    assert "error: MLflow at http://127.0.0.1:9: " in capsys.readouterr().err


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["required"] == ["dataset", "raw"]


def test_interrupt_and_disk_errors_have_their_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.COMMANDS, "interrupted", Command("tests.support.commands:interrupted", ""))
    monkeypatch.setitem(cli.COMMANDS, "full", Command("tests.support.commands:disk_full", ""))
    assert main(["interrupted"]) == 130
    assert capsys.readouterr().err == "error: interrupted; the same command goes on from here\n"
    assert main(["full"]) == 74
    assert capsys.readouterr().err == "error: /data/x: No space left on device\n"


def test_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m pipeline.cli schema | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_models_tells_kinds_and_whole_sentences(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["models"]) == 0
    told = {line.split()[0]: " ".join(line.split()[1:]) for line in capsys.readouterr().out.splitlines()}
    assert told["gru4rec"].startswith("encoder GRU4Rec: ")
    assert told["gru4rec"].endswith("CIKM 2018, arXiv 1706.03847).")
    assert told["din"] == "ranker DIN: deep interest network (Zhou et al., KDD 2018, arXiv 1706.06978)."
    assert told["popularity"] == "rule Popularity: everyone is offered what most training events are about."


@pytest.mark.parametrize(
    ("model", "values"),
    [
        ("sasrec", {"lr": "0.0006", "loss": "bce", "select_metric": "ndcg@10"}),
        ("din", {"loss": "log_loss", "gbce_t": "none"}),
    ],
)
def test_models_tells_what_a_training_is_set_to(
    model: str, values: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["models", model]) == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {words[0]: words[1] for words in told if len(words) > 1}
    assert {key: shown[key] for key in values} == values
    assert shown["batch_size"] == "128"
    assert not {"snapshot", "out", "tracking"} & set(shown)
    main(["models", "popularity"])
    assert "batch_size" not in capsys.readouterr().out


@pytest.mark.parametrize("unbuffered", ["", "-u"])
def test_work_goes_on_when_the_reader_leaves(tmp_path: Path, unbuffered: str) -> None:
    code = (
        "import sys\nfrom pipeline import cli\n"
        "cli.COMMANDS['talk'] = cli.Command('tests.support.commands:talkative', '')\n"
        f"sys.exit(cli.main(['talk', {str(tmp_path / 'end')!r}]))"
    )
    (tmp_path / "talk.py").write_text(code, encoding="utf-8")
    command = f"PYTHONPATH=. {sys.executable} {unbuffered} {tmp_path / 'talk.py'} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "printed 0\n", "")
    assert (tmp_path / "end").read_text(encoding="utf-8") == "through"


@pytest.mark.parametrize("words", ["models", "--help", "schema"])
def test_what_is_only_shown_ends_well_when_the_reader_leaves(words: str) -> None:
    command = f"{sys.executable} -m pipeline.cli {words} | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_doctor_finds_this_machine_in_order(home: Path) -> None:
    done = _run("doctor", "--home", str(home))
    assert done.returncode == 0, done.stdout
    assert all(line.startswith("ok ") for line in done.stdout.splitlines())
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_doctor_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = _run("doctor", "--home", str(tmp_path / "file" / "home"), "--tracking-uri", "http://127.0.0.1:9")
    assert done.returncode == 1
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert failed == ["home", "mlflow"]
