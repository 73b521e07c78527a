import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks import learners, time_to_quality
from benchmarks.time_to_quality import SPLIT, Log, TimeToQuality, choose, main, prepare, reached, summary
from hmar.data.counting import PriorCounts
from hmar.data.snapshot import Snapshot
from hmar.data.targets import histories_for
from hmar.errors import SettingsError
from hmar.evaluate.judge import judge
from hmar.models.base import Vocabulary
from hmar.models.sasrec import SASRec, SASRecConfig

LENGTH = time_to_quality.NETWORK["length"]


def told(*ndcg: float, prepared: float = 1.0) -> dict[str, Any]:
    """A run that judged an epoch every ten seconds, seven of them training and two judging."""
    rows = [
        {"epoch": place, "train": 7.0 * place, "judge": 2.0, "at": prepared + 10.0 * place, "ndcg": value}
        for place, value in enumerate(ndcg, 1)
    ]
    return {"prepared": prepared, "evaluations": rows, "batch_size": 32, "lr": 1e-3}


def test_time_ends_with_the_first_evaluation_at_or_above_the_value() -> None:
    row = reached(told(0.1, 0.2, 0.15, 0.3), 0.2)
    assert row is not None
    assert row["epoch"] == 2
    found = summary([told(0.1, 0.2, 0.3), told(0.3), told(0.1, 0.1, 0.2)], 0.2)
    assert (found["runs"], found["reached"]) == (3, 3)
    assert (found["at"], found["least"], found["most"]) == (21, 11, 31)
    assert (found["train"], found["judge"], found["epochs"]) == (14, 4, 2)


def test_run_that_does_not_get_there_counts_with_all_its_time_as_a_lower_bound() -> None:
    found = summary([told(0.1, 0.1)], 0.2)
    assert (found["reached"], found["at"], found["ndcg"]) == (0, 21, 0.1)


def test_settings_that_reach_the_value_in_least_training_are_chosen() -> None:
    slow = told(0.1, 0.2, 0.9) | {"lr": 1.0}
    fast = told(0.2, 0.2) | {"lr": 2.0}
    never = told(0.19) | {"lr": 3.0}
    assert choose([slow, fast, never], 0.2)["lr"] == 2.0
    assert choose([never, told(0.1)], 0.2)["lr"] == 3.0


def test_unknown_contender_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--contenders", '["hmar", "rectolls"]']) == SettingsError.exit_code
    assert "rectools" in capsys.readouterr().err
    assert main(["--contenders", '["rectools"]']) == SettingsError.exit_code
    assert "add it" in capsys.readouterr().err


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of seconds, and a grid of one point."""
    dials = {"users": 120, "items": 90, "events-per-user": 30, "seed": 1}
    monkeypatch.setattr(time_to_quality, "SIMULATED", {"ml-100k": dials})
    monkeypatch.setattr(time_to_quality, "GRID", {"ml-100k": [{"batch_size": 32, "lr": 4e-3}]})
    monkeypatch.setattr(time_to_quality, "PATIENCE", 2)


@pytest.fixture
def log(small: None, work: Path) -> Log:
    return prepare(TimeToQuality(work=work), "ml-100k")


@pytest.mark.slow
def test_peers_read_the_events_and_targets_that_we_read(log: Log) -> None:
    snapshot = Snapshot(log.snapshot)
    ends = snapshot.train_end(SPLIT)
    table = pq.read_table(log.directory / "training.parquet")
    assert len(table) == int((ends - snapshot.offsets[:-1]).sum())
    items = snapshot.items.column("item_id").to_numpy()
    users = snapshot.users.column("user_id").to_numpy()
    order = np.lexsort((table.column("event_time").to_numpy(), table.column("user_id").to_numpy()))
    read = table.column("item_id").to_numpy()[order]
    expected = [items[snapshot.item[snapshot.offsets[user] : ends[user]]] for user in np.argsort(users)]
    np.testing.assert_array_equal(read, np.concatenate(expected))
    atomic = np.loadtxt(log.directory / "recbole" / "recbole.inter", delimiter="\t", skiprows=1)
    assert atomic[np.lexsort((atomic[:, 2], atomic[:, 0])), 1].tolist() == read.tolist()


@pytest.mark.slow
def test_peers_are_judged_as_we_are(log: Log) -> None:
    snapshot = Snapshot(log.snapshot)
    torch.manual_seed(0)
    model = SASRec(SASRecConfig(d=8), Vocabulary.of(snapshot)).eval()
    torch.nn.init.normal_(model.items.weight)
    model.fit_counts(snapshot, SPLIT)
    targets = snapshot.targets(SPLIT, "validation")
    prior = PriorCounts(snapshot)
    read = learners.Targets(log.directory / "targets.npz")
    numbers = {item: place for place, item in enumerate(snapshot.items.column("item_id").to_pylist())}

    def scores(part: np.ndarray) -> np.ndarray:
        some = targets.take(part)
        with torch.inference_mode():
            histories = histories_for(snapshot, some, LENGTH)
            return model.score_all(histories, prior.history_items(some.user, some.history_end)).numpy()

    lengths = targets.history_end - snapshot.offsets[targets.user]
    found = read.ndcg(scores, read.columns(numbers.get), lengths)
    expected = judge(model, snapshot, SPLIT, "validation", max_length=LENGTH, sampled=False, top=0).mean("ndcg@10")
    assert found == pytest.approx(expected, rel=1e-9)
    assert found > 0


@pytest.mark.slow
def test_real_training_is_timed_and_kept(small: None, log: Log, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = {"work": work, "logs": '["ml-100k"]', "contenders": '["hmar"]', "threads": "[1]", "repeats": 1}
    words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
    words += ["--out", str(work / "result"), "--tuning-seconds", "600"]
    assert main([*words, "--stop-after", "1e-9"]) == 0  # ends before the first run
    assert "more runs to do" in capsys.readouterr().out
    assert main(words) == 0
    result = json.loads((work / "result.json").read_text(encoding="utf-8"))["logs"]["ml-100k"]
    (made,) = result["timed"]["hmar"]["1"]
    row = made["evaluations"][-1]
    assert row["ndcg"] >= result["value"] > 0
    assert made["prepared"] > 0
    assert row["at"] > made["prepared"] + row["train"]
    table = (work / "result.md").read_text(encoding="utf-8")
    assert "### 1 thread" in table
    assert "| hmar |" in table
    capsys.readouterr()
    assert main(words) == 0
    assert "ml-100k-hmar" not in capsys.readouterr().out  # all of it was there
