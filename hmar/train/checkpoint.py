"""Checkpoints that are whole, or passed over.

``checkpoints/<optimizer step>.<first 16 hex of the sha256>.pt``: the name carries the digest of the content, so damage
is found whatever it hit. Only tensors, numbers, strings, lists and dicts are in it, and only such are loaded.
"""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hmar.atomic import TEMPORARY, publish_file, storage_errors, sweep
from hmar.errors import DataError
from hmar.train.log import LOGGER

_NAME = re.compile(r"^(\d{9})\.([0-9a-f]{16})\.pt$")
_DIGEST = 16

DAMAGED = ".damaged"
"""What a checkpoint that was passed over is called besides its name."""


class Checkpoints:
    """The checkpoints of one training, the newest ``keep`` of them.

    Attributes:
        loaded: name of the file that :meth:`load` took; None where there was none.
    """

    def __init__(self, directory: Path, keep: int) -> None:
        self.directory = directory
        self.keep = keep
        self.loaded: str | None = None

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the state after ``step`` optimizer steps; it is there whole or not at all.

        Raises:
            StorageError: the disk refused; older checkpoints are untouched.
        """
        with storage_errors(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            temporary = self.directory / f"{TEMPORARY}{step:09d}.{os.getpid()}.pt"
            try:
                torch.save(state, temporary)
                final = self.directory / f"{step:09d}.{_digest(temporary)}.pt"
                publish_file(temporary, final)
            finally:
                temporary.unlink(missing_ok=True)
            for old in self._newest_first()[self.keep :]:
                old.unlink(missing_ok=True)
            return final

    def load(self, warn: Callable[[str], None]) -> dict[str, Any] | None:
        """The newest whole checkpoint on the CPU, None where there is none yet; ``warn`` hears of damaged ones.

        Raises:
            DataError: there are checkpoints and every one is damaged.
        """
        if not self.directory.is_dir():
            return None
        sweep(self.directory)
        found = self._newest_first()
        refused: dict[Path, str] = {}
        for path in found:
            try:
                state = self.read(path.name)
            except DataError as error:
                refused[path] = str(error)
                warn(f"{error} passed over")
                continue
            for damaged in refused:  # out of the way of the next ones: it would count among the newest
                damaged.rename(f"{damaged}{DAMAGED}")
            self.loaded = path.name
            return state
        if refused:
            raise DataError(
                f"{self.directory}: every checkpoint is damaged; delete the directory to train from the start "
                f"(the newest: {next(iter(refused.values()))})"
            )
        return None

    def read(self, name: str) -> dict[str, Any]:
        """The content of one checkpoint, on the CPU.

        Raises:
            DataError: it is not there, is damaged, or holds what is no tensor, number, text, list or dict: a pickle can
            ask for any call, and none is made.
        """
        path = self.directory / name
        try:
            whole = _whole(path)
        except OSError as error:
            raise DataError(f"{path}: unreadable checkpoint ({error.strerror})") from None
        if not whole:
            raise DataError(f"{path}: damaged checkpoint")
        try:
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises what its parser meets, and its words advise to trust the file
            LOGGER.debug("%s: %s", path, error)
            state = None
        if not isinstance(state, dict):
            raise DataError(f"{path}: not tensors, numbers and text alone, nothing in it was run: refused checkpoint")
        return state

    def _newest_first(self) -> list[Path]:
        named = [path for path in self.directory.glob("*.pt") if _NAME.match(path.name)]
        return sorted(named, key=lambda path: (path.name[:9], path.stat().st_mtime_ns), reverse=True)


def _whole(path: Path) -> bool:
    match = _NAME.match(path.name)
    return match is not None and _digest(path) == match.group(2)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:_DIGEST]
