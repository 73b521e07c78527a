"""One training step's forward pass: a batch in, the loss out."""

from torch import Tensor, nn

from hmar.data.impressions import ImpressionBatch
from hmar.losses import Loss, total_loss
from hmar.models.base import Encoder, TrainingBatch
from hmar.models.ranker import Ranker, RankerLoss


class Box:
    """Carries a batch through Fabric untouched: it would cast every float tensor, counts too, to half precision."""

    def __init__(self, batch: TrainingBatch | ImpressionBatch) -> None:
        self.batch = batch


class TrainingStep(nn.Module):
    """A model under a loss, as the one module that Fabric wraps (precision, data parallelism)."""

    def __init__(self, model: Encoder | Ranker, loss: Loss | RankerLoss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, box: Box) -> Tensor:
        """The scalar loss of the batch, the model's auxiliary terms included."""
        return total_loss(self.model, self.loss, box.batch)
