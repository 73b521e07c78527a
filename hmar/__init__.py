"""The science: from a snapshot of point-in-time correct sequences to a judged model.

Nothing here knows of raw logs, DuckDB or Airflow. A snapshot directory comes in, an MLflow run goes out.
"""

__version__ = "0.1.0"
