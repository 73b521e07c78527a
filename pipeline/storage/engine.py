"""DuckDB as this house uses it: a private in-memory database per stage, bounded memory and threads, spilling beside the
data."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from hmar.errors import SettingsError
from hmar.threads import limit_arrow
from pipeline.settings import EngineSettings
from pipeline.storage.atomic import TEMPORARY, storage_errors


@contextmanager
def connect(settings: EngineSettings, spill_parent: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose temporary files live and die in a directory of its own under ``spill_parent``.

    Raises:
        StorageError: the disk filled up or refused while the block ran.
        SettingsError: the memory limit is too low for the work of the block.
    """
    spill_parent.mkdir(parents=True, exist_ok=True)
    spill = spill_parent / f"{TEMPORARY}spill-{uuid.uuid4().hex[:8]}"
    spill.mkdir()
    limit_arrow(settings.threads)
    connection = duckdb.connect(
        config={
            "memory_limit": settings.memory_limit,
            "threads": settings.threads,
            "temp_directory": str(spill),
            "preserve_insertion_order": False,
        }
    )
    try:
        with storage_errors(spill_parent):
            connection.execute("set timezone = 'UTC'")
            # Where Python has no script (python -c), DuckDB takes it for a session of a person and draws bars.
            connection.execute("set enable_progress_bar = false")
            yield connection
    except duckdb.OutOfMemoryException as error:
        raise SettingsError(
            f"engine.memory_limit: {settings.memory_limit} is too little for {settings.threads} threads on this log; "
            "raise it or lower engine.threads"
        ) from error
    finally:
        connection.close()
        shutil.rmtree(spill, ignore_errors=True)
