"""What the logs of real shops share: users, items and their categories, and events of the funnel."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.simulate import shop
from pipeline.simulate.formats.base import drawn, purpose
from pipeline.simulate.seasons import Season
from pipeline.simulate.world import Floats, Ints, World, generator

if TYPE_CHECKING:
    from pipeline.simulate.settings import SimulateSettings


class ShopLog:
    """The part of a log that does not depend on how it is written."""

    def __init__(self, s: "SimulateSettings", world: World, season: Season, most_items: int, most_users: int) -> None:
        self.s, self.world, self.season = s, world, season
        rng = purpose(s.seed)
        self.item_id = drawn(rng, most_items, s.items)
        # Categories are finer than tastes: a cluster spans several.
        self.fine: Ints = world.cluster * 4 + rng.integers(4, size=s.items)
        self.users: Ints = np.sort(drawn(rng, most_users, s.users))

    def user_id(self, first: int, users: int) -> Ints:
        return self.users[first : first + users]

    def events(self, number: int, users: int) -> tuple[shop.Events, Floats, np.random.Generator]:
        """The events of a block, the users' tastes, and the block's stream."""
        rng = generator(self.s.seed, 1, number)
        s = self.s
        made, tastes = shop.block(self.world, self.season, rng, users, s.events_per_user, s.order, s.funnel)
        return made, tastes, rng

    def beside(self, directory: Path, folders: Sequence[str]) -> list[str]:
        return []
