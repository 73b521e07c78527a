"""The settings files of kept tables: valid on every dataset, and no row of one is another in disguise."""

from itertools import combinations
from pathlib import Path

import pytest

from hmar.models import MODELS, model_class
from pipeline.benchmark import cells
from pipeline.benchmark.settings import BenchmarkSettings
from pipeline.training import training_settings

FILES = sorted(Path(__file__).parents[2].glob("benchmarks/*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_rows_are_valid_and_differ(file: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row's mappings are merged with the preset's, so a row can look different and be the same."""
    monkeypatch.chdir(checkout)
    b = BenchmarkSettings.resolve({}, yaml_file=file, use_environment=False)
    assert b.name == file.stem
    cells.check(b)
    for dataset in b.datasets:
        trained = {}
        for label, row in b.rows.items():
            s = cells.retrain_settings(b, dataset, b.splits[0], label, 0)
            found = training_settings(s, row.model, Path("snapshot"), "run")
            config = model_class(row.model).Config.model_validate(found.config)
            trained[label] = found.model_dump() | {"config": config.model_dump()}
        for (one, its), (other, others) in combinations(trained.items(), 2):
            assert its != others, f"{dataset}: {one} and {other} are the same training"


def test_all_models_are_all_models(checkout: Path) -> None:
    b = BenchmarkSettings.resolve({}, yaml_file=checkout / "benchmarks" / "all-models.yaml", use_environment=False)
    assert sorted(row.model for row in b.rows.values()) == sorted(MODELS)
