"""Ids of letters and digits as some sources have them, made without a Python object each."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.simulate.world import Ints

DIGITS = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", np.uint8)
LETTERS = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", np.uint8)

_SURE = 7
"""Characters that alone make ids different: 36 ** 7 of them."""


def codes(numbers: Ints, seed: int, alphabet: NDArray[np.uint8], width: int, prefix: bytes = b"") -> NDArray[np.bytes_]:
    """``prefix`` and ``width`` characters for each number below 36 ** 7, bytes [N].

    The first seven characters are a permutation of the numbers, the others follow from a hash.
    """
    base = len(alphabet)
    with np.errstate(over="ignore"):
        mixed = _mixed(numbers.astype(np.uint64) + np.uint64(seed % 2**31) * np.uint64(0x9E3779B97F4A7C15))
    # Odd and not a multiple of three, so it permutes the residues of powers of 36 and of 64.
    scrambled = (numbers.astype(np.uint64) + np.uint64(1 + seed % 2**20)) * np.uint64(5_234_567_891)
    scrambled %= np.uint64(base**_SURE)
    made = np.empty((len(numbers), len(prefix) + width), np.uint8)
    made[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    for place in range(width):
        if place == _SURE:
            scrambled = mixed
        elif place == _SURE + 9:
            scrambled = _mixed(mixed)
        made[:, len(prefix) + place] = alphabet[scrambled % np.uint64(base)]
        scrambled = scrambled // np.uint64(base)
    return made.view(f"S{made.shape[1]}").ravel()


def text(ids: NDArray[np.bytes_]) -> pa.LargeStringArray:
    """Ids of one width as an Arrow array, text [N]."""
    width = ids.dtype.itemsize
    offsets = np.arange(len(ids) + 1, dtype=np.int64) * width
    return pa.LargeStringArray.from_buffers(len(ids), pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(ids)))


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
