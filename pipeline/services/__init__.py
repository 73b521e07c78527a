"""Airflow and the MLflow server on this machine, for one data directory: ``hmar up``, ``down``, ``status``, ...

Everything is bound to the loopback address. Whatever is started carries :data:`pipeline.services.daemon.MARK` in its
environment, and so does all that it starts in turn: that is how ``hmar down`` finds every last one.
"""
