"""The run as one HTML page, on disk and beside the nominee in MLflow."""

from pipeline.registry import quiet_client
from pipeline.report.content import gather
from pipeline.report.page import render
from pipeline.results import Built, Evaluated, Promoted, Reported
from pipeline.settings import RetrainSettings
from pipeline.stages.register import nominee
from pipeline.storage.atomic import write_text

FILE = "report.html"


def report(s: RetrainSettings, run: str, built: Built, evaluated: list[Evaluated], promoted: Promoted) -> Reported:
    """Write ``<home>/reports/<run>/report.html`` and log it to the nominee's MLflow run.

    Raises:
        DataError: a stage's files are missing. ServiceError: MLflow does not answer. StorageError: the disk refused.
    """
    from hmar.tracking.client import service_errors

    path = s.paths.report(run) / FILE
    write_text(path, render(gather(s, run, built, evaluated, promoted)))
    best = nominee(evaluated, s.promote.metric, s.models)
    client = quiet_client(s.mlflow_uri)
    with service_errors(s.mlflow_uri):
        client.log_artifact(best.mlflow_run, str(path), "report")
    return Reported(path=path)
