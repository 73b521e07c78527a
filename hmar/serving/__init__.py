"""The exported model as an MLflow model that stands on its own."""
