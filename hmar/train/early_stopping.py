"""When more epochs are not worth it."""

from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Counts evaluations since the best one. Equal is not better, so the earliest of equals is kept.

    Attributes:
        best_epoch: 1-based; 0 before the first evaluation.
    """

    patience: int
    best: float | None = None
    best_epoch: int = 0
    waited: int = 0

    def update(self, epoch: int, value: float) -> bool:
        """Take in the metric of one evaluation; True if it is the best so far."""
        if self.best is None or value > self.best:
            self.best, self.best_epoch, self.waited = value, epoch, 0
            return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        return self.waited >= self.patience

    def state_dict(self) -> dict[str, float | int | None]:
        """What changes; ``patience`` is a setting."""
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}

    def load_state_dict(self, state: dict[str, float | int | None]) -> None:
        self.best = state["best"]
        self.best_epoch = int(state["best_epoch"] or 0)
        self.waited = int(state["waited"] or 0)
