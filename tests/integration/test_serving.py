"""The logged model on its own: a clean process, a foreign directory, no ``hmar`` but the one that travels with it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmar.data.snapshot import Snapshot
from hmar.export import load, save
from hmar.serving.mlflow_model import REQUIREMENTS, log_model, requirements
from hmar.serving.service import Service
from hmar.tracking.run import TrackedRun
from tests.support.arrays import random_users, write_snapshot
from tests.support.untrained import untrained

REQUEST: dict[str, Any] = {
    "items": [[1003, 1001, 77, 1002], []],
    "behaviors": [["buy", "view", "view", "cart"], []],
    "timestamps": [[30, 10, 15, 20], []],
}


@dataclass(frozen=True)
class Logged:
    """A registered version of an untrained HMAR."""

    uri: str
    exported: Path
    root: Path
    name: str = "made_up"


def logged(root: Path, string_ids: bool) -> Logged:
    snapshot = write_snapshot(root / "snapshot", random_users(20, 30, 3, 12), items=30, repeats=False)
    if string_ids:
        path = snapshot.path / "items.parquet"
        items = pq.read_table(path)
        pq.write_table(items.set_column(1, "item_id", items.column("item_id").cast(pa.string())), path)
        manifest = json.loads((snapshot.path / "manifest.json").read_text()) | {"item_id_type": "string"}
        (snapshot.path / "manifest.json").write_text(json.dumps(manifest))
        snapshot = Snapshot(snapshot.path)
    uri = f"sqlite:///{root}/mlflow.db"
    run = TrackedRun.open(uri, experiment="made_up", identity="one", name="hmar")
    exported = save(root / "model", untrained("hmar", snapshot), snapshot, "leave_one_out", 10)
    info = log_model(exported, uri, run.run_id, registered_name="made_up")
    run.client.set_registered_model_alias("made_up", "champion", info.registered_model_version)
    return Logged(uri, exported, root)


@pytest.fixture(scope="module", params=[False, True], ids=["int64 ids", "string ids"])
def champion(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    return logged(tmp_path_factory.mktemp("serving"), request.param)


def clean_environment(uri: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HMAR_"))}
    return kept | {"MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}


def test_mlflow_models_predict_in_a_clean_process(champion: Logged, tmp_path: Path) -> None:
    item_ids = load(champion.exported).item_ids
    items = [[str(item) if pa.types.is_string(item_ids.type) else item for item in row] for row in REQUEST["items"]]
    columns = {**REQUEST, "items": items}
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    payload = {"dataframe_split": {"columns": list(columns), "data": rows}, "params": {"k": 4}}
    (tmp_path / "input.json").write_text(json.dumps(payload))
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("mlflow"), "models", "predict", "-m", f"models:/{champion.name}@champion"),
            *("-i", "input.json", "--content-type", "json", "--env-manager", "local", "-o", "output.json"),
        ],
        cwd=tmp_path,
        env=clean_environment(champion.uri),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "output.json").read_text())["predictions"]
    expected = Service(load(champion.exported)).recommend(*columns.values(), k=4)
    assert [row["items"] for row in answer] == expected[0]
    for row, scores in zip(answer, expected[1], strict=True):
        np.testing.assert_allclose(row["scores"], scores, rtol=1e-5, atol=1e-5)


SCRIPT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError(f"{{name}} is not among the model's requirements")

sys.meta_path.insert(0, Absent())
import mlflow, pandas

model = mlflow.pyfunc.load_model("models:/{name}@champion")
example = model.input_example
answer = model.predict(example)
assert list(answer.columns) == ["items", "scores"], answer.columns
assert len(answer["items"][0]) == 10
import hmar
assert "code" in hmar.__file__, hmar.__file__
try:
    model.predict(example.assign(behaviors=[["view", "view", "byu", "view"]]))
except Exception as error:
    print(type(error).__name__, error)
"""


def test_only_the_listed_requirements_are_imported(champion: Logged, tmp_path: Path) -> None:
    blocked = ("lightning_fabric", "duckdb", "great_expectations", "airflow", "pipeline")
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT.format(blocked=blocked, name=champion.name)],
        cwd=tmp_path,
        env=clean_environment(champion.uri),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "DataError row 0: unknown behavior 'byu'; did you mean 'buy'?" in done.stdout


def test_no_pickle_and_pinned_requirements(champion: Logged) -> None:
    files = [path for path in (champion.root / "mlartifacts").rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]
    assert {path.name for path in files} >= {"weights.safetensors", "config.json", "items.parquet", "pyfunc_model.py"}
    written = next(path for path in files if path.name == "requirements.txt").read_text().split()
    assert written == requirements()
    assert len(written) == len(REQUIREMENTS)
    assert all("==" in line and "+" not in line for line in written)
