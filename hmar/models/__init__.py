"""The registry: every model by name. The name is the module's name; classes are imported when asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

from hmar.errors import SettingsError
from hmar.settings import nearest

if TYPE_CHECKING:
    from hmar.models.base import Recommender

MODELS: dict[str, str] = {
    "hmar": "HMAR",
    "hmar_plus": "HMARPlus",
    "sasrec": "SASRec",
    "gru4rec": "GRU4Rec",
    "caser": "Caser",
    "bpr_mf": "BPRMF",
    "cnn": "CNN",
    "bi_lstm": "BiLSTM",
    "bi_lstm_attention": "BiLSTMAttention",
    "din": "DIN",
    "dien": "DIEN",
    "tha4rec": "THA4Rec",
    "atrank": "ATRank",
    "dfn": "DFN",
    "dfar": "DFAR",
    "feedrec": "FeedRec",
    "popularity": "Popularity",
    "recent": "Recent",
}


def model_class(name: str) -> "type[Recommender]":
    """The class registered under ``name``.

    Raises:
        SettingsError: no such model; the nearest known name is given.
    """
    if name not in MODELS:
        raise SettingsError(f"unknown model {name!r}{nearest(name, list(MODELS))}")
    kind: type[Recommender] = getattr(import_module(f"hmar.models.{name}"), MODELS[name])
    return kind
