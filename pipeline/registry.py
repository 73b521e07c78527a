"""The model registry of one dataset: its versions, the aliases champion and challenger, and the tags that explain."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hmar.errors import DataError
from hmar.tracking.client import ENVIRONMENT, check, connect, service_errors
from pipeline.settings import RetrainSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
CHALLENGER = "challenger"

TAG = "hmar."
"""Prefix of our tags, on versions as on runs."""


def registered_name(s: RetrainSettings) -> str:
    """The registered model of a dataset; also its experiment's name."""
    return f"hmar-{s.name}"


class Registry:
    """Every method raises ServiceError where MLflow does not answer."""

    def __init__(self, s: RetrainSettings) -> None:
        """Connect.

        Raises:
            ServiceError: MLflow does not answer within seconds.
        """
        self.name = registered_name(s)
        self.uri = s.mlflow_uri
        self.client: MlflowClient = quiet_client(self.uri)

    def ensure(self) -> None:
        """Create the registered model where it does not exist."""
        from mlflow.exceptions import MlflowException

        with service_errors(self.uri):
            try:
                self.client.create_registered_model(self.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

    def create(self, source: str, run_id: str, tags: Mapping[str, str], model_id: str | None) -> "ModelVersion":
        """A new version, its tags included."""
        with service_errors(self.uri):
            return self.client.create_model_version(
                self.name, source, run_id=run_id, tags=dict(tags), model_id=model_id
            )

    def of_run(self, run_id: str) -> "ModelVersion | None":
        """The version made from this MLflow run; the first where a crash of old made two."""
        with service_errors(self.uri):
            found = self.client.search_model_versions(f"name='{self.name}' and run_id='{run_id}'")
        return min(found, key=lambda version: int(version.version), default=None)

    def version(self, number: str) -> "ModelVersion":
        with service_errors(self.uri):
            return self.client.get_model_version(self.name, number)

    def versions(self) -> "list[ModelVersion]":
        """All versions, newest first."""
        with service_errors(self.uri):
            found = list(self.client.search_model_versions(f"name='{self.name}'"))
        return sorted(found, key=lambda version: -int(version.version))

    def by_alias(self, alias: str) -> "ModelVersion | None":
        """The version that holds the alias; None where none does, or nothing is registered yet."""
        from mlflow.exceptions import MlflowException

        with service_errors(self.uri):
            try:
                return self.client.get_model_version_by_alias(self.name, alias)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST" or "alias" in str(error):
                    return None
                raise

    def champion(self) -> "ModelVersion":
        """The version in office.

        Raises:
            DataError: there is none yet.
        """
        found = self.by_alias(CHAMPION)
        if found is None:
            raise DataError(f"{self.name}: no champion in the registry at {self.uri}; run 'hmar retrain' first")
        return found

    def point(self, alias: str, number: str) -> None:
        """Move the alias; one atomic step of the store."""
        with service_errors(self.uri):
            self.client.set_registered_model_alias(self.name, alias, number)

    def drop(self, alias: str) -> None:
        """Remove the alias where it is set."""
        if self.by_alias(alias) is not None:
            with service_errors(self.uri):
                self.client.delete_registered_model_alias(self.name, alias)

    def tag(self, number: str, tags: Mapping[str, str]) -> None:
        """Set our tags (the prefix is added) on a version."""
        with service_errors(self.uri):
            for key, value in tags.items():
                self.client.set_model_version_tag(self.name, number, TAG + key, value)

    def download(self, number: str, into: Path) -> Path:
        """The version's exported model (:mod:`hmar.export`), copied from the artifact store to ``into``.

        Raises:
            DataError: the version holds no exported model.
        """
        from mlflow.artifacts import download_artifacts

        into.mkdir(parents=True, exist_ok=True)
        with service_errors(self.uri):
            root = Path(download_artifacts(f"models:/{self.name}/{number}", dst_path=str(into)))
        for weights in sorted(root.rglob("weights.safetensors")):
            if (weights.parent / "items.parquet").is_file():
                return weights.parent
        raise DataError(f"{self.name} version {number}: holds no exported model; register a version by 'hmar retrain'")


def own_tags(version: "ModelVersion") -> dict[str, str]:
    """A version's tags that are ours, without the prefix."""
    return {key.removeprefix(TAG): value for key, value in version.tags.items() if key.startswith(TAG)}


def quiet_client(uri: str) -> "MlflowClient":
    """A connected client that does not tell of table creation and migrations.

    Raises:
        ServiceError: MLflow does not answer within seconds.
    """
    check(uri)
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    # MLflow sets up its loggers when it is imported, so their level can only be set after that.
    import mlflow  # noqa: F401

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return connect(uri)
