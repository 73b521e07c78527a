"""What changed in the columns of a log from file to file and from night to night, for the log to say."""

import logging
from collections.abc import Sequence
from pathlib import Path

from hmar.errors import DataError
from pipeline.sources import RawFile
from pipeline.storage.events_store import read_manifest

log = logging.getLogger("pipeline.ingest")


def tell(events: Path, delivered: Sequence[RawFile]) -> None:
    """Log each file whose layout is not that of the file before it, the last published one standing before the first.

    Files that cannot be read with other columns were refused by their source; what is told here is harmless.

    Args:
        events: where the events are published, or will be.
    """
    try:
        before = read_manifest(events).inputs[-1:]
    except DataError:
        before = ()
    last = next(((one.name, one.layout) for one in before), None)
    for file in delivered:
        if last is not None and file.layout.name != last[1]:
            log.info(
                "%s: its layout is %s, that of %s was %s; every column that is read was found by its name",
                file.name,
                file.layout.name,
                *last,
            )
        last = (file.name, file.layout.name)
