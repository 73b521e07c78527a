"""Judged models with a known outcome, beside a real MLflow store: what register and promote decide about."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from hmar import export
from hmar.data.snapshot import Snapshot
from hmar.evaluate import per_target
from hmar.evaluate.judge import Judgement
from hmar.train.directory import RunRecord
from pipeline.registry import Registry, registered_name
from pipeline.results import Built, Evaluated, Registered
from pipeline.settings import RetrainSettings
from pipeline.stages.register import register
from pipeline.storage.atomic import write_json
from tests.support.untrained import untrained


@dataclass(frozen=True)
class Shop:
    """A dataset with a snapshot and an MLflow store of its own."""

    s: RetrainSettings
    built: Built

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(self.built.snapshot)

    @property
    def registry(self) -> Registry:
        return Registry(self.s)

    def with_settings(self, **sections: object) -> "Shop":
        return Shop(self.s.model_copy(update=sections), self.built)

    def in_home(self, home: Path) -> "Shop":
        """The same dataset with a data directory of its own: the events and the empty MLflow store are copied."""
        home.mkdir(parents=True)
        shutil.copy(self.s.paths.root / "mlflow.db", home / "mlflow.db")
        shutil.copytree(self.s.paths.root / "events", home / "events")
        values = self.s.model_dump() | {"home": home}
        return Shop(RetrainSettings.resolve(values, use_environment=False), self.built)

    def ranks(self, rank: int, better: int | None = None, share: float = 0.0) -> np.ndarray:
        """Every test target at ``rank``, the first ``share`` of them at ``better``."""
        targets = self.snapshot.targets(self.s.split, "test")
        found = np.full(len(targets), float(rank))
        if better is not None:
            found[: round(share * len(found))] = better
        return found

    def judged(
        self, run: str, model: str, ranks: Sequence[float] | np.ndarray, validation: float, logged: bool = True
    ) -> Evaluated:
        """What train and evaluate leave of a model whose test targets got these ranks under full ranking."""
        client = self.registry.client
        experiment = client.get_experiment_by_name(registered_name(self.s))
        experiment_id = (
            experiment.experiment_id
            if experiment
            else client.create_experiment(
                registered_name(self.s), artifact_location=self.s.paths.mlflow_artifacts.as_uri()
            )
        )
        mlflow_run = client.create_run(experiment_id).info.run_id
        directory = self.s.paths.training(run, model)
        exported = export.save(
            directory / "model", untrained(model, self.snapshot, self.s.split), self.snapshot, self.s.split, 20
        )
        record = RunRecord(
            training=f"{run} {model}", status="finished", model=model, snapshot=self.built.id, split=self.s.split
        )
        if logged:
            made = client.create_logged_model(experiment_id, name="model", source_run_id=mlflow_run)
            client.log_model_artifacts(made.model_id, str(exported.parent))
            client.finalize_logged_model(made.model_id, "READY")
            record = record.model_copy(update={"mlflow_model": made.model_id})
        record = record.model_copy(update={"mlflow_run": mlflow_run})
        write_json(directory / "run.json", record.model_dump(mode="json"))
        results = directory / "evaluation" / self.built.id / self.s.split
        per_target.write(self._table(np.asarray(ranks, np.float64)), results / "per_target_test.parquet")
        metrics = {"validation/full/all/ndcg@10": validation, "test/full/all/ndcg@10": 0.5}
        write_json(results / "metrics.json", {"metrics": metrics, "made": {"device": "cpu", "seconds": 1.0}})
        headline = {"validation": {"ndcg@10": validation}, "test": {"ndcg@10": 0.5}}
        return Evaluated(model=model, directory=directory, mlflow_run=mlflow_run, metrics=headline)

    def registered(self, run: str, ranks: Sequence[float] | np.ndarray, model: str = "popularity") -> Registered:
        """One such model as a version."""
        return register(self.s, self.built, [self.judged(run, model, ranks, 0.5)])

    def forget_training(self, registered: Registered) -> None:
        """Delete the directory of a training, as a cleanup of old runs would."""
        shutil.rmtree(registered.directory)

    def aliases(self) -> dict[str, str]:
        found = {alias: self.registry.by_alias(alias) for alias in ("champion", "challenger")}
        return {alias: str(version.version) for alias, version in found.items() if version is not None}

    def _table(self, ranks: np.ndarray) -> pa.Table:
        snapshot = self.snapshot
        targets = snapshot.targets(self.s.split, "test")
        judgement = Judgement(
            snapshot=self.built.id,
            split=self.s.split,
            part="test",
            targets=targets,
            rank_full=ranks,
            rank_sampled=None,
            top=np.zeros((len(targets), 0), np.int32),
            history_length=targets.history_end - snapshot.offsets[targets.user],
        )
        return per_target.table(judgement, snapshot)
