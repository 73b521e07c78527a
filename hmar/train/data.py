"""The training data that one run's settings, model and loss ask for."""

from hmar.data.batches import TrainingData
from hmar.data.counting import PriorCounts
from hmar.data.impressions import ImpressionData
from hmar.data.snapshot import Snapshot
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
) -> TrainingData | ImpressionData:
    """Batches with what the model reads and the loss compares, and nothing else.

    Raises:
        DataError: nothing to learn from: no user has two training events that the model reads, or, for a ranker, the
            snapshot has no labelled impressions.
    """
    if isinstance(model, Ranker):
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
        )
    return encoder_data(settings, snapshot, model, loss, prior)  # type: ignore[arg-type]


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
