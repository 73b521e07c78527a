"""ATRank and DFAR, really trained and judged: their papers' pictures beside the metrics, in MLflow, and by command."""

import json
from pathlib import Path

import pytest
import yaml

from hmar.data.snapshot import Snapshot
from hmar.tracking.client import connect
from pipeline.cli import main
from pipeline.results import Built, Evaluated
from pipeline.settings import RetrainSettings
from pipeline.stages.evaluate import evaluate
from pipeline.stages.snapshot import build
from pipeline.stages.train import train
from tests.support.events import publish_events
from tests.support.tiny_snapshot import random_events, snapshot_run

pytestmark = pytest.mark.slow
RUN = "night"
STUDIES = {"atrank": ("spaces", "spaces_cart"), "dfar": ("head_pairs",)}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[RetrainSettings, Built, dict[str, Evaluated]]:
    home = tmp_path_factory.mktemp("rankers")
    shown = {"sampled": 2, "negative": ["view"], "tasks": ["cart"]}
    tiny = snapshot_run(home, candidates=10, impressions=shown)
    overrides = {
        "atrank": {"config": {"d": 8, "spaces": 2, "tasks": ["buy", "cart"]}},
        "dfar": {"config": {"d": 8, "positions": 20}},
    }
    values = tiny.model_dump() | {
        "models": list(STUDIES),
        "train": {"threads": 1, "device": "cpu", "max_length": 20, "max_epochs": 1},
        "overrides": overrides,
        "explain": {"users": 5},
    }
    s = RetrainSettings.resolve(values, use_environment=False)
    built = build(s, publish_events(s.paths.events(s.name), random_events(60, 30, 2000, seed=5)))
    return s, built, {model: evaluate(s, built, train(s, built, model, RUN)) for model in s.models}


@pytest.mark.parametrize("model", STUDIES)
def test_beside_the_metrics_and_in_mlflow(
    judged: tuple[RetrainSettings, Built, dict[str, Evaluated]], model: str
) -> None:
    s, built, evaluated = judged
    one = evaluated[model]
    directory = one.directory / "evaluation" / built.id / s.split
    client = connect(s.mlflow_uri)
    logged = {f.path for place in ("evaluation", "plots") for f in client.list_artifacts(one.mlflow_run, place)}
    for name in STUDIES[model]:
        assert json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))["part"] == "test"
        assert (directory / f"plots/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert {f"evaluation/{name}.json", f"plots/{name}.png"} <= logged
    others = {name for of, names in STUDIES.items() for name in names if of != model}
    assert not {path.stem for path in directory.rglob("*")} & others


@pytest.mark.parametrize("model", STUDIES)
def test_by_command(
    judged: tuple[RetrainSettings, Built, dict[str, Evaluated]],
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    s, built, evaluated = judged
    (tmp_path / "settings.yaml").write_text(
        yaml.safe_dump(s.model_dump(mode="json", exclude_none=True)), encoding="utf-8"
    )
    user = str(Snapshot(built.snapshot).users.column("user_id")[17].as_py())
    words = ["--run", RUN, "--model", model, "--top", "1", "--out", str(tmp_path / "out")]
    assert main(["explain", "--user", user, *words, "--settings", str(tmp_path / "settings.yaml")]) == 0
    told = capsys.readouterr().out
    directory = evaluated[model].directory / "evaluation" / built.id / s.split
    for name in STUDIES[model]:
        drawn = tmp_path / "out" / f"{name}-{model}_of_{RUN}.png"
        assert str(drawn) in told
        assert drawn.read_bytes().startswith(b"\x89PNG")
        assert drawn.with_suffix(".json").read_bytes() == (directory / f"{name}.json").read_bytes()
