"""The champion scores every user of the snapshot, over their full history, as of the end of the log."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hmar.errors import DataError
from pipeline.registry import Registry, own_tags
from pipeline.results import Built, Promoted, Recommended
from pipeline.settings import RetrainSettings
from pipeline.storage.atomic import new_directory, storage_errors, write_json

if TYPE_CHECKING:
    import pyarrow as pa
    from mlflow.entities.model_registry import ModelVersion

LATEST = "latest.json"
FILE = "recommendations.parquet"
_MEMORY_MB = 256


def recommend(s: RetrainSettings, built: Built, promoted: Promoted) -> Recommended:
    """Write ``k`` items per user as Parquet: user_id, rank (1 is best), item_id, score, model_version, snapshot,
    scored_at; ordered by user and rank. Where items do not recur, those the user has consumed are left out.

    The same champion on the same snapshot is not scored twice. Readers find the newest by :func:`latest`.

    Raises:
        DataError: the champion does not fit the snapshot. ModelError: NaN scores, or it was trained with leaks.
        ServiceError, StorageError.
    """
    registry = Registry(s)
    champion = registry.version(promoted.champion) if promoted.champion else registry.champion()
    number = str(champion.version)
    root = s.paths.recommendations(s.name)
    final = written_at(s, built, number).parent
    if not (final / FILE).is_file():
        with new_directory(final) as temporary:
            export = champion_export(s, registry, champion, temporary / "model")
            _write(s, built, export, number, temporary / FILE)
            shutil.rmtree(temporary / "model", ignore_errors=True)
    users, rows = counts(final / FILE)
    written = {
        "path": str((final / FILE).relative_to(root)),
        "users": users,
        "rows": rows,
        "k": s.recommend.k,
        "champion": number,
        "model": own_tags(champion).get("model", ""),
        "snapshot": built.id,
    }
    if read_latest(s) != written:
        write_json(root / LATEST, written)
    return Recommended(path=final / FILE, users=users, rows=rows, champion=number)


def written_at(s: RetrainSettings, built: Built, version: str) -> Path:
    """Where one version's recommendations on a snapshot lie, written or not."""
    return s.paths.recommendations(s.name) / f"{built.id}_v{version}_k{s.recommend.k}" / FILE


def read_latest(s: RetrainSettings) -> dict[str, object] | None:
    """What latest.json says; None where nothing has been recommended yet."""
    path = s.paths.recommendations(s.name) / LATEST
    try:
        found: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: unreadable ({error}); delete it and run 'hmar recommend'") from None
    return found


def of_user(path: Path, user: str) -> "pa.Table":
    """One user's rows, best first; empty where the user is not in the file. ``user`` is a source id as text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pq.read_schema(path).field("user_id").type
    value: int | str = user
    if pa.types.is_integer(kind):
        try:
            value = int(user)
        except ValueError:
            raise DataError(f"user {user!r}: the user ids of this dataset are whole numbers") from None
    return pq.read_table(path, filters=[("user_id", "=", value)]).sort_by("rank")


def champion_export(s: RetrainSettings, registry: Registry, champion: "ModelVersion", into: Path) -> Path:
    """The champion's exported model: from its own training directory, else from the registry."""
    tags = own_tags(champion)
    if tags.get("run") and tags.get("model"):
        own = s.paths.training(tags["run"], tags["model"]) / "model"
        if (own / "weights.safetensors").is_file():
            return own
    return registry.download(str(champion.version), into)


def _write(s: RetrainSettings, built: Built, export: Path, version: str, path: Path) -> None:
    import pyarrow.parquet as pq

    with storage_errors(path):
        writer = None
        try:
            for table in _tables(s, built, export, version):
                if writer is None:
                    writer = pq.ParquetWriter(path, table.schema, compression="zstd")
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()
    if writer is None:
        raise DataError(f"{built.snapshot}: no users, so there is nobody to recommend to")


def _tables(s: RetrainSettings, built: Built, export: Path, version: str) -> "Iterator[pa.Table]":
    import pyarrow as pa

    from hmar import leaks
    from hmar.data.snapshot import Snapshot
    from hmar.evaluate.adapt import adapt
    from hmar.evaluate.run import choose_device
    from hmar.export import load
    from hmar.recommend import recommendations
    from hmar.threads import limit_threads

    limit_threads(int(s.train.get("threads", 0)))
    loaded = load(export)
    leaks.refuse(loaded.meta.leaks, export)
    snapshot = Snapshot(built.snapshot)
    model = adapt(loaded, snapshot).to(choose_device(str(s.train.get("device", "auto"))))
    scored_at = pa.scalar(datetime.now(UTC), pa.timestamp("us", tz="UTC"))
    batches = recommendations(
        model,
        snapshot,
        s.recommend.k,
        max_length=loaded.meta.max_length,
        memory_mb=_MEMORY_MB,
    )
    for batch in batches:
        table = pa.Table.from_batches([batch])
        for name, value in (("model_version", version), ("snapshot", built.id), ("scored_at", scored_at)):
            table = table.append_column(name, pa.repeat(value, len(table)))
        yield table


def counts(path: Path) -> tuple[int, int]:
    """Users and rows of a written file."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    users = pq.read_table(path, columns=["user_id"]).column("user_id")
    return int(pc.count_distinct(users).as_py()), len(users)
