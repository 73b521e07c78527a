"""Every asset URI of the house, in one place."""

from airflow.sdk import Asset, AssetAlias

PUBLISHED = AssetAlias("hmar-events", group="hmar")
"""What hmar_ingest emits through: which dataset it was is known only when it has run."""


def events(name: str) -> Asset:
    """Published events of the dataset ``name``; the metadata of an update has its row accounts and its digest."""
    return Asset(name=f"events {name}", uri=f"hmar://events/{name}", group="hmar")
