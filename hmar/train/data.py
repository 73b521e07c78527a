"""The training data that one run's settings, model and loss ask for."""

from hmar.data.batches import TrainingData
from hmar.data.counting import PriorCounts
from hmar.data.impressions import ImpressionData
from hmar.data.snapshot import Snapshot
from hmar.data.task_turns import TaskTurns
from hmar.losses import Loss
from hmar.models.base import Encoder
from hmar.models.ranker import Ranker, RankerLoss
from hmar.train.settings import TrainSettings


def training_data(
    settings: TrainSettings,
    snapshot: Snapshot,
    model: Encoder | Ranker,
    loss: Loss | RankerLoss,
    prior: PriorCounts | None = None,
) -> TrainingData | ImpressionData | TaskTurns:
    """Batches with what the model reads and the loss compares, and nothing else.

    Raises:
        DataError: nothing to learn from: no user has two training events that the model reads, or, for a ranker, the
            snapshot has no labelled impressions.
    """
    if isinstance(model, Ranker):
        tasks = [ranker_data(settings, snapshot, model, task) for task in model.tasks or ("",)]
        return tasks[0] if len(tasks) == 1 else TaskTurns(tasks)
    return encoder_data(settings, snapshot, model, loss, prior)  # type: ignore[arg-type]


def ranker_data(settings: TrainSettings, snapshot: Snapshot, model: Ranker, task: str = "") -> ImpressionData:
    """:func:`training_data` of a ranker that is asked about one behavior, the target if empty."""
    return ImpressionData(
        snapshot,
        settings.split,
        max_length=settings.max_length,
        batch_size=settings.batch_size,
        batch_tokens=settings.batch_tokens,
        batching=settings.batching,
        negatives=settings.negatives,
        in_batch=settings.in_batch,
        seed=settings.seed,
        behaviors=model.reads,
        task=task,
    )


def encoder_data(
    settings: TrainSettings, snapshot: Snapshot, model: Encoder, loss: Loss, prior: PriorCounts | None = None
) -> TrainingData:
    """:func:`training_data` of an encoder."""
    return TrainingData(
        snapshot,
        settings.split,
        max_length=settings.max_length,
        batch_size=settings.batch_size,
        batch_tokens=settings.batch_tokens,
        batching=settings.batching,
        long_histories=settings.long_histories,
        negatives=settings.negatives if loss.uses_negatives else 0,
        negatives_from=settings.negatives_from,
        negatives_per=settings.negatives_per,
        counts=model.uses_hbi,
        recency=model.uses_recency,
        seed=settings.seed,
        behaviors=model.reads,
        prior=prior,
        published=model.published,
    )
