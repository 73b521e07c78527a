"""Which targets belong to which stratum."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hmar.evaluate.judge import Judgement
from hmar.evaluate.names import LENGTH_EDGES, LENGTH_STRATA


def strata(judgement: Judgement) -> dict[str, NDArray[np.bool_]]:
    """bool [N] per name in ``names.STRATA``.

    ``repeat`` and ``new`` cut the targets into two, the length strata and ``cold_user`` (length 0) cut them again;
    ``cold_item`` are targets whose item no training event of the split has.
    """
    targets, length = judgement.targets, judgement.history_length
    bounds = zip(LENGTH_STRATA, pairwise((*LENGTH_EDGES, np.inf)), strict=True)
    by_length = {name: (length >= low) & (length < high) for name, (low, high) in bounds}
    return {
        "all": np.ones(len(targets), np.bool_),
        "repeat": targets.repeat,
        "new": ~targets.repeat,
        "cold_user": targets.cold_user,
        "cold_item": targets.cold_item,
        **by_length,
    }
