"""One training from settings to an exported, logged model; every part of it may be cut off and is repeated or kept."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from hmar import export, leaks
from hmar.atomic import sweep, write_json
from hmar.data.counting import PriorCounts
from hmar.data.snapshot import Snapshot
from hmar.errors import HmarError, Interrupted, ModelError, ServiceError
from hmar.evaluate.names import tracked
from hmar.losses import loss_function
from hmar.models import model_class
from hmar.models.base import Encoder, Recommender, Vocabulary
from hmar.models.ranker import Ranker
from hmar.tracking import plots
from hmar.tracking.dataset import snapshot_input
from hmar.tracking.environment import environment_tags
from hmar.tracking.run import Point, TrackedRun, flatten
from hmar.train.data import training_data
from hmar.train.directory import RunRecord, TrainingDirectory
from hmar.train.engine import device_label, set_up
from hmar.train.gradients import out_of_memory
from hmar.train.log import LOGGER, log_to
from hmar.train.progress import Reporter
from hmar.train.ranks import Ranks
from hmar.train.record import EpochLog
from hmar.train.settings import TrainSettings
from hmar.train.signals import StopSignal
from hmar.train.validation import validation
from hmar.train.weights import load_weights, save_weights

if TYPE_CHECKING:
    from hmar.train.loop import Trainer


def train(settings: TrainSettings, stop: StopSignal, ranks: Ranks | None = None) -> RunRecord:
    """Train, or continue, or find it finished; then ``out`` holds the exported model and MLflow the run.

    With several processes this is the part of the first; :func:`follow` is that of the others.

    Raises:
        SettingsError: ``out`` holds another training, or the device is not there. DataError: no such snapshot or split.
        ServiceError: MLflow does not answer, before anything was trained, or at the end with all of it kept.
        Interrupted: a signal came, a checkpoint was written. ModelError: the loss is not finite, or memory is short.
        BusyError: another process trains in ``out``. StorageError: the disk refused.
    """
    ranks = ranks or Ranks()
    directory = TrainingDirectory(settings.out.absolute())
    with directory.lock(), log_to(directory.log), _logged():
        snapshot = Snapshot(settings.snapshot)
        snapshot.train_end(settings.split)
        record = directory.open_record(settings, snapshot.manifest.id)
        with Reporter(settings.log_seconds, settings.max_epochs) as reporter:
            if record.status == "finished" and directory.model.is_dir():
                reporter.say(f"{directory.root}: finished before; nothing to do")
                ranks.told(False)
                return record
            sweep(directory.root)
            with _ends_in(directory, record):
                _Session(settings, stop, directory, snapshot, record, reporter, ranks).run()
    return record


def follow(settings: TrainSettings, stop: StopSignal, ranks: Ranks) -> None:
    """Compute this process's share of a training that the first process leads; write nothing but a log.

    Raises:
        Interrupted: a signal came to any of the processes, or another one ended. DataError, ModelError: as the first.
    """
    directory = TrainingDirectory(settings.out.absolute())
    if not ranks.told():
        return
    log = directory.log.with_suffix(f".{ranks.rank}.log")
    with log_to(log), _logged(), Reporter(math.inf, settings.max_epochs, Console(quiet=True)) as reporter:
        snapshot = Snapshot(settings.snapshot)
        device = set_up(settings, ranks)
        model = _build(settings, snapshot)
        assert isinstance(model, Encoder | Ranker)
        model.to(device)
        trainer = _make_trainer(
            settings,
            snapshot,
            model,
            device=device,
            directory=directory,
            reporter=reporter,
            stop=stop,
            ranks=ranks,
            on_epoch=lambda history: None,
        )
        trainer.restore()
        trainer.fit()


def _build(settings: TrainSettings, snapshot: Snapshot) -> Recommender:
    """The model with its first weights, which follow from the seed alone."""
    torch.manual_seed(settings.seed)
    kind = model_class(settings.model)
    return kind(kind.Config.parse(settings.config, "config"), Vocabulary.of(snapshot))


def _make_trainer(settings: TrainSettings, snapshot: Snapshot, model: Encoder | Ranker, **parts: Any) -> "Trainer":
    """``parts``: see :class:`hmar.train.loop.Trainer`."""
    from hmar.train.loop import Trainer  # Lightning takes seconds to import, and rules do without it

    loss = loss_function(settings.loss, **settings.loss_options)
    data = training_data(settings, snapshot, model, loss)
    validate = _validation(settings, snapshot, model, data.prior)
    return Trainer(settings, model, loss, data, validate=validate, **parts)


def _validation(
    settings: TrainSettings, snapshot: Snapshot, model: Recommender, prior: PriorCounts
) -> Callable[[], dict[str, float]] | None:
    return validation(
        model,
        snapshot,
        settings.split,
        settings.max_length,
        prior,
        settings.select_on,
        settings.select_among,
        settings.select_metric,
    )


class _Session:
    """The parts of one training, made in the order in which they can fail cheaply."""

    def __init__(
        self,
        settings: TrainSettings,
        stop: StopSignal,
        directory: TrainingDirectory,
        snapshot: Snapshot,
        record: RunRecord,
        reporter: Reporter,
        ranks: Ranks,
    ) -> None:
        self.settings, self.stop, self.directory, self.ranks = settings, stop, directory, ranks
        self.snapshot, self.record, self.reporter = snapshot, record, reporter
        self.device = set_up(settings, ranks)
        self.model = _build(settings, snapshot)
        record.leaks = leaks.of_training(
            self.model, snapshot, settings.split, settings.select_on, settings.select_among
        )
        if record.leaks:
            reporter.warn(f"leaks: {', '.join(record.leaks)}; to compare and to price them, this model serves nobody")
        self.tracked = self._open_run()

    def run(self) -> None:
        with self._ends_run():
            model = self.model
            model.fit_counts(self.snapshot, self.settings.split)
            model.to(self.device)
            history = self._fit_network(model) if isinstance(model, Encoder | Ranker) else self._fit_rule(model)
            self.stop.check()
            load_weights(model, self.directory.best)
            exported = export.save(
                self.directory.model,
                model.cpu(),
                self.snapshot,
                self.settings.split,
                self.settings.max_length,
                self.record.leaks,
            )
            LOGGER.info("exported to %s", exported)
            self._log_results(history)
            if self.settings.tracking.weights:
                self.record.mlflow_model = self._log_model()
            self.stop.check()
            self.tracked.finish("FINISHED")
            self._write_record("finished")
        best = self.record.best_metric
        chosen = f"{self.settings.chosen_by} {best:.4f}" if best is not None else "not validated"
        at = f" at epoch {self.record.best_epoch} of {self.record.epochs}" if self.record.best_epoch else ""
        self.reporter.say(f"finished: {chosen}{at}; model in {self.directory.model}")

    # -- before training -----------------------------------------------------------------------------------------

    def _open_run(self) -> TrackedRun:
        settings, tracking = self.settings, self.settings.tracking
        tags = environment_tags(device_label(self.device), torch.get_num_threads())
        tags["hmar.processes"] = str(self.ranks.size)
        run = TrackedRun.open(
            tracking.uri,
            experiment=tracking.experiment,
            artifacts=tracking.artifacts,
            identity=self.record.training,
            name=tracking.run_name or settings.model,
            tags={**tags, **tracking.tags, **leaks.tags(self.record.leaks)},
            run_id=self.record.mlflow_run,
        )
        self.record.mlflow_run = run.run_id
        self._write_record("running")
        run.log_params(self._params())
        run.log_input(snapshot_input(self.snapshot, settings.split))
        return run

    @property
    def _judged(self) -> str:
        """What the names of the metrics that choose the epoch begin with: train/validation, where all is in order."""
        part, among = self.settings.select_on, self.settings.select_among
        return tracked(f"train/{part}" + ("" if among == "full" else f"_{among}"), self.record.leaks)

    def _params(self) -> dict[str, Any]:
        values = self.settings.model_dump(mode="json", exclude={"out", "tracking", "snapshot"})
        return {**flatten(values), "snapshot": self.snapshot.manifest.id, "dataset": self.snapshot.manifest.dataset}

    # -- training ------------------------------------------------------------------------------------------------

    def _fit_rule(self, model: Recommender) -> list[dict[str, Any]]:
        """A rule has no epochs: counted, judged, done."""
        if model.trainable:
            raise ModelError(f"model {self.settings.model}: the training loop trains encoders and rankers only")
        self.ranks.told(False)
        settings = self.settings
        validate = _validation(settings, self.snapshot, model, PriorCounts(self.snapshot))
        self._write_best(None, None, 0)
        if validate is None:
            self._warn_not_validated("")
        else:
            metrics = validate()
            self._write_best(None, metrics[settings.select_metric], 0)
            self.tracked.log_metrics(
                [Point(f"{self._judged}/{tracked(name)}", value) for name, value in metrics.items()]
            )
        save_weights(model, self.directory.best, 0)
        return []

    def _fit_network(self, model: Encoder | Ranker) -> list[dict[str, Any]]:
        self.ranks.told(True)
        settings = self.settings
        epochs = EpochLog(self.tracked, self.reporter.warn, self._judged)
        trainer = _make_trainer(
            settings,
            self.snapshot,
            model,
            device=self.device,
            directory=self.directory,
            reporter=self.reporter,
            stop=self.stop,
            ranks=self.ranks,
            on_epoch=epochs.follow,
        )
        if trainer.validate is None:
            self._warn_not_validated(f": all {settings.max_epochs} epochs are trained and the last weights kept")
        weights = export.parameters(model)
        self.reporter.say(
            f"{settings.model}: {weights:,} weights, {trainer.data.tokens:,} positions in {trainer.data.steps:,} steps "
            f"per epoch, {device_label(self.device)}, {torch.get_num_threads()} threads"
            + ("" if self.ranks.alone else f", {self.ranks.size} processes")
        )
        if trainer.restore():
            done = trainer.cursor
            self.reporter.say(f"continuing after epoch {done.epoch}, step {done.step}")
        trainer.fit()
        stopping = trainer.stopping
        if stopping.exhausted:
            self.reporter.say(f"no better {settings.select_metric} in {stopping.waited} evaluations")
        if not stopping.best_epoch:
            save_weights(model, self.directory.best, trainer.cursor.epoch)
        self._write_best(stopping.best_epoch or None, stopping.best, trainer.cursor.epoch)
        epochs.flush(trainer.history)
        return trainer.history

    def _warn_not_validated(self, so: str) -> None:
        self.reporter.warn(f"split {self.settings.split} has no validation targets{so}")

    # -- after training ------------------------------------------------------------------------------------------

    def _log_results(self, history: list[dict[str, Any]]) -> None:
        record, run = self.record, self.tracked
        best = self._judged.replace("train/", "train/best_") + f"_{tracked(self.settings.select_metric)}"
        finals = {"train/epochs": record.epochs, "train/best_epoch": record.best_epoch, best: record.best_metric}
        run.log_metrics([Point(name, value, record.epochs) for name, value in finals.items() if value is not None])
        if history:
            epochs = [row["epoch"] for row in history]
            run.log_figure(plots.loss_curve(epochs, [row["loss"] for row in history]), "plots/loss.png")
        judged = [row for row in history if row["validation"] is not None]
        if judged:
            values = [row["validation"][self.settings.select_metric] for row in judged]
            figure = plots.validation_curve(
                [row["epoch"] for row in judged],
                values,
                record.best_epoch or 0,
                self.settings.select_metric,
                self.settings.select_on,
                self.settings.select_among,
            )
            run.log_figure(figure, "plots/validation.png")
        write_json(self.directory.history, history)
        if self.settings.tracking.weights:
            run.log_file(self.directory.best, "checkpoint")
        for file in (self.directory.settings, self.directory.history, self.directory.log):
            run.log_file(file, "training")

    def _log_model(self) -> str:
        """The id of the MLflow model: of the one that a former, interrupted call logged, or of a new one."""
        from hmar.serving.mlflow_model import log_model

        logged = self.tracked.logged_model()
        return logged or str(log_model(self.directory.model, self.settings.tracking.uri, self.tracked.run_id).model_id)

    def _write_best(self, epoch: int | None, value: float | None, epochs: int) -> None:
        self.record.best_epoch, self.record.best_metric, self.record.epochs = epoch, value, epochs
        self.directory.write_record(self.record)

    def _write_record(self, status: Any) -> None:
        self.record.status = status
        self.directory.write_record(self.record)

    @contextmanager
    def _ends_run(self) -> Iterator[None]:
        """Tell MLflow how it ended, where it listens; what stops a training is never hidden by what MLflow says."""
        try:
            yield
        except BaseException as error:
            try:
                self.tracked.check()
                self.tracked.finish("KILLED" if isinstance(error, Interrupted) else "FAILED")
            except HmarError as second:
                LOGGER.warning("the end of the run could not be logged: %s", second)
            raise


@contextmanager
def _ends_in(directory: TrainingDirectory, record: RunRecord) -> Iterator[None]:
    """Write down how an unfinished training ended; running out of memory becomes an error of ours."""
    try:
        yield
    except BaseException as error:
        waits = isinstance(error, Interrupted | ServiceError)
        record.status = "interrupted" if waits else "failed"
        directory.write_record(record)
        if out_of_memory(error):
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"out of memory ({reason}); lower batch_size or max_length") from error
        raise


@contextmanager
def _logged() -> Iterator[None]:
    """What ends a training stands in train.log with its traceback."""
    try:
        yield
    except BaseException as error:
        LOGGER.error("%s: %s", type(error).__name__, error, exc_info=not isinstance(error, Interrupted))
        raise
