"""The MLflow pages over the data directory's own store."""

import os
import sys
import time

import httpx

from hmar.errors import ServiceError
from pipeline.home import Home
from pipeline.services.daemon import Daemon
from pipeline.services.ports import HOST


def daemon(home: Home) -> Daemon:
    return Daemon("mlflow", home.services)


def start(home: Home, store: str, port: int) -> None:
    """Start the server on ``store`` (a database address); tasks write to the same database directly.

    Raises:
        ServiceError: it cannot be started.
    """
    arguments = {
        "--artifacts-destination": str(home.mlflow_artifacts),
        "--host": HOST,
        "--port": str(port),
        "--workers": "1",
    }
    environment = {
        **os.environ,
        # Not on the command line, which every user of the machine can read: the address may hold a password.
        "MLFLOW_BACKEND_STORE_URI": store,
        # The job runner and its queue: thirteen processes and 1.5 GB for nothing that is used here.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [sys.executable, "-m", "mlflow", "server", *(word for pair in arguments.items() for word in pair)]
    daemon(home).start(command, environment)


def is_healthy(address: str) -> bool:
    """Whether the server answers."""
    try:
        return httpx.get(f"{address}/health", timeout=2, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def wait(home: Home, address: str, deadline: float) -> None:
    """Wait until it answers; ``deadline`` is on the monotonic clock.

    Raises:
        ServiceError: it died or is too slow; its last words and its log are named.
    """
    server = daemon(home)
    while not is_healthy(address):
        if server.process() is None or time.monotonic() > deadline:
            raise ServiceError(f"mlflow: does not answer at {address} ({server.last_words(1)}); log: {server.log}")
        time.sleep(0.3)
