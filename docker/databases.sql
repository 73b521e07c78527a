-- Airflow and MLflow keep their schema versions in a table of the same name: each has a database of its own.
create database airflow;
create database mlflow;
