"""``hmar models``: what can be trained, and by which settings."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hmar.errors import SettingsError
from hmar.models import MODELS, model_class

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from rich.table import Table


def main(arguments: list[str]) -> int:
    """``hmar models`` lists them, ``hmar models NAME`` shows one model's settings."""
    if arguments and arguments[0] in ("-h", "--help"):
        print("usage: hmar models [NAME]\n\nList the models, or the settings of one of them.")
        return 0
    if len(arguments) > 1:
        raise SettingsError(f"hmar models takes one name (given: {' '.join(arguments)})")
    return _one(arguments[0]) if arguments else _all()


def _all() -> int:
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "kind", "what it is", box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in MODELS:
        kind = model_class(name)
        table.add_row(name, kind.family, _summary(kind))
    Console(highlight=False).print(table)
    return 0


def _summary(kind: type) -> str:
    """The first sentence of the model's module, which is where the paper and its equations are."""
    text = " ".join((sys.modules[kind.__module__].__doc__ or "").partition("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z])", text, maxsplit=1)[0]


def _one(name: str) -> int:
    from rich.console import Console

    kind = model_class(name)
    console = Console(highlight=False)
    console.print(f"{name}, {kind.family}: {_summary(kind)}\n", markup=False)
    own = _table("its own settings (config)")
    for key, field in kind.Config.model_fields.items():
        default = "" if field.is_required() else field.get_default(call_default_factory=True)
        own.add_row(key, _text(default), _meaning(field))
    console.print(own)
    if kind.trainable:
        console.print()
        console.print(_of_training(name))
        example = f'\'{{"{name}": {{"lr": 0.001, "config": {{...}}}}}}\''
        told = f"set them as --overrides {example}, those of the training for all models as --train '{{...}}'"
        told += "; a dataset's preset may differ from these defaults: 'hmar retrain --dry-run' shows what counts"
    else:
        told = f'set them as --overrides \'{{"{name}": {{"config": {{...}}}}}}\''
    console.print(f"\n{told}", markup=False, style="dim", soft_wrap=True)
    return 0


def _of_training(name: str) -> "Table":
    """The training settings as they are where nothing is set: what is left empty depends on the kind of model."""
    from hmar.train.settings import TrainSettings
    from pipeline.training import OWN_KEYS

    found = TrainSettings.resolve({"model": name, "snapshot": Path(), "out": Path()}, use_environment=False)
    table = _table("settings of its training")
    for key, field in TrainSettings.model_fields.items():
        if key not in OWN_KEYS | {"preset", "config"}:
            table.add_row(key, _text(getattr(found, key)), _meaning(field))
    return table


def _table(title: str) -> "Table":
    from rich.table import Table

    columns = (title, "default", "meaning")
    return Table(*columns, box=None, header_style="bold", padding=(0, 2, 0, 0))


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def _meaning(field: "FieldInfo") -> str:
    return " ".join((field.description or "").split())
