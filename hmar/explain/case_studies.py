"""What the papers of some models show of their attention: a picture over many histories, and the figures in it.

atrank  spaces: how much each latent semantic space looks at events of each behavior and age
        (:mod:`hmar.explain.spaces`), for each task that the model has learned
dfar    head_pairs: what each pair of heads passes from one feedback to another (:mod:`hmar.explain.head_pairs`)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hmar.data.snapshot import PORTIONS, Portion, Snapshot
from hmar.data.targets import Reading
from hmar.evaluate.impressions import asked_about
from hmar.explain import head_pairs, spaces
from hmar.export import LoadedModel
from hmar.models.base import Recommender

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOMENTS = 100
"""Of labelled impressions that are looked at, or as many as there are."""


@dataclass(frozen=True)
class CaseStudy:
    """One picture.

    Attributes:
        name: of its files. figures: what is drawn, as JSON.
    """

    name: str
    figures: dict[str, Any]
    picture: "Figure"


def case_studies(
    loaded: LoadedModel, model: Recommender, snapshot: Snapshot, split: str, told: str, seed: int = 0
) -> Iterator[CaseStudy]:
    """Those of one model; none where its paper has none, and where the snapshot has no labelled impressions with a
    history. They are of the newest part of the split that has such impressions: test, validation or training.

    Args:
        model: the loaded one as it takes this snapshot's ids (:func:`hmar.evaluate.adapt.adapt`), in evaluation mode.
        told: what the model is called in titles.
    """
    if loaded.meta.model not in DRAWN:
        return
    name, draw = DRAWN[loaded.meta.model]
    target = snapshot.manifest.target
    for task in dict.fromkeys(task or target for task in asked_about(loaded.model)):
        part = _newest_part(model, snapshot, split, task) if task in snapshot.tasks(split) else None
        if part is not None:
            about, title = ("", told) if task == target else (f"_{task}", f"{told}, asked about {task}")
            looked: dict[str, Any] = {"split": split, "part": part, "moments": MOMENTS, "seed": seed}
            looked["max_length"] = loaded.meta.max_length
            figures, picture = draw(model, snapshot, title, task=task, **looked)
            yield CaseStudy(name + about, {**looked, "task": task, **figures}, picture)


class _Draw(Protocol):
    def __call__(
        self, model: Recommender, snapshot: Snapshot, title: str, *, task: str, **looked: Any
    ) -> tuple[dict[str, Any], "Figure"]:
        """Figures and picture.

        Args:
            task, looked: what :func:`hmar.explain.looks.looks` is given.
        """


def _spaces(
    model: Recommender, snapshot: Snapshot, title: str, *, task: str, **looked: Any
) -> tuple[dict[str, Any], "Figure"]:
    found = spaces.mean_attention(model, snapshot, task=task, **looked)
    layers = {layer: one.describe() for layer, one in found.items()}
    return {"days": list(spaces.DAYS), "layers": layers}, spaces.picture(found, f"What the spaces look at: {title}")


def _head_pairs(
    model: Recommender, snapshot: Snapshot, title: str, *, task: str, **looked: Any
) -> tuple[dict[str, Any], "Figure"]:
    found = head_pairs.pair_mass(model, snapshot, task=task, **looked)
    title = f"What pairs of heads pass between events that say no and yes: {title}"
    return {"said": list(head_pairs.SAID), **found.describe()}, head_pairs.picture(found, title)


DRAWN: Mapping[str, tuple[str, _Draw]] = {"atrank": ("spaces", _spaces), "dfar": ("head_pairs", _head_pairs)}
"""By the name of the model: of the files, and how."""


def _newest_part(model: Recommender, snapshot: Snapshot, split: str, task: str) -> Portion | None:
    """The last part with a history that the model reads something of."""
    for part in reversed(PORTIONS):
        shown = snapshot.impressions(split, part, task)
        if (Reading(snapshot, model.reads).count(snapshot.offsets[shown.user], shown.history_end) > 0).any():
            return part
    return None
