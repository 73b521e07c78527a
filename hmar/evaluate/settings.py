"""What one evaluation is given. Light to import."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from hmar.settings import LayeredSettings


class EvaluateSettings(LayeredSettings):
    """Judge one trained model on the targets of a snapshot: full and sampled ranking, strata, intervals.

    Give --training (a directory of hmar.train, whose MLflow run gets the results) or --model-dir (an exported model,
    nothing is logged). A finished evaluation of the same model with the same settings is not repeated. Environment
    variables are not read.
    """

    training: Path | None = None
    """Directory of a finished training."""
    model_dir: Path | None = None
    """Directory of an exported model; it may be older than the snapshot."""
    snapshot: Path
    """Snapshot directory."""
    split: str = ""
    """Split of the snapshot; the one the model was trained on if empty."""
    parts: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    """Parts of the split, separated by commas."""
    out: Path | None = None
    """Results go to OUT/<snapshot id>/<split>; 'evaluation' in the training directory if not given."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Of the bootstrap intervals."""
    resamples: int = Field(1000, ge=100)
    """Bootstrap resamples of the users."""
    seed: int = Field(0, ge=0)
    """Of the bootstrap."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(0, ge=0)
    """CPU threads of torch; 0: as many as this process may use cores."""
    memory_mb: int = Field(256, ge=1)
    """Bound of one chunk's score matrix."""
    explain_users: int = Field(50, ge=0)
    """Users whose first recommendation is explained, together in one picture; 0: none are."""
    tracking_uri: str = ""
    """MLflow address of the training's run; the one the training used if empty."""
    track: bool = True
    """Log to the training's MLflow run (only where snapshot and split are those of the training)."""

    @model_validator(mode="after")
    def _one_model(self) -> "EvaluateSettings":
        if (self.training is None) == (self.model_dir is None):
            raise ValueError("give either training or model_dir")
        if self.model_dir is not None and self.out is None:
            raise ValueError("model_dir needs out: where the results go")
        if len(set(self.parts)) != len(self.parts) or not self.parts:
            raise ValueError("parts names validation, test or both, each once")
        return self

    @property
    def exported(self) -> Path:
        """Where the exported model lies."""
        if self.model_dir is not None:
            return self.model_dir
        assert self.training is not None
        return self.training / "model"

    @property
    def results(self) -> Path:
        """Above the directories of the single snapshots."""
        if self.out is not None:
            return self.out
        assert self.training is not None
        return self.training / "evaluation"
