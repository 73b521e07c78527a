"""Where everything lies: the one module that knows the layout of the data directory (``home``, ``HMAR_HOME``)."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The data directory. ``name`` below is a dataset's name, ``run`` the key of one pipeline run."""

    root: Path

    def events(self, name: str) -> Path:
        """Published events: ``manifest.json`` and ``event_date=*/<digest>.parquet``."""
        return self.root / "events" / f"dataset={name}"

    def quarantine(self, name: str) -> Path:
        """Rejected rows, one Parquet file per delivery."""
        return self.root / "quarantine" / name

    def staging(self, name: str) -> Path:
        """Landed and not yet published; safe to delete when no run is going."""
        return self.root / "staging" / name

    def snapshots(self, name: str) -> Path:
        return self.root / "snapshots" / name

    def vocabularies(self, name: str) -> Path:
        """The numbering of users and items: dense ids that stay from snapshot to snapshot."""
        return self.root / "vocabularies" / name

    def announced(self, name: str) -> Path:
        """What the schedule's listeners were told last about a dataset's events."""
        return self.root / "announced" / f"{name}.json"

    def training(self, run: str, model: str) -> Path:
        """Checkpoints, weights, evaluation of one model in one run."""
        return self.root / "trainings" / run / model

    def kept(self, run: str, snapshot: str) -> Path:
        """What the report of a run tells of the run that a later one overwrites."""
        return self.root / "trainings" / run / f"{snapshot}.json"

    def study(self, study: str, model: str) -> Path:
        """The search for one model's settings: the study's file, its trials' trainings, what came of it."""
        return self.root / "studies" / study / model

    def benchmark(self, name: str) -> Path:
        """What a benchmark keeps of its runs, and its tables."""
        return self.root / "benchmarks" / name

    def recommendations(self, name: str) -> Path:
        return self.root / "recommendations" / name

    def explanations(self, name: str) -> Path:
        """Pictures of what carried recommendations, a directory per user."""
        return self.root / "explanations" / name

    def data_docs(self, name: str) -> Path:
        """The Great Expectations project of a dataset, Data Docs included."""
        return self.root / "data_docs" / name

    def report(self, run: str) -> Path:
        """The directory of a run's HTML report."""
        return self.root / "reports" / run

    def lock(self, name: str) -> Path:
        return self.root / "locks" / f"{name}.lock"

    @property
    def airflow(self) -> Path:
        return self.root / "airflow"

    @property
    def services(self) -> Path:
        """Process ids, ports and logs of the servers that ``hmar up`` starts."""
        return self.root / "services"

    @property
    def mlflow_uri(self) -> str:
        """The embedded tracking store."""
        return f"sqlite:///{(self.root / 'mlflow.db').absolute()}"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.root / "mlartifacts"


def run_key(text: str) -> str:
    """A run's id as a directory name: letters, digits, dot, dash and underscore."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("_")
