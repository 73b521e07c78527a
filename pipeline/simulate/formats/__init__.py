"""The raw log formats that can be made, one module each. The name in the dict is the module's."""

from pipeline.simulate.formats import amazon, kuairand, movielens, table, taobao, tianchi, tmall, yelp
from pipeline.simulate.formats.base import Format

FORMATS: dict[str, Format] = {
    "amazon": amazon.FORMAT,
    "kuairand": kuairand.FORMAT,
    "movielens": movielens.FORMAT,
    "table": table.FORMAT,
    "taobao": taobao.FORMAT,
    "tianchi": tianchi.FORMAT,
    "tmall": tmall.FORMAT,
    "yelp": yelp.FORMAT,
}
