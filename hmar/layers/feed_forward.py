"""The position-wise feed-forward net of the self-attention recommenders."""

from torch import Tensor, nn

from hmar.layers.dropout import Dropout


class FeedForward(nn.Module):
    """FF(x) = Drop( W_2 Drop( ReLU( W_1 x + b_1 ) ) + b_2 ), d -> d -> d, on [..., d]; no residual."""

    def __init__(self, d: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(d, d)
        self.outer = nn.Linear(d, d)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.outer(self.dropout(self.inner(x).relu())))
        return out
