"""The configurations under which every registered model, and every loss, is held to the contract.

A model that is not listed is tested as it is by default: registering it is enough.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from hmar.models import MODELS, model_class

_HMAR = {"d": 8, "positions": 20}
_PLUS = {"d": 8, "positions": 20}
_SASREC = {"d": 8, "positions": 20}
_DFAR = {"d": 8, "positions": 20, "attention": [6], "hidden": [12, 6], "std": 0.3}
_CASER = {"d": 8, "window": 4, "horizontal": 3, "vertical": 2, "dropout": 0.1}
_CNN = {"d": 8, "windows": 3, "maps": 5}
_DIN = {"d": 8, "attention": [6], "hidden": [12, 6]}
_DIEN = {"d": 8, "hidden": [12, 6]}
_THA4REC = {"d": 8, "heads": 4, "hidden": [12, 6], "positions": 20}
_ATRANK = {"d": 16, "spaces": 2}
_DFN = {"d": 8, "inner": 2, "attention": [6], "hidden": [12, 6]}
_FEEDREC = {"d": 8}

CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "hmar": {
        "default": _HMAR,
        "weighted": {**_HMAR, "heads": 2, "blocks": 2, "alpha": {"buy": 0.7, "view": 0.1}},
        "no-hbi": {**_HMAR, "hbi": "none"},
        "no-behavior-encoder": {**_HMAR, "behavior_encoder": False},
        "no-sequence-encoder": {**_HMAR, "sequence_encoder": False},
        "no-head": {**_HMAR, "theta": 0.0},
        "target-only": {**_HMAR, "behaviors": "target"},
        "as-published": {
            **_HMAR,
            "hbi": "final",
            "candidate_hbi": "published",
            "mirrored_context": True,
            "attention_dropout": 0.2,
            "last_norm": True,
            "first_weights": "published",
        },
    },
    "hmar_plus": {
        "default": _PLUS,
        "gated": {**_PLUS, "block": "gated", "heads": 4, "behavior_encoder": True, "now": True},
        "left-out": {**_PLUS, "consumed": "left_out"},
        "no-evidence": {**_PLUS, "evidence": False},
        "now-alone": {**_PLUS, "evidence": False, "now": True},
        "no-question": {**_PLUS, "asked": False, "gaps": False, "bias": False},
        "items-only": {
            **_PLUS,
            **dict.fromkeys(("behavior", "gaps", "asked", "evidence", "bias"), False),
            "auxiliary": 1.0,
        },
    },
    "sasrec": {
        "pre": _SASREC,
        "post": {**_SASREC, "norm": "post", "heads": 4},
        "target-only": {**_SASREC, "behaviors": "target"},
    },
    "gru4rec": {
        "default": {"d": 8},
        "layers": {"d": 8, "layers": 2, "constrained": False, "bias": False},
        "target-only": {"d": 8, "behaviors": "target"},
    },
    "caser": {
        "default": _CASER,
        "last-only": {**_CASER, "general": False, "bias": False, "window": 1},
        "target-only": {**_CASER, "behaviors": "target"},
    },
    "cnn": {
        "default": _CNN,
        "mlp": {**_CNN, "head": "mlp", "hidden": [6]},
        "items-only": {**_CNN, "behavior": False, "time": False},
    },
    "bi_lstm": {
        "default": {"d": 8},
        "mlp": {"d": 8, "head": "mlp", "hidden": [6]},
        "items-only": {"d": 8, "behavior": False, "time": False},
    },
    "bi_lstm_attention": {
        "default": {"d": 8},
        "mlp": {"d": 8, "head": "mlp", "hidden": [6], "spaces": 2, "score": "dot"},
        "items-only": {"d": 8, "behavior": False, "time": False},
    },
    # Not of the target behavior only: those events, nearly every item once, have no order-free rule to be learned.
    "bpr_mf": {"default": {"d": 8}, "no-bias": {"d": 8, "bias": False}},
    "din": {
        "default": _DIN,
        "sum": {**_DIN, "normalize": "sum", "attention": [40, 6], "hidden": [8]},
        "items-only": {**_DIN, "behavior": False, "time": False},
    },
    "dien": {
        "default": _DIEN,
        "without-auxiliary": {**_DIEN, "auxiliary": 0.0, "behavior": False},
        "agru": {**_DIEN, "evolution": "agru"},
        "aigru": {**_DIEN, "evolution": "aigru", "time": False},
        "published": {**_DIEN, "evolution": "published"},
    },
    "tha4rec": {
        "default": _THA4REC,
        "plain": {**_THA4REC, "talking": False},
        "newest": {**_THA4REC, "pool": "newest", "blocks": 2, "heads": 8, "behavior": False, "time": False},
    },
    "atrank": {
        "default": _ATRANK,
        "dot": {**_ATRANK, "score": "dot", "blocks": 2, "spaces": 4},
        "mlp": {**_ATRANK, "head": "mlp", "hidden": [6]},
        "grouped": {**_ATRANK, "groups": [["buy", "cart"]], "time": False},
        "items-only": {**_ATRANK, "behavior": False, "time": False},
        "target-only": {**_ATRANK, "behaviors": "target"},
        "chosen": {**_ATRANK, "behaviors": ["view", "buy"], "score": "dot"},
    },
    "dfn": {
        "default": _DFN,
        "no-external": {**_DFN, "external": False, "heads": 4},
        "no-wide": {**_DFN, "wide": False, "attention": [9, 5]},
        "no-fm": {**_DFN, "fm": False, "behavior": False},
        "no-deep": {**_DFN, "deep": False, "time": False},
        "disliked-more": {**_DFN, "dislike": 10.0},
    },
    "dfar": {
        "default": {**_DFAR, "lambda_bpr": 0.5, "lambda_d": 0.5},
        "after": {**_DFAR, "mask": "after", "heads": 4, "cosine": "maximized"},
        "product": {**_DFAR, "mask": "product", "hidden": [8]},
        "no-mask": {**_DFAR, "mask": "none"},
        "no-fha": {**_DFAR, "mask": "none", "pairs": "own"},
        "no-disentangling": {**_DFAR, "lambda_d": 0.0},
        "no-bpr": {**_DFAR, "lambda_bpr": 0.0},
        "one-tower": {**_DFAR, "lambda_bpr": 0.0, "lambda_d": 0.0, "attention": [40, 6]},
        "as-published": {**_DFAR, "behavior": False, "time": False},
    },
    "feedrec": {
        "default": _FEEDREC,
        "no-strong-to-weak": {**_FEEDREC, "strong_to_weak": False, "heads": 4},
        "no-orthogonality": {**_FEEDREC, "orthogonality": 0.0, "homogeneous": False},
        "no-multi-task": {**_FEEDREC, "multi_task": 0.0, "heterogeneous": False},
        "log-loss-only": {**_FEEDREC, "multi_task": 0.0, "orthogonality": 0.0},
        "items-only": {**_FEEDREC, "behavior": False, "time": False},
    },
    "popularity": {"target": {}, "all": {"behaviors": "all"}},
    "recent": {"all": {}, "target": {"behaviors": "target"}},
}

LOSS_DATA: dict[str, dict[str, Any]] = {
    "bce": {},
    "bpr": {"negatives": 2},
    "cross_entropy": {"negatives": 0},
    "gbce": {"negatives": 6, "negatives_from": "uniform"},
    "sampled_softmax": {"negatives": 16, "negatives_from": "popularity", "negatives_per": "batch"},
}
"""The batches under which every loss trains every encoder."""

RANKER_LOSS_DATA: dict[str, dict[str, Any]] = {"log_loss": {"in_batch": 2}}
"""The batches under which every loss of rankers trains every ranker."""

CASES = [(name, label, config) for name in MODELS for label, config in CONFIGS.get(name, {"default": {}}).items()]
OF_FAMILY = {
    family: [case for case in CASES if model_class(case[0]).family == family]
    for family in ("rule", "encoder", "ranker")
}


def params(cases: Sequence[tuple[str, str, dict[str, Any]]]) -> list[Any]:
    """A parameter (name, config) per case. The fast lane has every model in its first configuration."""
    first = {name: label for name, label, _ in reversed(cases)}
    return [
        pytest.param((name, config), id=f"{name}-{label}", marks=[] if first[name] == label else pytest.mark.slow)
        for name, label, config in cases
    ]
