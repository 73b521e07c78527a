"""What the papers of some models show of their attention: a picture over many histories, and the figures in it.

atrank  spaces: how much each latent semantic space looks at events of each behavior and age
        (:mod:`hmar.explain.spaces`), for each task that the model has learned
dfar    head_pairs: what each pair of heads passes from one feedback to another (:mod:`hmar.explain.head_pairs`)
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from hmar.data.snapshot import PORTIONS, Portion, Snapshot
from hmar.evaluate.impressions import asked_about
from hmar.explain import head_pairs, spaces
from hmar.explain.looks import Look, looks
from hmar.export import LoadedModel
from hmar.models.base import Recommender
from hmar.models.ranker import Ranker

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
        how: dict[str, Any] = {"task": task, "moments": MOMENTS, "seed": seed, "max_length": loaded.meta.max_length}
        newest = _newest(model, snapshot, split, **how)
        if newest is not None:
            part, looked = newest
            about, title = ("", told) if task == target else (f"_{task}", f"{told}, asked about {task}")
            figures, picture = draw(looked, loaded, snapshot, title)
            yield CaseStudy(name + about, {"split": split, "part": part, **how, **figures}, picture)


def _newest(
    model: Recommender, snapshot: Snapshot, split: str, *, task: str, **how: Any
) -> tuple[Portion, Iterator[Look]] | None:
    """The last part in which the model has something to look at, and what it looks at there."""
    if task in snapshot.tasks(split):
        for part in reversed(PORTIONS):
            looked = looks(model, snapshot, split, part, task=task, **how)
            first = next(looked, None)
            if first is not None:
                return part, chain([first], looked)
    return None


_Drawn = tuple[dict[str, Any], "Figure"]
"""Figures and picture."""


def _spaces(looked: Iterator[Look], loaded: LoadedModel, snapshot: Snapshot, title: str) -> _Drawn:
    found = spaces.mean_attention(looked, snapshot.behaviors)
    layers = {layer: one.describe() for layer, one in found.items()}
    return {"days": list(spaces.DAYS), "layers": layers}, spaces.picture(found, f"What the spaces look at: {title}")


def _head_pairs(looked: Iterator[Look], loaded: LoadedModel, snapshot: Snapshot, title: str) -> _Drawn:
    assert isinstance(loaded.model, Ranker)
    found = head_pairs.pair_mass(looked, loaded.model)
    title = f"What pairs of heads pass between events that say no and yes: {title}"
    return {"said": list(head_pairs.SAID), **found.describe()}, head_pairs.picture(found, title)


_Draw = Callable[[Iterator[Look], LoadedModel, Snapshot, str], _Drawn]
"""Of what was looked at, by this model in this snapshot, under this title."""

DRAWN: Mapping[str, tuple[str, _Draw]] = {"atrank": ("spaces", _spaces), "dfar": ("head_pairs", _head_pairs)}
"""By the name of the model: of the files, and how."""
