"""A study: its trials and what came of them, in one SQLite file that survives any death of the processes around it.

Trials are numbered 0, 1, 2, ... and made in advance, waiting; whoever works takes one by its number. So the work can
be done by one process in order, by several at once, or by the tasks of a DAG, and each of them finds its own trial
again after a crash.
"""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

from hmar.errors import DataError, SettingsError, StorageError
from hmar.tracking.run import flatten
from hmar.tune.dimensions import Scalar
from hmar.tune.pruning import Watch, make_pruner
from hmar.tune.settings import PruningSettings
from hmar.tune.space import SearchSpace

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.study import Study as OptunaStudy
    from optuna.trial import FrozenTrial, Trial

_NAME = "study"
"""One file holds one study."""

_BUSY_SECONDS = 60
"""How long one writer of the file waits for another."""

State = Literal["waiting", "running", "complete", "pruned", "failed"]

_STATES: dict[str, State] = {
    "WAITING": "waiting",
    "RUNNING": "running",
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
}


@dataclass(frozen=True)
class Tried:
    """One trial as the study knows it.

    Attributes:
        number: 0-based. state: see :data:`State`. value: the best validation metric of a complete trial, the last one
            seen of a pruned one. values: the dimensions' values, all of them once the trial has run.
        curve: the validation metric by epoch, 1-based.
        epochs: epochs trained. seconds: of training and validation. run: the id of its MLflow run.
        reason: why it failed.
    """

    number: int
    state: State
    value: float | None
    values: dict[str, Scalar]
    curve: dict[int, float]
    epochs: int = 0
    best_epoch: int | None = None
    seconds: float = 0.0
    run: str = ""
    reason: str = ""

    @property
    def over(self) -> bool:
        return self.state in ("complete", "pruned", "failed")


class Study:
    """An open study.

    Attributes:
        space: what is searched. definition: all that decides what the trials are, as it was when the study began.
        identity: of this study and no other; the tag of its MLflow run.
    """

    def __init__(self, optuna_study: "OptunaStudy", path: Path) -> None:
        self._study, self.path = optuna_study, path
        attributes = optuna_study.user_attrs
        self.definition: dict[str, Any] = attributes["definition"]
        self.identity: str = attributes["identity"]
        self.space = SearchSpace.parse(self.definition["search"])

    @property
    def metric(self) -> str:
        """The validation metric that is searched for, the higher the better."""
        return str(self.definition["training"]["select_metric"])

    @classmethod
    def create(cls, path: Path, definition: Mapping[str, Any]) -> "Study":
        """The study in the file ``path``; a new one where there is none.

        Args:
            definition: JSON; must have ``search`` (a spelled space), ``seed``, ``pruning`` and ``training``, the
                settings that all trials have in common.

        Raises:
            SettingsError: the file holds a study of another definition; the first key that differs is named.
            StorageError: the file cannot be written.
        """
        import optuna

        path.parent.mkdir(parents=True, exist_ok=True)
        with _storage(path) as storage, FileLock(path.with_suffix(".lock")):
            found = optuna.create_study(study_name=_NAME, storage=storage, direction="maximize", load_if_exists=True)
            known = found.user_attrs
            if "definition" in known:
                _refuse_other(path, known["definition"], definition)
            else:
                found.set_user_attr("definition", dict(definition))
            if "identity" not in known:
                found.set_user_attr("identity", uuid.uuid4().hex)
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> "Study":
        """The study in the file ``path``.

        Raises:
            DataError: there is none. StorageError: the file cannot be read.
        """
        import optuna

        if not path.is_file():
            raise DataError(f"{path}: no study; start one with 'hmar tune'")
        with _storage(path) as storage:
            try:
                found = optuna.load_study(study_name=_NAME, storage=storage)
                definition = found.user_attrs["definition"]
            except KeyError:
                raise DataError(f"{path}: a study that was never begun; delete it and start again") from None
            from hmar.tune.sampler import SeededTPE

            pruning = PruningSettings.parse(definition["pruning"])
            found.sampler = SeededTPE(int(definition["seed"]))
            found.pruner = make_pruner(pruning, int(definition["training"]["max_epochs"]))
            return cls(found, path)

    def plan(self, trials: int) -> None:
        """Make trials, waiting, until there are ``trials``. The first is given the settings that all others vary, as
        far as the space has them: what is found is never worse than what was there."""
        with _errors(self.path), FileLock(self.path.with_suffix(".lock")):
            for number in range(len(self._study.get_trials(deepcopy=False)), trials):
                base = self.space.holds(self.definition["training"]) if number == 0 else {}
                self._study.enqueue_trial(base)

    def trials(self) -> list[Tried]:
        """All trials, by number."""
        with _errors(self.path):
            return [_tried(one) for one in self._study.get_trials(deepcopy=False)]

    def begin(self, number: int) -> "RunningTrial":
        """The trial ``number``, running: with the values it has been given, or is given now.

        Raises:
            DataError: it is over, or was never planned.
        """
        from optuna.trial import Trial, TrialState

        with _errors(self.path):
            found = self._study.get_trials(deepcopy=False)
            if number >= len(found) or found[number].state.is_finished():
                raise DataError(f"{self.path}: trial {number} is not planned or over already")
            identifier = found[number]._trial_id
            if found[number].state == TrialState.WAITING:
                self._study._storage.set_trial_state_values(identifier, TrialState.RUNNING)
            trial = Trial(self._study, identifier)
            return RunningTrial(self, trial, self.space.suggest(trial))


class RunningTrial:
    """A trial that has its values and waits for what comes of them."""

    def __init__(self, study: Study, trial: "Trial", values: dict[str, Scalar]) -> None:
        self._study, self._trial = study, trial
        self.number, self.values = trial.number, values

    @property
    def settings(self) -> dict[str, Any]:
        """The training settings that are this trial's own, nested."""
        return self._study.space.settings(self.values)

    def watch(self, history: Path) -> Watch:
        """Reports the history of its training, and tells whether to cut it short."""
        return Watch(self._trial, history, self._study.metric, lambda: _errors(self._study.path))

    def complete(self, value: float, **notes: Any) -> None:
        """``value`` is the best validation metric; ``notes`` are attributes of :class:`Tried`."""
        self._tell("COMPLETE", value, notes)

    def prune(self, **notes: Any) -> None:
        """Its value is the last that was reported."""
        self._tell("PRUNED", None, notes)

    def fail(self, reason: str, **notes: Any) -> None:
        """These settings cannot be trained."""
        self._tell("FAIL", None, {**notes, "reason": reason})

    def _tell(self, state: str, value: float | None, notes: Mapping[str, Any]) -> None:
        from optuna.trial import TrialState

        with _errors(self._study.path):
            for name, note in notes.items():
                self._trial.set_user_attr(name, note)
            self._study._study.tell(self._trial, value, TrialState[state])


def best(tried: list[Tried]) -> Tried | None:
    """The complete trial of the highest value, the first of them; None where none is complete."""
    complete = [one for one in tried if one.state == "complete" and one.value is not None]
    return max(complete, key=lambda one: (one.value or 0.0, -one.number), default=None)


def importances(study: Study) -> dict[str, float]:
    """How much each dimension tells the better trials from the rest, summing to one, the greatest first; empty where
    there are too few trials to say. PED-ANOVA (Watanabe et al., IJCAI 2023)."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    complete = [one for one in study.trials() if one.state == "complete"]
    if len({one.value for one in complete}) < 2:
        return {}
    with _errors(study.path):
        return dict(get_param_importances(study._study, evaluator=PedAnovaImportanceEvaluator()))


def _tried(trial: "FrozenTrial") -> Tried:
    notes = {key: value for key, value in trial.user_attrs.items() if key in Tried.__dataclass_fields__}
    return Tried(
        number=trial.number,
        state=_STATES[trial.state.name],
        value=trial.value,
        values=dict(trial.params),
        curve=dict(sorted(trial.intermediate_values.items())),
        **notes,
    )


def _refuse_other(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    before, now = flatten(old), flatten(new)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise SettingsError(
                f"{key}: {path.parent} holds a study with {before.get(key)!r}, not {now.get(key)!r}; "
                "choose another --study or give the same value"
            )


@contextmanager
def _storage(path: Path) -> "Iterator[RDBStorage]":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _errors(path):
        # Two processes that make the tables of one file at once would both fail.
        with FileLock(path.with_suffix(".tables.lock")):
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": _BUSY_SECONDS}}
            )
        yield storage


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """What the database under Optuna raises, as one line that names the file."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("sqlalchemy", "sqlite3") or type(error).__name__ == (
            "StorageInternalError"
        ):
            cause = error.__cause__ or error
            lines = str(getattr(cause, "orig", None) or cause).splitlines() or [type(cause).__name__]
            raise StorageError(f"{path}: {lines[0]}; run again, what is in it is kept") from error
        raise
