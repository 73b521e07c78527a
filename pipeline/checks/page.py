"""The verdicts as pages of our own, next to the Data Docs: those take their style from the network, these do not."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hmar import __version__
from hmar.data.snapshot import Manifest
from pipeline.checks.check import Verdict
from pipeline.ingest.accounts import Rejected
from pipeline.pages.render import render
from pipeline.report import figures
from pipeline.storage.atomic import write_text
from pipeline.storage.events_store import EventsManifest

EVENTS_PAGE = "events.html"
SNAPSHOT_PAGE = "snapshot.html"

_HERE = Path(__file__).parent


def write_events_page(
    path: Path,
    manifest: EventsManifest,
    measures: Mapping[str, Any],
    verdicts: Sequence[Verdict],
    rejected: Sequence[Rejected],
) -> None:
    """The accounts of a delivery, what was expected and found, and its events over time.

    Args:
        manifest: of the events as they would be published.
    """
    _write(
        path,
        "events.html.j2",
        manifest.dataset,
        verdicts,
        manifest=manifest,
        measures=measures,
        rejected=rejected,
        volume_figure=figures.stacked(
            {p.event_date.isoformat(): p.behaviors for p in sorted(manifest.partitions, key=lambda p: p.event_date)},
            list(manifest.behaviors),
        ),
        behavior_figure=figures.bars(manifest.behaviors),
    )


def write_snapshot_page(path: Path, manifest: Manifest, verdicts: Sequence[Verdict]) -> None:
    """What a snapshot holds, and that its ids, its order and its splits are what they must be."""
    _write(
        path,
        "snapshot.html.j2",
        manifest.dataset,
        verdicts,
        manifest=manifest,
        behavior_figure=figures.bars({name: manifest.behavior_counts.get(name, 0) for name in manifest.behaviors}),
    )


def _write(path: Path, template: str, dataset: str, verdicts: Sequence[Verdict], **content: Any) -> None:
    page = render(
        _HERE / template,
        {
            "dataset": dataset,
            "checks": [verdict.told() for verdict in verdicts],
            "failed": sum(not verdict.success for verdict in verdicts),
            "made_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "version": __version__,
            **content,
        },
    )
    write_text(path, page)
