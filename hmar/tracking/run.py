"""One MLflow run: opened or found again, and written to in few requests."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hmar.errors import ServiceError
from hmar.tracking.client import check, connect, service_errors, sqlite_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

IDENTITY = "hmar.training"
"""Tag by which a run is found again when the process died before it could write down the run's id."""

_PARAMS_PER_REQUEST = 100
_METRICS_PER_REQUEST = 1000
_TAGS_PER_REQUEST = 100
_LONGEST_VALUE = 5000

Status = Literal["FINISHED", "FAILED", "KILLED", "RUNNING"]


@dataclass(frozen=True)
class Point:
    """One value of one metric. ``step`` is an epoch; ``at`` is seconds since 1970."""

    name: str
    value: float
    step: int = 0
    at: float = 0.0


class TrackedRun:
    """A run of an MLflow store. Every method raises ServiceError where the store does not answer."""

    def __init__(self, client: "MlflowClient", run_id: str, uri: str) -> None:
        self.client = client
        self.run_id = run_id
        self.uri = uri

    @classmethod
    def attach(cls, uri: str, run_id: str) -> "TrackedRun":
        """An existing run, as another process left it.

        Raises:
            ServiceError: the store does not answer, or has no such run.
        """
        client = connect(uri)
        with service_errors(uri):
            client.get_run(run_id)
        return cls(client, run_id, uri)

    @classmethod
    def open(
        cls,
        uri: str,
        *,
        experiment: str,
        identity: str,
        name: str,
        artifacts: str = "",
        tags: Mapping[str, str] | None = None,
        run_id: str | None = None,
    ) -> "TrackedRun":
        """Continue the run ``run_id``, else the one tagged with ``identity``, else create it; it is RUNNING afterwards.

        Args:
            artifacts: artifact location of an experiment that has to be created.

        Raises:
            ServiceError: the store does not answer, or ``run_id`` is not in it.
        """
        client = connect(uri)
        with service_errors(uri):
            if run_id is None:
                experiment_id = ensure_experiment(client, uri, experiment, artifacts)
                run_id = _find(client, experiment_id, identity)
            if run_id is None:
                all_tags = {**(tags or {}), IDENTITY: identity}
                return cls(client, client.create_run(experiment_id, tags=all_tags, run_name=name).info.run_id, uri)
            run = cls(client, run_id, uri)
            if client.get_run(run_id).info.status != "RUNNING":
                client.update_run(run_id, status="RUNNING")
            run.set_tags(tags or {})
            return run

    def check(self) -> None:
        """Find out within seconds whether the store answers."""
        check(self.uri)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log what is not logged yet: a parameter of a run never changes, also when it is continued."""
        from mlflow.entities import Param

        with service_errors(self.uri):
            known = self.client.get_run(self.run_id).data.params
            new = [Param(key, str(value)[:_LONGEST_VALUE]) for key, value in params.items() if key not in known]
            for part in _parts(new, _PARAMS_PER_REQUEST):
                self.client.log_batch(self.run_id, params=part, synchronous=True)

    def log_metrics(self, points: Sequence[Point]) -> None:
        """Log values; points of one step should come in one call, which the store takes whole."""
        from mlflow.entities import Metric

        now = time.time()
        metrics = [Metric(p.name, float(p.value), int((p.at or now) * 1000), p.step) for p in points]
        with service_errors(self.uri):
            for part in _parts(metrics, _METRICS_PER_REQUEST):
                self.client.log_batch(self.run_id, metrics=part, synchronous=True)

    def steps_of(self, metric: str) -> set[int]:
        """The steps at which ``metric`` has values."""
        with service_errors(self.uri):
            return {point.step for point in self.client.get_metric_history(self.run_id, metric)}

    def set_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        entities = [RunTag(key, str(value)[:_LONGEST_VALUE]) for key, value in tags.items()]
        with service_errors(self.uri):
            for part in _parts(entities, _TAGS_PER_REQUEST):
                self.client.log_batch(self.run_id, tags=part, synchronous=True)

    def log_input(self, dataset_input: Any) -> None:
        """Log a dataset (:func:`hmar.tracking.dataset.snapshot_input`); logging it again changes nothing."""
        with service_errors(self.uri):
            try:
                self.client.log_inputs(self.run_id, datasets=[dataset_input])
            except Exception as error:
                if not _is_there_already(error):
                    raise
                self.client.log_inputs(self.run_id, datasets=[dataset_input])

    def log_figure(self, figure: "Figure", path: str) -> None:
        with service_errors(self.uri):
            self.client.log_figure(self.run_id, figure, path)

    def log_file(self, file: Path, folder: str = "") -> None:
        with service_errors(self.uri):
            self.client.log_artifact(self.run_id, str(file), folder or None)

    def logged_model(self) -> str | None:
        """The id of a complete model that was logged to this run; the oldest where there are several."""
        from mlflow.entities import LoggedModelStatus

        with service_errors(self.uri):
            experiment = self.client.get_run(self.run_id).info.experiment_id
            found = self.client.search_logged_models([experiment], filter_string=f"source_run_id = '{self.run_id}'")
        ready = [model for model in found if model.status == LoggedModelStatus.READY]
        return min(ready, key=lambda model: model.creation_timestamp).model_id if ready else None

    def finish(self, status: Status) -> None:
        with service_errors(self.uri):
            self.client.set_terminated(self.run_id, status=status)


def _is_there_already(error: Exception) -> bool:
    """Whether another run has added the same dataset since MLflow saw that it was missing: SQLite, MySQL and PostgreSQL
    say so in these words, which is all that comes through a server."""
    return any(words in str(error) for words in ("UNIQUE constraint", "Duplicate entry", "duplicate key"))


def ensure_experiment(client: "MlflowClient", uri: str, name: str, artifacts: str = "") -> str:
    """The experiment's id; created, with its artifact location set, where it does not exist.

    Raises:
        ServiceError: an experiment of this name was deleted and not purged.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifact_location(uri, artifacts)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise ServiceError(f"MLflow experiment {name!r} was deleted; restore it or choose another name")
    return str(found.experiment_id)


def _artifact_location(uri: str, artifacts: str) -> str | None:
    database = sqlite_file(uri)
    if not artifacts and database is not None:
        artifacts = str(database.parent / "mlartifacts")
    if artifacts and "://" not in artifacts:
        return Path(artifacts).absolute().as_uri()
    return artifacts or None


def _find(client: "MlflowClient", experiment_id: str, identity: str) -> str | None:
    runs = client.search_runs([experiment_id], filter_string=f"tags.`{IDENTITY}` = '{identity}'", max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _parts(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as parameters: {"config": {"d": 64}} gives {"config.d": 64}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
