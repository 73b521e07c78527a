"""``hmar models``: what can be trained, and by which settings."""

import sys

from hmar.errors import SettingsError
from hmar.models import MODELS, model_class


def main(arguments: list[str]) -> int:
    """``hmar models`` lists them, ``hmar models NAME`` shows one model's own settings."""
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
        table.add_row(name, "trained" if kind.trainable else "rule", _summary(kind))
    Console(highlight=False).print(table)
    return 0


def _summary(kind: type) -> str:
    """The first line of the model's module, which is where the paper and its equations are."""
    return (sys.modules[kind.__module__].__doc__ or "").strip().splitlines()[0]


def _one(name: str) -> int:
    from rich.console import Console
    from rich.table import Table

    table = Table("setting", "default", "meaning", box=None, header_style="bold", padding=(0, 2, 0, 0))
    for key, field in model_class(name).Config.model_fields.items():
        default = "" if field.is_required() else str(field.get_default(call_default_factory=True))
        table.add_row(key, default, " ".join((field.description or "").split()))
    console = Console(highlight=False)
    console.print(table)
    console.print(f'\nset them as --overrides \'{{"{name}": {{"config": {{...}}}}}}\'', markup=False, style="dim")
    return 0
