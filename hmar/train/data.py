"""The training data that one run's settings, model and loss ask for."""

from hmar.data.batches import TrainingData
from hmar.data.counting import PriorCounts
from hmar.data.snapshot import Snapshot
from hmar.losses import Loss
from hmar.models.base import Encoder
from hmar.train.settings import TrainSettings


def training_data(
    settings: TrainSettings, snapshot: Snapshot, model: Encoder, loss: Loss, prior: PriorCounts | None = None
) -> TrainingData:
    """Batches with what the model reads and the loss compares, and nothing else.

    Raises:
        DataError: no user has two training events that the model reads.
    """
    return TrainingData(
        snapshot,
        settings.split,
        max_length=settings.max_length,
        batch_size=settings.batch_size,
        negatives=settings.negatives if loss.uses_negatives else 0,
        negatives_from=settings.negatives_from,
        negatives_per=settings.negatives_per,
        counts=model.uses_hbi,
        seed=settings.seed,
        behaviors=model.reads,
        prior=prior,
    )
