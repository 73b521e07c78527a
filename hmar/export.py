"""The exported model: a directory that rebuilds it anywhere, without pickle and without the snapshot.

config.json           Exported, below: which model, built how, for which vocabulary
weights.safetensors   parameters and counted buffers
items.parquet         item int32 (dense id, equal to the row number), item_id as the source has it
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from hmar import __version__
from hmar.atomic import new_directory, write_json
from hmar.data.snapshot import Snapshot
from hmar.errors import DataError, SettingsError
from hmar.models import MODELS, model_class
from hmar.models.base import Recommender, Vocabulary

FORMAT = 1
FILES = ("config.json", "weights.safetensors", "items.parquet")


class Exported(BaseModel):
    """What config.json says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    model: str
    """Name in the registry of models."""
    config: dict[str, Any]
    vocabulary: Vocabulary
    max_length: int
    """Events of a history that the model reads, newest last."""
    snapshot: str
    """Id of the snapshot it was trained on."""
    split: str
    leaks: tuple[str, ...] = ()
    """What its training knew that it must not know (:mod:`hmar.leaks`)."""
    dataset: str
    item_id_type: Literal["int64", "string"]
    hmar_version: str


@dataclass(frozen=True)
class LoadedModel:
    """A model rebuilt from its directory, in evaluation mode on the CPU."""

    model: Recommender
    item_ids: pa.Array
    """Source ids, row number = dense id: int64 or string [V]."""
    meta: Exported
    directory: Path

    @cached_property
    def dense(self) -> dict[Any, int]:
        """Source id to dense id."""
        return {item_id: item for item, item_id in enumerate(self.item_ids.to_pylist())}


def save(
    directory: Path,
    model: Recommender,
    snapshot: Snapshot,
    split: str,
    max_length: int,
    leaks: tuple[str, ...] = (),
) -> Path:
    """Write ``model``, trained on ``split`` of ``snapshot``, to ``directory``: there whole or not at all.

    An export that stands there already is replaced. Returns ``directory``.

    Raises:
        StorageError: the disk refused.
    """
    directory = Path(directory)
    name = next((name for name, kind in MODELS.items() if kind == type(model).__name__), None)
    if name is None:
        raise SettingsError(f"{type(model).__name__} is not in hmar.models.MODELS, so it could not be loaded again")
    meta = Exported(
        format=FORMAT,
        model=name,
        config=model.config.model_dump(mode="json"),
        vocabulary=model.vocabulary,
        max_length=max_length,
        snapshot=snapshot.manifest.id,
        split=split,
        leaks=leaks,
        dataset=snapshot.manifest.dataset,
        item_id_type=snapshot.manifest.item_id_type,
        hmar_version=__version__,
    )
    with new_directory(directory, replace=True) as temporary:
        save_model(model, str(temporary / "weights.safetensors"))
        pq.write_table(snapshot.items.select(["item", "item_id"]), temporary / "items.parquet", compression="zstd")
        write_json(temporary / "config.json", meta.model_dump(mode="json") | {"vocabulary": asdict(model.vocabulary)})
    return directory


def load(directory: Path) -> LoadedModel:
    """Rebuild what :func:`save` wrote.

    Raises:
        DataError: a file is missing or damaged, the format is another one, or the weights do not fit the config.
        SettingsError: this version of the code knows neither the model nor one of its settings.
    """
    directory = Path(directory)
    for name in FILES:
        if not (directory / name).is_file():
            raise DataError(f"{directory}: not an exported model (no {name}); export it again from its training")
    meta = _read_meta(directory / "config.json")
    kind = model_class(meta.model)
    model = kind(kind.Config.parse(meta.config, where=str(directory / "config.json")), meta.vocabulary)
    weights = directory / "weights.safetensors"
    try:
        load_model(model, str(weights), strict=True)
    except (SafetensorError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{weights}: does not fit config.json ({reason}); export the model again") from None
    model.requires_grad_(False).eval()
    return LoadedModel(
        model=model, item_ids=_read_items(directory / "items.parquet", meta), meta=meta, directory=directory
    )


def _read_meta(path: Path) -> Exported:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: unreadable ({error}); export the model again") from None
    found = raw.get("format") if isinstance(raw, Mapping) else None
    if found != FORMAT:
        raise DataError(f"{path}: export format {found}, this code reads {FORMAT}; export the model again")
    try:
        return Exported.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: {key}: {first['msg']}; export the model again") from None


def _read_items(path: Path, meta: Exported) -> pa.Array:
    try:
        table = pq.read_table(path, columns=["item_id"])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: unreadable ({error}); export the model again") from None
    ids = table.column("item_id").combine_chunks()
    if len(ids) != meta.vocabulary.items:
        raise DataError(f"{path}: {len(ids)} items, config.json says {meta.vocabulary.items}; export the model again")
    return ids


def parameters(model: torch.nn.Module) -> int:
    """Number of trainable weights."""
    return sum(weights.numel() for weights in model.parameters())
