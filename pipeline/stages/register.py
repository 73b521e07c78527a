"""The run's best model becomes a version in the registry."""

from hmar import __version__
from hmar.errors import DataError, ModelError
from hmar.evaluate.names import tracked
from pipeline.registry import TAG, Registry
from pipeline.results import Built, Evaluated, Registered
from pipeline.settings import RetrainSettings


def nominee(evaluated: list[Evaluated], metric: str, order: tuple[str, ...] = ()) -> Evaluated:
    """The best on the validation targets under full ranking; among equals the one named first in ``order``. One with
    leaks (:mod:`hmar.leaks`) is taken only where all have some.

    Raises:
        DataError: no model has the metric, because the split has no validation targets.
    """
    judged = [one for one in evaluated if metric in one.metrics.get("validation", {})]
    if not judged:
        raise DataError(
            f"no model has a validation {metric}: the split has no validation targets, so none can be chosen; "
            "deliver more events or lower k_core"
        )
    honest = [one for one in judged if not one.leaks]
    rank = {model: place for place, model in enumerate(order)}
    return min(
        honest or judged,
        key=lambda one: (-one.metrics["validation"][metric], rank.get(one.model, len(rank)), one.model),
    )


def register(s: RetrainSettings, built: Built, evaluated: list[Evaluated]) -> Registered:
    """Register the nominee. A version that an earlier call made from the same MLflow run is taken, not made again.

    Raises:
        DataError: no model can be chosen. ModelError: the nominee's run has no logged model.
        ServiceError: MLflow does not answer.
    """
    from hmar.tracking.client import service_errors
    from hmar.train.directory import read_record

    best = nominee(evaluated, s.promote.metric, s.models)
    registry = Registry(s)
    registry.ensure()
    tags = _tags(s, built, best)
    version = registry.of_run(best.mlflow_run)
    if version is None:
        record = read_record(best.directory)
        if record.mlflow_model is None:
            raise ModelError(f"MLflow run {best.mlflow_run} of {best.model} has no logged model; train it again")
        with service_errors(registry.uri):
            source = registry.client.get_logged_model(record.mlflow_model).artifact_location
        prefixed = {TAG + key: value for key, value in tags.items()}
        version = registry.create(source, best.mlflow_run, prefixed, record.mlflow_model)
    else:
        registry.tag(version.version, tags)
    return Registered(
        name=registry.name,
        version=str(version.version),
        model=best.model,
        mlflow_run=best.mlflow_run,
        directory=best.directory,
    )


def _tags(s: RetrainSettings, built: Built, best: Evaluated) -> dict[str, str]:
    numbers = {
        tracked(f"{part}.{metric}"): f"{value:.6f}"
        for part, metrics in best.metrics.items()
        for metric, value in metrics.items()
        if metric in (s.promote.metric, "ndcg@10", "hr@10", "mrr")
    }
    return {
        "model": best.model,
        "run": best.directory.parent.name,
        "snapshot": built.id,
        "split": s.split,
        "code_version": __version__,
        **({"leaks": ", ".join(best.leaks)} if best.leaks else {}),
        **numbers,
    }
