"""Work that outlives its readers: ``hmar retrain | head`` trains to its end, ``hmar schema | head`` is no error."""

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Forgiving(io.FileIO):
    """A descriptor to write to that becomes /dev/null once nobody reads it."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            # The descriptor itself, so that what is written past this object finds no broken pipe either.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


def outlive_readers() -> None:
    """Go on without a screen when the reader of stdout or stderr (head, less) leaves.

    Left to itself, a print would raise BrokenPipeError, and rich's console would end the process without a word: a
    night's run would die of the line that tells how far it is. Streams that something has put in place of the
    process's own are left alone.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
            continue
        stream.flush()
        # Flushed line by line where it was not buffered at all (python -u).
        by_line = stream.line_buffering or stream.write_through
        buffer = io.BufferedWriter(_Forgiving(stream.fileno(), "w", closefd=False))
        setattr(sys, name, io.TextIOWrapper(buffer, stream.encoding, stream.errors, line_buffering=by_line))
