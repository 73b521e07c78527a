"""Every error this project raises on purpose, with the exit code of the process it ends.

A message says what is wrong, where (file, line, column, key) and what to do. ``retryable`` is what the
orchestrator needs to know: whether the same call can succeed later with nothing changed by a person.
"""

from typing import ClassVar


class HmarError(Exception):
    """Base of all deliberate errors. Exit codes follow ``sysexits.h``."""

    exit_code: ClassVar[int] = 70
    retryable: ClassVar[bool] = False


class SettingsError(HmarError):
    """A setting is unknown, ill-typed or contradicts another; nothing was done yet."""

    exit_code = 78


class DataError(HmarError):
    """The input data is not what it should be; running again on it cannot help."""

    exit_code = 65


class ModelError(HmarError):
    """A model produced what it must not (NaN loss or scores, wrong shapes)."""

    exit_code = 70


class StorageError(HmarError):
    """The disk refused (full, read-only, gone); published state is as it was."""

    exit_code = 74
    retryable = True


class ServiceError(HmarError):
    """A service (MLflow, Airflow) does not answer."""

    exit_code = 69
    retryable = True


class BusyError(HmarError):
    """Another run holds the dataset; this one did nothing."""

    exit_code = 75
    retryable = True


class Interrupted(HmarError):
    """Stopped by a signal after a checkpoint was written; the same call resumes."""

    exit_code = 75
    retryable = True


def from_exit_code(code: int, message: str) -> HmarError:
    """The error a child process ended with, rebuilt from its exit code (75 reads as an interruption).

    A code that is none of ours, or a death by signal (negative), is retryable: it says nothing about the input.
    """
    for kind in (SettingsError, DataError, StorageError, ServiceError, Interrupted):
        if kind.exit_code == code:
            return kind(message)
    return Interrupted(message) if code < 0 or code > 128 else ModelError(message)
