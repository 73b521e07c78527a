"""What one line of a search space may be. Light to import: Optuna is asked when a trial is proposed."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from hmar.errors import SettingsError
from hmar.settings import Section, nearest

if TYPE_CHECKING:
    from optuna.trial import Trial

Scalar = bool | int | float | str | None

_TOLERANCE = 1e-9


class FloatRange(Section):
    """A number between two bounds, both included."""

    low: float
    high: float
    log: bool = False
    """Whether equal ratios are equally likely, not equal differences."""
    step: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _sound(self) -> "FloatRange":
        _check_range(self.low, self.high, self.log, self.step)
        return self

    def suggest(self, trial: "Trial", name: str) -> Scalar:
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def examples(self) -> Iterator[Scalar]:
        """Values whose legality stands for that of all."""
        yield from dict.fromkeys((self.low, self.high))

    def has(self, value: Any) -> bool:
        return _within(value, self.low, self.high, self.step)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{_manner(self.log, self.step)}"


class IntRange(Section):
    """A whole number between two bounds, both included."""

    low: int
    high: int
    log: bool = False
    """Whether equal ratios are equally likely, not equal differences."""
    step: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _sound(self) -> "IntRange":
        _check_range(self.low, self.high, self.log, self.step)
        return self

    def suggest(self, trial: "Trial", name: str) -> Scalar:
        return trial.suggest_int(name, self.low, self.high, step=self.step or 1, log=self.log)

    def examples(self) -> Iterator[Scalar]:
        """Values whose legality stands for that of all: up to a score of them."""
        values = range(self.low, self.high + 1, self.step or 1)
        yield from dict.fromkeys([*values[:: max(1, len(values) // 20)], self.high])

    def has(self, value: Any) -> bool:
        return isinstance(value, int) and _within(value, self.low, self.high, self.step)

    def __str__(self) -> str:
        return f"{self.low} to {self.high}{_manner(self.log, self.step)}"


class Choice(Section):
    """One of some values, in no order."""

    values: tuple[Scalar, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _sound(self) -> "Choice":
        _refuse_twice([repr(value) for value in self.values])
        return self

    def suggest(self, trial: "Trial", name: str) -> Scalar:
        return trial.suggest_categorical(name, self.values)

    def examples(self) -> Iterator[Scalar]:
        yield from self.values

    def has(self, value: Any) -> bool:
        return any(value == one and type(value) is type(one) for one in self.values)

    def __str__(self) -> str:
        return ", ".join(str(value) for value in self.values)


class NamedSettings(Section):
    """One of some groups of settings that only make sense together, by a name of its own each."""

    values: dict[str, dict[str, Any]] = Field(min_length=1)

    def suggest(self, trial: "Trial", name: str) -> Scalar:
        return trial.suggest_categorical(name, tuple(self.values))

    def examples(self) -> Iterator[Scalar]:
        yield from self.values

    def has(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return ", ".join(self.values)


Dimension = FloatRange | IntRange | Choice | NamedSettings

KINDS: dict[str, type[Dimension]] = {
    "float": FloatRange,
    "int": IntRange,
    "choice": Choice,
    "settings": NamedSettings,
}
"""What ``type`` may say."""


def dimension(name: str, given: Any) -> Dimension:
    """The line ``name: given`` of a search space, for example ``lr: {type: float, low: 1.0e-4, high: 1.0e-2}``.

    Raises:
        SettingsError: it is none; the key is named.
    """
    where = f"search.{name}"
    if isinstance(given, Dimension):
        return given
    if not isinstance(given, Mapping) or "type" not in given:
        raise SettingsError(f"{where}: expected a mapping with type ({', '.join(KINDS)}), found {given!r}")
    kind = given["type"]
    if kind not in KINDS:
        raise SettingsError(f"{where}: unknown type {kind!r}{nearest(str(kind), list(KINDS))}")
    return KINDS[kind].parse({key: value for key, value in given.items() if key != "type"}, where)


def spelled(found: Dimension) -> dict[str, Any]:
    """What :func:`dimension` makes the same of, without defaults."""
    kind = next(name for name, one in KINDS.items() if isinstance(found, one))
    return {"type": kind, **found.model_dump(mode="json", exclude_defaults=True)}


def _check_range(low: float, high: float, log: bool, step: float | None) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("low and high are finite numbers")
    if low > high:
        raise ValueError(f"low {low:g} is above high {high:g}")
    if log and low <= 0:
        raise ValueError(f"log needs low above 0, and it is {low:g}")
    if log and step is not None:
        raise ValueError("log and step exclude each other; leave one out")
    if step is not None and not _whole((high - low) / step):
        raise ValueError(f"steps of {step:g} from {low:g} miss high {high:g}")


def _within(value: Any, low: float, high: float, step: float | None) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return False
    return step is None or _whole((value - low) / step)


def _whole(number: float) -> bool:
    return abs(number - round(number)) < _TOLERANCE * max(1.0, abs(number))


def _manner(log: bool, step: float | None) -> str:
    return ", log" if log else f", step {step:g}" if step is not None else ""


def _refuse_twice(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} stands twice")
