"""How full the table of users and items is."""

from hmar.data.snapshot import Snapshot

_ROWS = 1 << 20
"""Events looked at at once: bounds the memory that sums take."""


def density(snapshot: Snapshot) -> float:
    """Share of all pairs of a user and an item that have an event, from 0 to 1, however often the item recurred."""
    manifest, hbi = snapshot.manifest, snapshot.hbi
    # An event counts itself, so the first of its user and item is the one that has counted one of all behaviors.
    parts = (hbi[start : start + _ROWS] for start in range(0, len(hbi), _ROWS))
    pairs = sum(int((part.sum(axis=1, dtype="int64") == 1).sum()) for part in parts)
    return pairs / max(manifest.users * manifest.items, 1)
