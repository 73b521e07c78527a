"""The trigger form of a run: the settings' JSON schema as Airflow Params, and a run's conf back as settings.

A section (``snapshot``, ``promote``, ...) is one field that takes a JSON object of the keys to change, so that a conf,
a settings file and the form are keyed alike. Everything is inlined: Airflow validates each field on its own.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hmar.errors import SettingsError
from hmar.models import MODELS
from hmar.settings import LayeredSettings, deep_merge, nearest
from pipeline.ingest.raw_path import wants_day
from pipeline.schedules import day_of
from pipeline.settings import RetrainSettings, preset_names

PLACED = {"home": "HMAR_HOME", "tracking_uri": "HMAR_TRACKING_URI"}
"""Settings that say where things lie: the Airflow processes' environment has them, a run's conf must not."""

SECTIONS = {
    "table": "Raw log",
    "models": "Models",
    "split": "Models",
    "seed": "Models",
    "train": "Models",
    "overrides": "Models",
    "ingest": "Stages",
    "expectations": "Stages",
    "snapshot": "Stages",
    "promote": "Stages",
    "recommend": "Stages",
    "explain": "Stages",
    "engine": "Stages",
    "search": "Search",
    "pruning": "Search",
    "tune": "Search",
    "datasets": "Benchmark",
    "rows": "Benchmark",
    "baselines": "Benchmark",
    "seeds": "Benchmark",
    "splits": "Benchmark",
    "confidence": "Tables",
    "resamples": "Tables",
    "partial": "Tables",
    "out": "Tables",
}
"""The form's groups; what is not named here stands above them, unfolded."""

DIALECT = "http://json-schema.org/draft-07/schema#"
"""Airflow checks each field's schema each time it reads one, some four hundred times for each look at a DAG file. By
the newest dialect, which is what pydantic writes and Airflow assumes, that takes three times as long."""

EXAMPLES: dict[str, Any] = {
    "table": {
        "user": "customer",
        "item": "article",
        "time": "at",
        "behavior": "what",
        "behaviors": ["view", {"cart": "add"}, {"buy": [7, 8]}],
    },
    "train": {"max_epochs": 50},
    "overrides": {"hmar": {"lr": 0.001, "config": {"d": 64}}},
    "snapshot": {"k_core": {"user": 5, "item": 5}},
    "promote": {"min_gain": 0.001},
    "recommend": {"k": 50},
    "explain": {"users": 200},
    "ingest": {"since": "2017-11-25T00:00:00+08:00", "max_quarantined_share": 0.001},
    "expectations": {"min_events": 100000},
    "engine": {"memory_limit": "8GB", "threads": 8},
    "search": {"lr": {"type": "float", "low": 0.0001, "high": 0.01, "log": True}, "config.blocks": None},
    "pruning": {"kind": "hyperband", "warmup": 10},
    "tune": {"max_epochs": 60, "pruning": {"kind": "median"}},
    "datasets": {"shop": {"generated": {"source": "taobao", "users": 2000, "items": 1500}}},
    "rows": {"SASRec, gBCE": {"model": "sasrec", "train": {"loss": "gbce", "negatives_from": "uniform"}}},
    "baselines": {"best rule": ["Popularity", "Recent"]},
}


def fields(only: tuple[str, ...] = (), kind: type[LayeredSettings] = RetrainSettings) -> dict[str, dict[str, Any]]:
    """One entry per form field: the keyword arguments of an Airflow Param (its default, texts and JSON schema).

    Args:
        only: names to keep, in this order; all settable ones if empty.
        kind: the settings of the run.

    A field without ``default`` must be filled in.
    """
    schema = kind.model_json_schema()
    settable = {name: schema["properties"][name] for name in kind.model_fields if name not in PLACED}
    return {name: _field(name, settable[name], schema) for name in (only or settable)}


def values(conf: Mapping[str, Any] | None, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a run's conf chose, as the strongest layer of :meth:`RetrainSettings.resolve`.

    A field that the form left empty (null, "" or {}) leaves the choice to the weaker layers.

    Raises:
        SettingsError: a key is unknown (the nearest known one is named) or belongs to the environment.
    """
    known = set(only or RetrainSettings.model_fields) - set(PLACED)
    for key in conf or {}:
        if key in PLACED:
            raise SettingsError(f"{key}: is the environment's to say ({PLACED[key]}), not a run's conf; leave it out")
        if key not in known:
            raise SettingsError(f"{key}: unknown setting{nearest(key, known)}")
    return {key: value for key, value in (conf or {}).items() if value not in (None, "", {}, [])}


def resolve(conf: Mapping[str, Any] | None, defaults: Mapping[str, Any] | None = None) -> RetrainSettings:
    """The settings of a run: ``conf`` over ``defaults`` (a schedule's file) over environment, preset and defaults.

    Raises:
        SettingsError: unknown key or bad value, in one line.
    """
    return RetrainSettings.resolve(deep_merge(values(defaults), values(conf)))


def resolve_day(
    conf: Mapping[str, Any] | None, defaults: Mapping[str, Any], moment: datetime | None, timezone: str
) -> RetrainSettings:
    """The settings of a daily run: its day is the one in ``conf``, else that of its logical date in ``timezone``.

    Raises:
        SettingsError: ``raw`` needs a day and the run has none, or another dataset is asked for, besides those of
            :func:`resolve`.
    """
    day = day_of(moment, timezone)
    own = resolve({}, defaults)
    s = resolve(conf, {**defaults, **({"day": day.isoformat()} if day else {})})
    if s.name != own.name:
        raise SettingsError(f"name: this DAG feeds {own.name!r}; trigger hmar_ingest for {s.name!r}")
    if s.day is None and wants_day(s.raw):
        raise SettingsError(
            f"day: {s.raw} needs one, and this run has neither a logical date nor a day in its conf; "
            'trigger it with {"day": "2017-11-25"}'
        )
    return s


def _field(name: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    described = str(schema.get("description", ""))
    spec = _nullable(_inline(schema, root))
    if spec.get("format") != "date":  # the form draws a calendar for it; paths it does not know
        spec.pop("format", None)
    spec.pop("description", None)
    default = spec.pop("default", None)
    required = name in root.get("required", ())
    spec["$schema"] = DIALECT
    spec["title"] = name
    if name in SECTIONS:
        spec["section"] = SECTIONS[name]
    if spec.get("type") in ("object", ["object", "null"]):
        spec["type"] = ["object", "null"]
        default = None
        spec["description_md"] = _keys(name, described, spec)
    elif name == "dataset":
        spec["enum"] = preset_names()
    elif name == "model":
        spec["enum"] = list(MODELS)
    elif name == "raw":
        spec["minLength"] = 1
    elif name == "models":
        spec["items"] = {"type": "string", "enum": list(MODELS)}
        spec["examples"] = list(MODELS)
        spec["minItems"] = 1
        spec["uniqueItems"] = True
    elif spec.get("type") == "string" and default == "":
        # The form hands an empty box over as null.
        spec["type"] = ["string", "null"]
        default = None
    if "description_md" not in spec:
        spec["description_md"] = described
    return spec if required else {"default": default, **spec}


def _inline(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """``schema`` with every reference replaced by what it points to, in the words of :data:`DIALECT`."""
    if "$ref" in schema:
        target = root["$defs"][str(schema["$ref"]).rsplit("/", 1)[-1]]
        return _inline({**target, **{k: v for k, v in schema.items() if k != "$ref"}}, root)
    inlined = dict(schema)
    if "properties" in inlined:
        inlined["properties"] = {key: _inline(value, root) for key, value in inlined["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(inlined.get(key), Mapping):
            inlined[key] = _inline(inlined[key], root)
    if "anyOf" in inlined:
        inlined["anyOf"] = [_inline(value, root) for value in inlined["anyOf"]]
    if "prefixItems" in inlined:
        inlined["items"] = [_inline(value, root) for value in inlined.pop("prefixItems")]
    return inlined


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """``schema`` with "this or null" said by its type; the form does not look into anyOf."""
    options = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    if len(options) != 1 or len(options) == len(schema["anyOf"]):
        return schema
    around = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**options[0], **around, "type": [options[0]["type"], "null"]}


def _keys(name: str, described: str, spec: Mapping[str, Any]) -> str:
    """Help of an object field: what it is, its keys, an example."""
    lines = [described]
    for key, value in spec.get("properties", {}).items():
        nested = value.get("properties")
        lines.append(f"- **{key}** {{{', '.join(nested)}}}" if nested else f"- **{key}** {_bounds(value)}")
        if value.get("description"):
            lines[-1] += f": {value['description']}"
    return "\n".join(lines) + f"\n\nExample: {json.dumps(EXAMPLES[name])}"


def _bounds(value: Mapping[str, Any]) -> str:
    """The type of a key in a few words, for example ``(number, at least 0, at most 1)``."""
    options = value.get("anyOf", [value])
    kinds = [option["type"] for option in options if option.get("type") not in (None, "null")]
    words = [str(kind) if isinstance(kind, str) else " or ".join(kind) for kind in kinds]
    for option in options:
        if "enum" in option:
            words = [" or ".join(map(str, option["enum"]))]
        for key, text in (
            ("minimum", "at least"),
            ("maximum", "at most"),
            ("exclusiveMinimum", "above"),
            ("exclusiveMaximum", "below"),
        ):
            if key in option:
                words.append(f"{text} {option[key]}")
    return f"({', '.join(words)})"
