"""Which targets belong to which stratum."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hmar.evaluate.judge import Judgement
from hmar.evaluate.names import LENGTH_EDGES, LENGTH_STRATA


def strata(judgement: Judgement) -> dict[str, NDArray[np.bool_]]:
    """bool [N] per name in ``names.STRATA``: see :func:`among`."""
    targets = judgement.targets
    return among(targets.repeat, targets.cold_user, targets.cold_item, judgement.history_length)


def among(
    repeat: NDArray[np.bool_], cold_user: NDArray[np.bool_], cold_item: NDArray[np.bool_], length: NDArray[np.integer]
) -> dict[str, NDArray[np.bool_]]:
    """bool [N] per name in ``names.STRATA``, of N targets that are described by the arguments, [N] each.

    ``repeat`` and ``new`` cut the targets into two, the length strata and ``cold_user`` (length 0) cut them again;
    ``cold_item`` are targets whose item no training event of the split has.
    """
    bounds = zip(LENGTH_STRATA, pairwise((*LENGTH_EDGES, np.inf)), strict=True)
    by_length = {name: (length >= low) & (length < high) for name, (low, high) in bounds}
    return {
        "all": np.ones(len(repeat), np.bool_),
        "repeat": repeat,
        "new": ~repeat,
        "cold_user": cold_user,
        "cold_item": cold_item,
        **by_length,
    }
