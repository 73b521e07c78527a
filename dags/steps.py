"""What every task here has in common: typed results as JSON between tasks, and which errors are worth a retry."""

import functools
import os
import typing
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.sdk import get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from pydantic import BaseModel

from hmar.errors import HmarError
from pipeline.home import run_key
from pipeline.settings import RetrainSettings

POOL = "gpu"
"""Its slots are the accelerators of the machine: what trains or scores waits here for its turn."""

RETRIES = {
    "retries": 3,
    "retry_delay": timedelta(seconds=float(os.environ.get("HMAR_RETRY_SECONDS", "30"))),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
}
"""HMAR_RETRY_SECONDS is the pause before the first retry; each later one is twice as long."""


def step(*, timeout: timedelta, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A task whose arguments are rebuilt, by their annotations, from the JSON that the tasks before it returned.

    An error that a retry cannot mend (bad data, bad settings) fails the task at once, in one line.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def body(*arguments: Any, **named: Any) -> Any:
            kinds = typing.get_type_hints(function)
            names = function.__code__.co_varnames
            given = dict(zip(names, arguments, strict=False)) | named
            try:
                return _plain(function(**{name: _typed(kinds.get(name), value) for name, value in given.items()}))
            except HmarError as error:
                message = f"{type(error).__name__}: {error}"
                raise (AirflowException if error.retryable else AirflowFailException)(message) from None

        return task(execution_timeout=timeout, **options)(body)

    return decorate


def label(text: str) -> None:
    """Name this mapped task instance in the user interface (``map_index_template="{{ label }}"``)."""
    typing.cast("dict[str, Any]", get_current_context())["label"] = text


def conf() -> dict[str, Any]:
    """What this run was triggered with; unlike ``params`` it has no defaults mixed in."""
    return dict(get_current_context()["dag_run"].conf or {})


def run() -> str:
    """This run's key: what its trainings and its report are filed under, the same for every retry."""
    return run_key(str(get_current_context()["run_id"]))


def _typed(kind: Any, value: Any) -> Any:
    if kind is RetrainSettings:
        return RetrainSettings.resolve(value, use_environment=False)
    if typing.get_origin(kind) is list:
        return [_typed(typing.get_args(kind)[0], one) for one in value]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_validate(value)
    return value


def _plain(result: Any) -> Any:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json")
    return {key: _plain(value) for key, value in result.items()} if isinstance(result, dict) else result
