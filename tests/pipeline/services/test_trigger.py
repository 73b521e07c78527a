"""What ``hmar trigger`` sends, and what the terminal shows of what comes back."""

import json
from io import StringIO
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from hmar.errors import ServiceError, SettingsError
from pipeline.cli import main
from pipeline.form import resolve
from pipeline.home import Home
from pipeline.results import Evaluated, Recommended
from pipeline.services.client import AirflowClient
from pipeline.services.control import client, status
from pipeline.services.follow import TrainingLogs, metrics_table, print_results
from pipeline.services.ports import any_free
from pipeline.services.settings import HomeSettings
from pipeline.services.trigger import TriggerSettings, conf
from pipeline.settings import RetrainSettings

OWN = set(TriggerSettings.model_fields) - set(RetrainSettings.model_fields)


def sent(*words: str) -> dict[str, object]:
    return conf(TriggerSettings.resolve(arguments=list(words)))


def test_only_what_was_chosen_is_sent() -> None:
    assert sent("--dataset", "movielens", "--raw", "/data") == {"dataset": "movielens", "raw": "/data"}


def test_choices_are_sent_nested_as_in_a_settings_file_and_mean_the_same() -> None:
    words = ["--dataset", "taobao", "--raw", "/data", "--snapshot.k-core.user", "5", "--models", "recent", "--follow"]
    chosen = sent(*words)
    assert chosen == {
        "dataset": "taobao",
        "raw": "/data",
        "models": ["recent"],
        "snapshot": {"k_core": {"user": 5}},
    }
    s = resolve(chosen)
    assert (s.snapshot.k_core.user, s.snapshot.target, s.models) == (5, "buy", ("recent",))


def test_a_relative_path_is_made_absolute_for_airflow_stands_elsewhere() -> None:
    assert sent("--dataset", "movielens", "--raw", "data")["raw"] == str(Path("data").absolute())


def test_where_things_lie_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HMAR_HOME", "/elsewhere")
    monkeypatch.setenv("HMAR_SEED", "3")
    assert sent("--dataset", "movielens", "--raw", "/data") == {"dataset": "movielens", "raw": "/data", "seed": 3}


def test_a_log_of_ones_own_is_sent_whole(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(
        "{dataset: table, name: shop, raw: /logs/*.csv, day: 2017-11-25, table: {user: u, item: i, behavior: b, "
        "time: t, behaviors: [view: [pv, 1], buy]}}",
        encoding="utf-8",
    )
    s = TriggerSettings.resolve(arguments=["--seed", "3"], yaml_file=file)
    assert resolve(json.loads(json.dumps(conf(s)))).model_dump() == s.model_dump(exclude=OWN)


def test_a_typo_is_refused_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trigger", "--dataset", "movielens", "--raw", "/d", "--modles", "hmar"]) == SettingsError.exit_code
    assert "did you mean '--models'" in capsys.readouterr().err


def test_nothing_was_started(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="hmar up"):
        client(Home(tmp_path))


def test_a_run_of_no_use_is_told_with_a_warning(tmp_path: Path) -> None:
    results = {
        "evaluate": Evaluated(model="a", directory=tmp_path, mlflow_run="r", metrics={"validation": {"ndcg@10": 0.0}}),
        "recommend": Recommended(path=tmp_path / "r.parquet", users=0, rows=0, champion="1"),
    }

    class Api:
        def result(self, _dag: str, _run: str, task: str, _index: int = -1) -> object:
            return results[task].model_dump(mode="json") if task in results else None

        def task_instances(self, _dag: str, _run: str) -> list[dict[str, object]]:
            return [{"task_id": "evaluate", "state": "success", "map_index": 0}]

    console = Console(file=StringIO(), width=200)
    print_results(cast("AirflowClient", Api()), "hmar_retrain", "r", console)
    shown = cast("StringIO", console.file).getvalue()
    assert "warning: validation ndcg@10 is 0 for every model" in shown
    assert "warning: recommendations were written for 0 users" in shown


def test_what_is_stopped_has_no_address(tmp_path: Path) -> None:
    console = Console(file=StringIO(), width=200)
    assert not status(HomeSettings.resolve({"home": tmp_path}, use_environment=False), console)
    shown = cast("StringIO", console.file).getvalue()
    assert "stopped" in shown
    assert "http" not in shown


def test_nobody_answers() -> None:
    address = f"http://127.0.0.1:{any_free()}"
    with AirflowClient(address) as api, pytest.raises(ServiceError, match=f"airflow at {address}: does not answer"):
        api.health()


def test_best_model_stands_first_and_a_missing_part_stays_blank() -> None:
    def one(model: str, **metrics: dict[str, float]) -> Evaluated:
        return Evaluated(model=model, directory=Path(), mlflow_run="", metrics=metrics)

    results = [
        one("popularity", validation={"ndcg@10": 0.3, "hr@10": 0.4, "mrr": 0.2}, test={"ndcg@10": 0.1}),
        one("hmar", validation={"ndcg@10": 0.2}, test={"ndcg@10": 0.25}),
    ]
    rows = [cells for cells in _rows(results) if cells[:1] in (["hmar"], ["popularity"])]
    assert rows == [["hmar", "0.2000", "0.2500"], ["popularity", "0.3000", "0.4000", "0.2000", "0.1000"]]


def test_what_orders_the_models_has_its_interval() -> None:
    parts = ("validation", "test")
    measured = Evaluated(
        model="hmar",
        directory=Path(),
        mlflow_run="",
        metrics={part: {"ndcg@10": 0.25, "hr@10": 0.5} for part in parts},
        intervals={part: {"ndcg@10": (0.2, 0.31), "hr@10": (0.4, 0.6)} for part in parts},
    )
    as_stored = Evaluated.model_validate(measured.model_dump(mode="json"))
    last = [["hmar", *["0.2500", "0.5000"] * 2], ["0.2000-0.3100"], ["ranges:", "bootstrap", "over", "users"]]
    assert _rows([as_stored])[-3:] == last


def _rows(results: list[Evaluated]) -> list[list[str]]:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(metrics_table(results))
    return [line.split() for line in captured.get().splitlines()]


def test_training_lines_come_once_and_whole(tmp_path: Path) -> None:
    logs = TrainingLogs(tmp_path)
    assert logs.new_lines() == []
    (tmp_path / "hmar").mkdir()
    log = tmp_path / "hmar" / "train.log"
    log.write_text("2026-01-02 03:04:05,678 INFO hmar.train: epoch 1/2 lo")
    assert logs.new_lines() == []
    with log.open("a") as stream:
        stream.write("ss 0.5\nsecond line\nthird")
    assert logs.new_lines() == ["hmar: epoch 1/2 loss 0.5", "hmar: second line"]
    assert logs.new_lines() == []
