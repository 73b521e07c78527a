"""A search space: settings of one model's training and the values they may take. Light to import.

::

    lr: {type: float, low: 3.0e-4, high: 1.0e-2, log: true}
    config.d: {type: int, low: 30, high: 100, step: 10}
    batch_size: {type: choice, values: [32, 64, 128]}
    loss:                                  # settings that only make sense together; the names are one's own
      type: settings
      values:
        bce: {loss: bce, negatives_from: unseen}
        gbce: {loss: gbce, negatives_from: uniform}

spaces.yaml holds one per model; the ``search`` section of a preset changes it for a dataset, line by line, and so does
who starts the search. ``null`` takes a line out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hmar.errors import SettingsError
from hmar.models import MODELS, model_class
from hmar.settings import deep_merge, nearest, read_yaml
from hmar.tune.dimensions import Dimension, NamedSettings, Scalar, dimension, spelled

if TYPE_CHECKING:
    from optuna.trial import Trial

SPACES = Path(__file__).parent / "spaces.yaml"


@dataclass(frozen=True)
class SearchSpace:
    """Names of dimensions, in their order, to what they may be. A name is the setting's key (``config.d``), or for
    named settings any word."""

    dimensions: dict[str, Dimension]

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "SearchSpace":
        """
        Raises:
            SettingsError: a line is no dimension, or two lines set the same key.
        """
        space = cls({name: dimension(name, one) for name, one in given.items() if one is not None})
        setter: dict[str, str] = {}
        for name, found in space.dimensions.items():
            for key in _keys_of(name, found):
                other = setter.setdefault(key, name)
                if other != name:
                    raise SettingsError(f"search.{name}: {key} is set by search.{other}, too; leave one of them out")
        return space

    def keys(self) -> dict[str, str]:
        """Every setting that is searched, and the dimension that sets it."""
        return {key: name for name, found in self.dimensions.items() for key in _keys_of(name, found)}

    def suggest(self, trial: "Trial") -> dict[str, Scalar]:
        """A value for every dimension. What the trial has been given before stays."""
        return {name: found.suggest(trial, name) for name, found in self.dimensions.items()}

    def settings(self, values: Mapping[str, Scalar]) -> dict[str, Any]:
        """The training settings that these values of the dimensions stand for, nested: {"config": {"d": 64}}."""
        nested: dict[str, Any] = {}
        for name, value in values.items():
            found = self.dimensions[name]
            given = found.values[str(value)] if isinstance(found, NamedSettings) else {name: value}
            for key, one in given.items():
                nested = deep_merge(nested, _nested(key, one))
        return nested

    def holds(self, settings: Mapping[str, Any]) -> dict[str, Scalar]:
        """The values of the dimensions that these full settings stand for; those that the space has none for are
        missing."""
        return {name: value for name, found in self.dimensions.items() for value in _held(name, found, settings)}

    def spelled(self) -> dict[str, Any]:
        """As it would stand in a YAML file."""
        return {name: spelled(found) for name, found in self.dimensions.items()}


def search_space(model: str, preset: str = "", changes: Mapping[str, Any] | None = None) -> SearchSpace:
    """The space of a model: its own, changed by the preset's, changed by ``changes``.

    Raises:
        SettingsError: unknown model or preset, a line that is no dimension, or nothing to search.
    """
    from hmar.train.settings import PRESETS, preset_names

    if model not in MODELS:
        raise SettingsError(f"model: unknown {model!r}{nearest(model, list(MODELS))}")
    lines = dict(read_yaml(SPACES).get(model) or {})
    if preset:
        if preset not in preset_names():
            raise SettingsError(f"preset: unknown preset {preset!r}{nearest(preset, preset_names())}")
        lines |= (read_yaml(PRESETS / f"{preset}.yaml").get("search") or {}).get(model) or {}
    space = SearchSpace.parse({**lines, **(changes or {})})
    if not space.dimensions:
        if not model_class(model).trainable:
            raise SettingsError(
                f"search: {model} is a rule, nothing of it is trained and nothing searched; its settings are set in "
                f"overrides, see 'hmar models {model}'"
            )
        raise SettingsError(f'search: {model} has no search space; give one, {{"lr": {{"type": "float", ...}}}}')
    return space


def _keys_of(name: str, found: Dimension) -> list[str]:
    if not isinstance(found, NamedSettings):
        return [name]
    return list(dict.fromkeys(key for given in found.values.values() for key in given))


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    nested: dict[str, Any] = value
    return nested


def _held(name: str, found: Dimension, settings: Mapping[str, Any]) -> Iterator[Scalar]:
    if isinstance(found, NamedSettings):
        for bundle, given in found.values.items():
            if all(_at(settings, key) == value for key, value in given.items()):
                yield bundle
                return
    elif found.has(value := _at(settings, name)):
        yield value


def _at(settings: Mapping[str, Any], key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
