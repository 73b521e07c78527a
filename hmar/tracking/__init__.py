"""Runs in MLflow: one run per training, found again after a crash, never two."""
