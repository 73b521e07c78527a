"""A search space against the settings of a training: every combination that can be proposed is one that can run."""

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hmar.errors import HmarError, SettingsError
from hmar.models import model_class
from hmar.settings import deep_merge, explain, nearest
from hmar.train.settings import RESUMABLE_KEYS, TrainSettings
from hmar.tune.dimensions import Scalar
from hmar.tune.space import SearchSpace

if TYPE_CHECKING:
    from hmar.data.snapshot import Snapshot

_JUDGED = {"split", "protocol", "eval_every", "select_on", "select_among", "select_metric"}

NOT_SEARCHED = RESUMABLE_KEYS | _JUDGED | {"model", "seed", "max_epochs"}
"""Settings that all trials have in common: what is trained, on what, where, how long, and how it is judged."""


def refuse_leaks(base: TrainSettings) -> None:
    """Nothing is chosen on test targets.

    Raises:
        SettingsError: the settings of the trials would do so.
    """
    if base.select_on != "validation":
        raise SettingsError("select_on: a search chooses on validation targets only; set validation, protocol honest")
    if base.split == "published":
        raise SettingsError(
            "split: the validation targets of split published are its test targets, and a search must not choose on "
            "those; search on leave_one_out or temporal"
        )


def refuse_unknown_keys(space: SearchSpace, model: str) -> None:
    """Every key that is searched is a setting of a training of ``model``.

    Raises:
        SettingsError: it is not; the nearest known key is named.
    """
    own = set(model_class(model).Config.model_fields)
    known = set(TrainSettings.model_fields) - NOT_SEARCHED - {"config"} | {f"config.{name}" for name in own}
    for key, name in space.keys().items():
        where = f"search.{name}" if name == key else f"search.{name}: {key}"
        first = key.split(".")
        if key in NOT_SEARCHED or first[0] in NOT_SEARCHED:
            raise SettingsError(f"{where}: is the same for all trials; leave it out")
        if ".".join(first[: 2 if first[0] == "config" else 1]) not in known:
            raise SettingsError(f"{where}: unknown setting of {model}{nearest(key, known)}")


def refuse_illegal(space: SearchSpace, base: TrainSettings) -> None:
    """Every two dimensions go together, whatever their values: no rule of the settings concerns more than two.

    Args:
        base: the settings of all trials, as they are without the space.

    Raises:
        SettingsError: a value, or two of them together, are none that a training takes.
    """
    fixed = {key: value for key, value in base.model_dump().items() if key not in ("snapshot", "out")}
    fixed |= {"snapshot": base.snapshot, "out": base.out}
    for values in _combinations(space):
        try:
            # What BaseModel.__init__ does. That of BaseSettings looks for layers, at two hundred times the price.
            TrainSettings.__pydantic_validator__.validate_python(
                deep_merge(fixed, space.settings(values)), self_instance=TrainSettings.__new__(TrainSettings)
            )
        except (ValidationError, SettingsError) as error:
            text = explain(error, TrainSettings) if isinstance(error, ValidationError) else str(error)
            shown = ", ".join(f"{name} {_short(value)}" for name, value in values.items())
            raise SettingsError(f"search: {text.splitlines()[0]}; among the combinations: {shown}") from None


def refuse_for(snapshot: "Snapshot", space: SearchSpace, base: TrainSettings) -> None:
    """The snapshot has what the search needs: behaviors of the names that are searched, and validation targets.

    Raises:
        SettingsError: the model cannot be made for this snapshot. DataError: nothing to choose by.
    """
    import torch

    from hmar.errors import DataError
    from hmar.models.base import Vocabulary
    from hmar.train.validation import IMPRESSION_METRICS

    kind = model_class(base.model)
    values = {name: next(found.examples()) for name, found in space.dimensions.items()}
    config = deep_merge(base.config, space.settings(values).get("config", {}))
    try:
        with torch.device("meta"):  # shapes without memory
            kind(kind.Config.parse(config, "config"), Vocabulary.of(snapshot))
    except HmarError as error:
        raise SettingsError(f"search: {error}") from None
    ranked = base.select_metric not in IMPRESSION_METRICS
    if ranked and not len(snapshot.targets(base.split, "validation")):
        raise DataError(f"{snapshot.path}: split {base.split} has no validation targets, so nothing can be chosen")


def _combinations(space: SearchSpace) -> Iterator[dict[str, Scalar]]:
    """Every value with every value of another dimension, the rest at their first."""
    examples = {name: list(found.examples()) for name, found in space.dimensions.items()}
    first = {name: values[0] for name, values in examples.items()}
    if len(examples) == 1:
        yield from ({name: value} for name, values in examples.items() for value in values)
    for one, other in combinations(examples, 2):
        yield from (first | {one: a, other: b} for a in examples[one] for b in examples[other])


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
