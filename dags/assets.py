"""Every asset URI of the house, in one place."""

from airflow.sdk import Asset, AssetAlias

PUBLISHED = AssetAlias("hmar-events", group="hmar")
"""What is announced through it: which dataset it was is known only when hmar_ingest has run."""


def events(name: str) -> Asset:
    """Published events of the dataset ``name``; an update says that they are others, and what they are now."""
    return Asset(name=f"events {name}", uri=f"hmar://events/{name}", group="hmar")


def partitions(name: str) -> Asset:
    """The same events by partition: one update for each that is new or another, its first day (2017-11-25) the key."""
    return Asset(name=f"partitions {name}", uri=f"hmar://events/{name}/partitions", group="hmar")
