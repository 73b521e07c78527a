"""``hmar_benchmark`` under a live scheduler on SQLite: every registered model on a made-up log, to a table."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmar.models import MODELS
from pipeline.services.client import AirflowClient
from tests.integration.conftest import Services
from tests.support.airflow_runs import finish

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SECONDS = 1000
"""A run of a model takes some twenty seconds, nearly all of it imports, and four run at once."""


@pytest.fixture
def four_slots(sqlite_services: Services) -> Iterator[AirflowClient]:
    """Where nothing waits for a GPU, runs of models need not take turns."""
    api = sqlite_services.api
    api.set_pool("gpu", 4, "for as long as a test runs")
    yield api
    api.set_pool("gpu", 1, "one at a time")


def test_every_registered_model_ends_in_the_table(four_slots: AirflowClient) -> None:
    log = {"source": "movielens", "users": 80, "items": 50, "events_per_user": 25, "seed": 2}
    conf = {
        "name": "all",
        "datasets": {"films": {"generated": log}},
        "splits": ["leave_one_out"],
        "seeds": [0],
        "train": {"max_epochs": 1},
        "baselines": {"best rule": ["popularity", "recent"]},
    }
    api = four_slots
    run_id = finish(api, conf, "hmar_benchmark", SECONDS)
    told = api.result("hmar_benchmark", run_id, "tables")
    assert (told["cells"], told["missing"]) == (len(MODELS), [])
    (table,) = json.loads(Path(told["markdown"]).with_suffix(".json").read_text(encoding="utf-8"))["tables"]
    assert set(table["rows"]) == set(MODELS)
    for name, row in table["rows"].items():
        assert 0 <= row["mean"]["test/full/all/ndcg@10"] <= 1, name
        assert row["cost"]["milliseconds_per_1000"] > 0, name
    cells = [one for one in api.task_instances("hmar_benchmark", run_id) if one["task_id"] == "cell"]
    assert {one["pool"] for one in cells} == {"gpu"}
    assert {one["rendered_map_index"] for one in cells} == {f"films, leave_one_out, {name}, seed 0" for name in MODELS}
