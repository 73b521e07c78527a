"""The exported model in MLflow: a pyfunc that runs where only MLflow and the listed requirements are installed.

Input columns, one list each per row: ``items`` (source ids), ``behaviors`` (names), ``timestamps`` (unix seconds).
Output columns: ``items`` (source ids, best first), ``scores``. Parameters: ``k``, ``exclude_consumed``,
``exclude_seen``.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import hmar
from hmar.export import Exported, LoadedModel, load
from hmar.tracking.client import connect, service_errors

ARTIFACT = "model"
"""Key of the exported directory among the pyfunc's artifacts."""

REQUIREMENTS = (
    "mlflow",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "pydantic-settings",
    "pyyaml",
    "safetensors",
    "torch",
)
"""What serving imports; pinned to the versions that made the model."""

EXAMPLE_LENGTH = 4


def log_model(
    exported: Path,
    uri: str,
    run_id: str,
    registered_name: str | None = None,
    tags: dict[str, str] | None = None,
) -> Any:
    """Log the exported model to the run; register it as a new version of ``registered_name`` if one is given.

    MLflow ends the run by that: its status is FINISHED afterwards.

    Returns:
        MLflow's ``ModelInfo``; its ``registered_model_version`` is the new version.

    Raises:
        DataError: no exported model there. ServiceError: MLflow does not answer.
    """
    loaded = load(exported)
    connect(uri)
    import mlflow

    with service_errors(uri), mlflow.start_run(run_id=run_id):
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={ARTIFACT: str(Path(exported).absolute())},
            code_paths=[str(Path(hmar.__file__).parent)],
            pip_requirements=requirements(),
            signature=signature(loaded.meta),
            # MLflow asks the model about it, and one with leaks does not answer.
            input_example=None if loaded.meta.leaks else input_example(loaded),
            registered_model_name=registered_name,
            metadata={"snapshot": loaded.meta.snapshot, "split": loaded.meta.split, "hmar": loaded.meta.hmar_version},
            tags=tags,
        )


def requirements() -> list[str]:
    """Pinned requirement lines, without local version labels such as ``+cpu``."""
    return [f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS]


def signature(meta: Exported) -> Any:
    """The ``ModelSignature``: item ids are long or string, as in the source."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema

    item_id = DataType.long if meta.item_id_type == "int64" else DataType.string
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(Array(item_id), "items"),
                ColSpec(Array(DataType.string), "behaviors"),
                ColSpec(Array(DataType.long), "timestamps"),
            ]
        ),
        outputs=Schema([ColSpec(Array(item_id), "items"), ColSpec(Array(DataType.double), "scores")]),
        params=ParamSchema(
            [
                ParamSpec("k", DataType.long, 10),
                ParamSpec("exclude_consumed", DataType.boolean, True),
                ParamSpec("exclude_seen", DataType.boolean, False),
            ]
        ),
    )


def input_example(loaded: LoadedModel) -> Any:
    """One made-up history of known items, one event of each behavior an hour apart, as a DataFrame."""
    import pandas as pd

    names = loaded.model.vocabulary.behaviors
    items = loaded.item_ids.slice(0, EXAMPLE_LENGTH).to_pylist()
    return pd.DataFrame(
        {
            "items": [items],
            "behaviors": [[names[place % len(names)] for place in range(len(items))]],
            "timestamps": [[1_700_000_000 + 3600 * place for place in range(len(items))]],
        }
    )
