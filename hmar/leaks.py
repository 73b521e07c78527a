"""What a number knew that it must not know. Such numbers exist to be compared with printed tables, and to price leaks.

They cannot be taken for others: the run's tag ``hmar.leaks`` lists them, the exported model and every metrics.json do,
MLflow has the run's metrics under ``leaky/``, and no model that was trained or judged with one is served, recommends
or becomes champion.
"""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from hmar.errors import ModelError

if TYPE_CHECKING:
    from hmar.data.snapshot import Part, Snapshot
    from hmar.evaluate.names import Candidates
    from hmar.models.base import Recommender

TAG = "hmar.leaks"
"""Tag of a run and of a registered version; neither has it where there is nothing to list."""


def of_split(snapshot: "Snapshot", split: str, sampled: bool = True) -> tuple[str, ...]:
    """What a judgement on the split gives away.

    split=published: ties with the target's time, validation targets that are the test targets unless the snapshot has
    others, items nobody had seen. negatives=unseen: the
    sampled candidates are outside the history, so that, where items recur, having been seen gives the target away.

    Args:
        sampled: whether targets are ranked among the sampled candidates too.
    """
    published, settings = split == "published", snapshot.manifest.settings
    unseen = bool(settings.get("unseen")) or (published and settings.get("published", {}).get("unseen", True))
    found = {"split=published": published, "negatives=unseen": unseen and sampled and snapshot.manifest.repeats}
    return tuple(name for name, there in found.items() if there)


def of_training(
    model: "Recommender", snapshot: "Snapshot", split: str, select_on: "Part", select_among: "Candidates"
) -> tuple[str, ...]:
    """What a model knows that was trained on the split and whose best epoch was chosen on the targets ``select_on``,
    ranked among the candidates ``select_among``."""
    own = () if model.published is None else model.published.leaks
    chosen = ("select_on=test",) if select_on == "test" else ()
    return together(own, chosen, of_split(snapshot, split, select_among == "sampled"))


def together(*lists: Iterable[str]) -> tuple[str, ...]:
    """Each leak once, in the order of first mention."""
    return tuple(dict.fromkeys(leak for leaks in lists for leak in leaks))


def refuse(leaks: Collection[str], where: object) -> None:
    """
    Raises:
        ModelError: there are any.
    """
    if leaks:
        raise ModelError(
            f"{where}: trained with leaks ({', '.join(leaks)}), so it serves nobody; train it without them"
        )


def tags(leaks: Iterable[str]) -> dict[str, str]:
    """The tag, or none."""
    text = ", ".join(leaks)
    return {TAG: text} if text else {}
