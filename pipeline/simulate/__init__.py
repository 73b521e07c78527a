"""Raw logs with a known structure, in the exact format of a real source: for the demo, the tests and load runs.

>>> from pipeline.simulate import simulate
>>> raw = simulate("taobao", Path("var/raw/shop"), users=2000, items=1500, seed=1)  # doctest: +SKIP
"""

from pipeline.simulate.command import main, simulate
from pipeline.simulate.dirt import Dirt
from pipeline.simulate.settings import SimulateSettings

__all__ = ["Dirt", "SimulateSettings", "main", "simulate"]
