"""What every task here has in common: typed results as JSON between tasks, and which errors are worth a retry."""

import functools
import logging
import os
import time
import typing
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from pydantic import BaseModel

from hmar.errors import BusyError, HmarError
from hmar.settings import LayeredSettings
from hmar.threads import sleep_while_waiting
from pipeline.home import run_key

POOL = "gpu"
"""Its slots are the accelerators of the machine: what trains or scores waits here for its turn."""

RETRY_PAUSE = timedelta(seconds=float(os.environ.get("HMAR_RETRY_SECONDS", "30")))
"""Before the first retry; each later one is twice as long."""

RETRIES = {
    "retries": 3,
    "retry_delay": RETRY_PAUSE,
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
}

PATIENCE = timedelta(minutes=30)
"""How long a task waits for another one that writes the same dataset, before that counts as a failure."""

log = logging.getLogger(__name__)


def step(
    *, timeout: timedelta, retry_on: type[HmarError] | tuple[()] = (), **options: Any
) -> Callable[[Callable[..., Any]], Any]:
    """A task whose arguments are rebuilt, by their annotations, from the JSON that the tasks before it returned.

    An error that a retry cannot mend (bad data, bad settings) fails the task at once, in one line; ``retry_on`` names
    one that it can mend here. While another run is writing the dataset, the task waits.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def body(*arguments: Any, **named: Any) -> Any:
            sleep_while_waiting()
            kinds = typing.get_type_hints(function)
            names = function.__code__.co_varnames
            given = dict(zip(names, arguments, strict=False)) | named
            typed = {name: _typed(kinds.get(name), value) for name, value in given.items()}
            try:
                return _plain(_in_turn(functools.partial(function, **typed)))
            except HmarError as error:
                message = f"{type(error).__name__}: {error}"
                again = error.retryable or isinstance(error, retry_on)
                raise (AirflowException if again else AirflowFailException)(message) from None

        return task(execution_timeout=timeout, **options)(body)

    return decorate


def label(text: str) -> None:
    """Name this mapped task instance in the user interface (``map_index_template="{{ label }}"``)."""
    typing.cast("dict[str, Any]", get_current_context())["label"] = text


def conf() -> dict[str, Any]:
    """What this run was triggered with; unlike ``params`` it has no defaults mixed in."""
    return dict(get_current_context()["dag_run"].conf or {})


def moment() -> datetime | None:
    """This run's logical date; a run that was triggered without one has none."""
    return typing.cast("datetime | None", get_current_context()["dag_run"].logical_date)


def run() -> str:
    """This run's key: what its trainings and its report are filed under, the same for every retry."""
    return run_key(str(get_current_context()["run_id"]))


def _in_turn(work: Callable[[], Any]) -> Any:
    """What ``work`` returns, once nobody else is writing its dataset."""
    deadline = time.monotonic() + PATIENCE.total_seconds()
    told = False
    while True:
        try:
            return work()
        except BusyError as error:
            if time.monotonic() > deadline:
                raise
            if not told:
                log.info("waiting: %s", error)
            told = True
            time.sleep(1)


def _typed(kind: Any, value: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel) and value is None:
        # Only where a task runs whatever became of those before it.
        raise AirflowFailException("a task before this one failed and left no result; what it says is in its log")
    if isinstance(kind, type) and issubclass(kind, LayeredSettings):
        return kind.resolve(value, use_environment=False)
    if typing.get_origin(kind) is list:
        return [_typed(typing.get_args(kind)[0], one) for one in value]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_validate(value)
    return value


def _plain(result: Any) -> Any:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json")
    return {key: _plain(value) for key, value in result.items()} if isinstance(result, dict) else result
