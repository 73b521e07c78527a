"""The best weights so far: ``best.safetensors`` of a training."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from hmar.atomic import replaced_file
from hmar.errors import DataError


def save_weights(model: torch.nn.Module, path: Path, epoch: int) -> None:
    """Replace ``path`` by the model's weights and counted buffers; ``epoch`` goes into the file's metadata."""
    with replaced_file(path) as temporary:
        save_model(model, str(temporary), metadata={"epoch": str(epoch)})
        temporary.chmod(0o644)  # safetensors leaves it to the owner alone


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Read them back.

    Raises:
        DataError: the file is missing, damaged or of another model.
    """
    try:
        load_model(model, str(path), strict=True)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: unreadable ({reason}); delete {path.parent} to train anew") from None
