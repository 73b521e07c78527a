"""The training loop: epochs of steps, an evaluation now and then, a checkpoint whenever one is due.

Everything that determines the next step (weights, moments, learning rate, random state, position, losses so far, early
stopping) is in the checkpoint, and the batches are functions of (seed, epoch, step): on the CPU an interrupted
training ends in the very bits of an uninterrupted one.

With several processes (:mod:`hmar.train.ranks`) every one runs this loop, on its share of each batch; what is done
between two of their agreements depends on nothing but what they agreed on.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import psutil
import torch

from hmar.atomic import write_json
from hmar.data.batches import TrainingData
from hmar.data.impressions import ImpressionBatch, ImpressionData
from hmar.data.moving import pinned
from hmar.data.task_turns import TaskTurns
from hmar.errors import DataError, Interrupted, ModelError
from hmar.losses import Loss
from hmar.models.base import Encoder, TrainingBatch
from hmar.models.ranker import Ranker, RankerLoss
from hmar.train.checkpoint import Checkpoints
from hmar.train.compiled import compile_step
from hmar.train.directory import TrainingDirectory
from hmar.train.early_stopping import EarlyStopping
from hmar.train.engine import FORMATS, make_fabric
from hmar.train.gradients import Gradients
from hmar.train.optimizer import make_optimizer, make_schedule
from hmar.train.prefetch import prefetch
from hmar.train.progress import Reporter
from hmar.train.ranks import Ranks
from hmar.train.settings import TrainSettings
from hmar.train.signals import StopSignal
from hmar.train.step import TrainingStep
from hmar.train.weights import save_weights

Batch = TypeVar("Batch", bound=TrainingBatch | ImpressionBatch)

CHECKPOINT_FORMAT = 2


@dataclass
class Cursor:
    """How far a training is.

    Attributes:
        epoch: epochs whose steps are all done. step: steps done of the epoch after them. total: optimizer steps done.
        judged: the last epoch whose validation is done. seconds: time spent on the steps of the current epoch.
        tokens: positions of each step of the current epoch.
    """

    epoch: int = 0
    step: int = 0
    total: int = 0
    judged: int = 0
    seconds: float = 0.0
    tokens: list[int] = field(default_factory=list)


class Trainer:
    """Trains an encoder or a ranker. :meth:`restore` first if there is a checkpoint, then :meth:`fit`.

    Args:
        validate: judges the model as it is and returns metrics, the settings' ``select_metric`` among them; None where
            the split has no validation targets.
        on_epoch: called after each epoch with :attr:`history`, whose rows it may log. Its time is not training time.
        ranks: the processes of this training; the first of them calls ``validate`` and ``on_epoch``, writes and tells.
    """

    def __init__(
        self,
        settings: TrainSettings,
        model: Encoder | Ranker,
        loss: Loss | RankerLoss,
        data: TrainingData | ImpressionData | TaskTurns,
        *,
        device: torch.device,
        directory: TrainingDirectory,
        reporter: Reporter,
        stop: StopSignal,
        validate: Callable[[], Mapping[str, float]] | None,
        on_epoch: Callable[[list[dict[str, Any]]], None],
        ranks: Ranks | None = None,
    ) -> None:
        self.settings, self.model, self.data = settings, model, data
        self.ranks = ranks or Ranks()
        self.fabric = fabric = make_fabric(settings, device)
        self.directory, self.reporter, self.stop = directory, reporter, stop
        self.validate, self.on_epoch = validate, on_epoch
        self.checkpoints = Checkpoints(directory.checkpoints, settings.keep_checkpoints)
        self.stopping = EarlyStopping(settings.patience)
        self.cursor = Cursor()
        self.history: list[dict[str, Any]] = []
        self._raw_optimizer = make_optimizer(settings, model, fabric.device.type)
        self._schedule = make_schedule(settings, self._raw_optimizer)
        step = TrainingStep(model, loss)
        if settings.compile:
            compile_step(step, fabric.device)
        self._step, self._optimizer = fabric.setup(step, self._raw_optimizer)
        self._gradients = Gradients(fabric, self._step, reporter.warn)
        self._losses = torch.zeros(data.steps, device=fabric.device)
        self._checked = 0
        self._saved_at = time.monotonic()
        self._speed = _Speed()

    # -- running -------------------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Train until the last epoch or until early stopping says enough.

        Raises:
            Interrupted: a signal came; a checkpoint was written. ModelError: the loss is not finite.
        """
        self.ranks.equalize([*self.model.parameters(), *self.model.buffers()])
        with self.stop.deferred():
            while not self.finished:
                if self._validation_due:
                    self._judge()
                else:
                    self._epoch()
                if not self._validation_due:
                    self._after_epoch()
                self._obey_signal()

    @property
    def finished(self) -> bool:
        """Whether no epoch is left to train and none to judge."""
        ended = self.cursor.epoch >= self.settings.max_epochs or self.stopping.exhausted
        return ended and not self._validation_due

    @property
    def _validation_due(self) -> bool:
        cursor = self.cursor
        if self.validate is None or cursor.step or cursor.judged == cursor.epoch:
            return False
        return cursor.epoch % self.settings.eval_every == 0 or cursor.epoch >= self.settings.max_epochs

    def _epoch(self) -> None:
        cursor, data = self.cursor, self.data
        self.model.train()
        with prefetch(self._shares(cursor.epoch, cursor.step)) as batches:
            started = time.monotonic()
            for batch, positions in batches:
                self._optimizer.zero_grad()
                self.ranks.seed(self.settings.seed, cursor.epoch, cursor.step)
                loss = self._gradients.of(batch, positions, f"epoch {cursor.epoch + 1}, step {cursor.step + 1}")
                loss = self.ranks.add_up(list(self.model.parameters()), loss)
                if self.settings.clip is not None:
                    self.fabric.clip_gradients(
                        self._step, self._optimizer, max_norm=self.settings.clip, error_if_nonfinite=False
                    )
                self._optimizer.step()
                self._schedule.step()
                self._losses[cursor.step] = loss
                cursor.tokens.append(positions)
                cursor.step += 1
                cursor.total += 1
                now = time.monotonic()
                cursor.seconds += now - started
                self._speed.add(positions, now - started)
                started = now
                if self.reporter.due():
                    self._report()
                if cursor.step < data.steps:
                    self._save_if_due()
                    self._obey_signal()
        self._close_epoch()

    def _shares(self, epoch: int, start: int) -> Iterator[tuple[TrainingBatch | ImpressionBatch, int]]:
        """This process's users of each batch of the epoch from step ``start`` on, and the whole batch's positions."""
        for batch, positions in self.data.shares(epoch, start, self.ranks.rank, self.ranks.size):
            self.model.plan(batch.histories, self.fabric.device, FORMATS[self.settings.precision])
            yield self._within_reach(batch), positions

    def _within_reach(self, batch: Batch) -> Batch:
        """The batch where a GPU can fetch it while this process goes on."""
        device = self.fabric.device
        if device.type != "cuda":
            return batch
        with torch.cuda.device(device):  # this is another thread, which would take the first GPU
            return pinned(batch)

    def _close_epoch(self) -> None:
        cursor = self.cursor
        losses = self._checked_losses(0).double()
        weights = torch.tensor(cursor.tokens, dtype=torch.float64)
        self.history.append(
            {
                "epoch": cursor.epoch + 1,
                "loss": float((losses * weights).sum() / weights.sum()),
                "tokens": sum(cursor.tokens),
                "seconds": cursor.seconds,
                "memory_mb": psutil.Process().memory_info().rss / 2**20,
                "at": time.time(),
                "validation": None,
                "validation_seconds": None,
            }
        )
        cursor.epoch, cursor.step, cursor.seconds, cursor.tokens = cursor.epoch + 1, 0, 0.0, []
        self._checked = 0

    def _judge(self) -> None:
        """Evaluate; the weights are kept if they are the best so far."""
        self._save_if_due()
        self._obey_signal()
        started = time.monotonic()
        metrics = self.ranks.told(self._validated() if self.ranks.first else None)
        if metrics is None:
            raise self._saved_interruption()
        row = self.history[-1]
        row["validation"], row["validation_seconds"] = metrics, time.monotonic() - started
        row["at"] = time.time()
        improved = self.stopping.update(self.cursor.epoch, metrics[self.settings.select_metric])
        if improved and self.ranks.first:
            save_weights(self.model, self.directory.best, self.cursor.epoch)
        self.cursor.judged = self.cursor.epoch

    def _validated(self) -> dict[str, float] | None:
        """The metrics; None where a signal came in between."""
        assert self.validate is not None
        try:
            with self.stop.immediate():
                return dict(self.validate())
        except Interrupted:
            return None

    def _after_epoch(self) -> None:
        """Save, then tell: what is told was saved."""
        self.save()
        if not self.ranks.first:
            return
        row = self.history[-1]
        text = f"epoch {row['epoch']}/{self.settings.max_epochs} loss {row['loss']:.4f}"
        text += f" {row['tokens'] / max(row['seconds'], 1e-9):,.0f} tokens/s {row['seconds']:.1f} s"
        if row["validation"] is not None:
            chosen = self.settings.select_metric
            text += f" | {self.settings.chosen_by} {row['validation'][chosen]:.4f}"
            if self.stopping.waited:
                text += f", best {self.stopping.best:.4f} at epoch {self.stopping.best_epoch}"
            else:
                text += ", the best so far"
        self.reporter.say(text)
        self.on_epoch(self.history)

    def _obey_signal(self) -> None:
        if self.ranks.any(self.stop.requested):
            raise self._saved_interruption()

    def _saved_interruption(self) -> Interrupted:
        self.save()
        done = f"{self.cursor.epoch} epochs" + (f" and {self.cursor.step} steps" if self.cursor.step else "")
        return self.stop.interrupted(f" after {done}, checkpoint written")

    def _report(self) -> None:
        losses = self._checked_losses(self._checked)
        self._checked = self.cursor.step
        per_step = self._speed.seconds_per_step
        left = (self.settings.max_epochs - self.cursor.epoch) * self.data.steps - self.cursor.step
        self.reporter.step(
            self.cursor.epoch + 1,
            self.cursor.step,
            self.data.steps,
            float(losses.mean()),
            self._speed.tokens_per_second,
            left * per_step,
        )

    def _checked_losses(self, start: int) -> torch.Tensor:
        """The losses of this epoch's steps from ``start`` on, float32 on the CPU.

        Raises:
            ModelError: one is not finite; its users are in bad_batch.json.
        """
        losses = self._losses[start : self.cursor.step].cpu()
        bad = torch.nonzero(~torch.isfinite(losses)).flatten()
        if len(bad):
            first = int(bad[0])
            self._refuse(self.cursor.epoch, start + first, f"loss is {float(losses[first])} at")
        return losses

    def _check_weights(self) -> None:
        """
        Raises:
            ModelError: a weight is not finite, because a gradient of the last step was not, though its loss was.
        """
        for name, weight in self.model.named_parameters():
            if not bool(weight.isfinite().all()):
                epoch, step = divmod(self.cursor.total - 1, self.data.steps)
                self._refuse(epoch, step, f"{name} is not finite after")

    def _refuse(self, epoch: int, step: int, what: str) -> None:
        users = self.data.users(epoch, step)
        ids = self.data.snapshot.users.column("user_id").take(users).to_pylist()
        where = f"epoch {epoch + 1}, step {step + 1}"
        if self.ranks.first:
            content = {"epoch": epoch + 1, "step": step + 1, "reason": f"{what} {where}"}
            write_json(self.directory.bad_batch, {**content, "users": users.tolist(), "user_ids": ids})
        raise ModelError(
            f"{what} {where}; its users are in {self.directory.bad_batch}; "
            "lower lr, set clip, or look at these users' events"
        )

    # -- state ---------------------------------------------------------------------------------------------------

    def _save_if_due(self) -> None:
        if time.monotonic() - self._saved_at >= self.settings.checkpoint_seconds:
            self.save()

    def save(self) -> None:
        """Write a checkpoint of now, and history.json for readers.

        Raises:
            ModelError: a loss since the last look, or a weight, is not finite, so this is not worth keeping.
        """
        if not self.ranks.first:
            return
        losses = self._checked_losses(0)
        self._check_weights()
        cuda = torch.cuda.get_rng_state(self.fabric.device) if self.fabric.device.type == "cuda" else None
        self.checkpoints.save(
            self.cursor.total,
            {
                "format": CHECKPOINT_FORMAT,
                "model": self.model.state_dict(),
                "optimizer": self._raw_optimizer.state_dict(),
                "schedule": self._schedule.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),
                "random": {"cpu": torch.get_rng_state(), "cuda": cuda},
                "cursor": asdict(self.cursor),
                "users_per_pass": self._gradients.users,
                "losses": losses,
                "stopping": self.stopping.state_dict(),
                "history": json.dumps(self.history),
            },
        )
        write_json(self.directory.history, self.history)
        self._saved_at = time.monotonic()

    def restore(self) -> bool:
        """Continue from the newest whole checkpoint; False where there is none.

        With several processes all of them read the one that the first finds, so ``out`` has to be theirs in common.

        Raises:
            DataError: every checkpoint is damaged, or of another version of this code.
        """
        state = self.checkpoints.load(self.reporter.warn) if self.ranks.first else None
        name = self.ranks.told(self.checkpoints.loaded)
        if name is None:
            return False
        if state is None:
            state = self.checkpoints.read(name)
        if state.get("format") != CHECKPOINT_FORMAT:
            raise DataError(
                f"{self.checkpoints.directory / name}: format {state.get('format')}, this code reads "
                f"{CHECKPOINT_FORMAT}; finish the training with the version that began it, or delete the directory"
            )
        self.model.load_state_dict(state["model"])
        self._raw_optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        torch.set_rng_state(state["random"]["cpu"])
        if state["random"]["cuda"] is not None and self.fabric.device.type == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"], self.fabric.device)
        self.cursor = Cursor(**state["cursor"])
        self._gradients.users = state["users_per_pass"]
        self._losses[: self.cursor.step] = state["losses"].to(self.fabric.device)
        self.stopping.load_state_dict(state["stopping"])
        self.history = json.loads(state["history"])
        return True


class _Speed:
    """Tokens and steps per second, of late: older steps fade with a time constant of some twenty steps."""

    def __init__(self) -> None:
        self._tokens = self._seconds = self._steps = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        fade = math.exp(-1 / 20)
        self._tokens = fade * self._tokens + tokens
        self._seconds = fade * self._seconds + seconds
        self._steps = fade * self._steps + 1

    @property
    def tokens_per_second(self) -> float:
        return self._tokens / max(self._seconds, 1e-9)

    @property
    def seconds_per_step(self) -> float:
        return self._seconds / max(self._steps, 1e-9)
