"""Files that execute something when they are unpickled: they make a directory, which tells of it."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch


class Poison:
    """Unpickling it makes the directory ``marker``."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path(self.marker).mkdir.__func__, (Path(self.marker),)  # type: ignore[attr-defined, return-value]


def bare(marker: Path) -> bytes:
    """A pickle by hand: os.mkdir(marker)."""
    return f"cos\nmkdir\n(V{marker}\ntR.".encode()


def in_torch(marker: Path) -> bytes:
    """A file of torch.save, as a checkpoint is one."""
    stream = io.BytesIO()
    torch.save({"weights": torch.zeros(2), "poison": Poison(marker)}, stream)
    return stream.getvalue()


def in_numpy(marker: Path) -> bytes:
    """A .npy file of objects."""
    stream = io.BytesIO()
    np.save(stream, np.array([Poison(marker)], dtype=object), allow_pickle=True)
    return stream.getvalue()


POISONS: dict[str, Callable[[Path], bytes]] = {"bare": bare, "torch": in_torch, "numpy": in_numpy}


def swallow(kind: str, content: bytes) -> None:
    """Load it as nobody should."""
    if kind == "torch":
        torch.load(io.BytesIO(content), weights_only=False)
    else:
        np.load(io.BytesIO(content), allow_pickle=True)
