"""The file MLflow runs to rebuild the model ("models from code"): the ``hmar`` package travels beside it."""

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModelContext

from hmar.export import load
from hmar.serving.service import Service


class TopItems(mlflow.pyfunc.PythonModel):
    """Histories in, the best items with their scores out; columns and parameters: ``hmar.serving.mlflow_model``."""

    def load_context(self, context: PythonModelContext) -> None:
        self.service = Service(load(context.artifacts["model"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        columns = [model_input[name].tolist() for name in ("items", "behaviors", "timestamps")]
        items, scores = self.service.recommend(*columns, **(params or {}))
        return pd.DataFrame({"items": items, "scores": scores})


mlflow.models.set_model(TopItems())
