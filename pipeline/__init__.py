"""What happens every night: land, validate, publish, snapshot, train, evaluate, register, promote, recommend.

Every stage is a function of its settings and of files; nothing here imports Airflow, and nothing heavy is imported
before a stage runs.
"""
