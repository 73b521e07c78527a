"""What a search is given besides its space. Light to import."""

from typing import Literal

from pydantic import Field

from hmar.settings import Section


class PruningSettings(Section):
    """When a trial is cut short: by its validation metric at each evaluation, compared with the other trials'."""

    kind: Literal["median", "halving", "hyperband", "none"] = "median"
    """median: below the median of the others at this epoch; halving: not among the best third at epochs that grow three
    times; hyperband: halving with several first epochs."""
    warmup: int = Field(5, ge=0)
    """Epochs in which no trial is cut short."""
    startup: int = Field(5, ge=1)
    """Finished trials before median cuts any short."""
