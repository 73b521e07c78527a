"""One typed settings model per stage, filled from layers: defaults < preset < YAML < environment < command line.

The same model gives command-line flags, YAML files, environment variables, the JSON schema behind the Airflow
trigger form and the parameters logged to MLflow. Subclass :class:`Section` for a nested group and
:class:`LayeredSettings` for what a command or a DAG run is given.
"""

import difflib
import os
from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, cast

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from hmar.errors import SettingsError

_SURELY = 0.75
"""Likeness, from 0 to 1, from which on an unknown flag is a slip of the pen, not another program's flag."""


def _some_layers(widths: tuple[int, ...]) -> tuple[int, ...]:
    if not widths or min(widths) < 1:
        raise ValueError("one layer at least, each with a width of one at least")
    return widths


Widths = Annotated[tuple[int, ...], AfterValidator(_some_layers)]
"""Of a net's layers."""


class Section(BaseModel):
    """A frozen group of settings; an unknown key is an error, a docstring under a field is its help text."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Validate ``values``; ``where`` names them in the error.

        Raises:
            SettingsError: one line per problem, the nearest known key named for each unknown one.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise SettingsError(explain(error, cls, where)) from None


class LayeredSettings(BaseSettings):
    """What a command or a DAG run is given. Build it with :meth:`resolve`, never by the constructor."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=True,
        env_prefix="HMAR_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
    )

    reserved_environment: ClassVar[frozenset[str]] = frozenset(
        {
            "HMAR_DATA",
            "HMAR_REAL_DATA",
            "HMAR_SCHEDULES",
            "HMAR_RETRY_SECONDS",
            "HMAR_AIRFLOW_URL",
            "HMAR_AIRFLOW_USER",
            "HMAR_AIRFLOW_PASSWORD",
        }
    )
    """``HMAR_*`` variables that are not settings of a run: tests, DAG schedules, the Airflow to talk to,
    where a benchmark's raw logs lie."""

    @classmethod
    def preset_values(cls, chosen: Mapping[str, Any]) -> Mapping[str, Any]:
        """The preset layer, given what the stronger layers chose. A subclass that has presets overrides it."""
        return {}

    @classmethod
    def meant_by(cls, flag: str, value: str | None) -> str:
        """What to write in place of an unknown flag that none of the known ones is like; empty where nothing is
        known. A subclass whose settings hold those of others overrides it."""
        return ""

    @classmethod
    def resolve(
        cls,
        values: Mapping[str, Any] | None = None,
        *,
        arguments: list[str] | None = None,
        yaml_file: Path | str | None = None,
        use_environment: bool = True,
        program: str = "hmar",
    ) -> Self:
        """Merge the layers and validate.

        Args:
            values: strongest layer, as a mapping (a DAG run's conf).
            arguments: strongest layer, as command-line words; ``--help`` prints and exits.
            yaml_file: a settings file.
            use_environment: read ``HMAR_*`` variables.

        Raises:
            SettingsError: unknown key (the nearest known one is named), bad value, unreadable file.
        """
        file_values = read_yaml(Path(yaml_file)) if yaml_file is not None else {}

        class Layered(cls):  # type: ignore[valid-type, misc]
            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],
                init_settings: PydanticBaseSettingsSource,
                env_settings: PydanticBaseSettingsSource,
                dotenv_settings: PydanticBaseSettingsSource,
                file_secret_settings: PydanticBaseSettingsSource,
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                sources: list[PydanticBaseSettingsSource] = [init_settings]
                if arguments is not None:
                    sources.insert(
                        0,
                        CliSettingsSource(
                            settings_cls, cli_prog_name=program, cli_parse_args=arguments, cli_exit_on_error=False
                        ),
                    )
                if use_environment:
                    sources.append(env_settings)
                sources.append(InitSettingsSource(settings_cls, dict(file_values)))
                sources.append(_PresetSource(settings_cls))
                return tuple(sources)

        Layered.__name__ = cls.__name__
        Layered.__qualname__ = cls.__qualname__
        Layered.__doc__ = cls.__doc__
        if use_environment:
            cls._refuse_unknown_environment()
        try:
            built = Layered(**dict(values or {}))
        except ValidationError as error:
            raise SettingsError(explain(error, cls, str(yaml_file or ""))) from None
        except Exception as error:
            if type(error).__name__ == "SettingsError" and not isinstance(error, SettingsError):
                raise SettingsError(_unknown_flag(str(error), cls)) from None
            raise
        # An instance of the class that was asked for, not of the layered one made for this call.
        return cast(Self, cls.model_construct(_fields_set=built.model_fields_set, **dict(built)))

    @classmethod
    def _refuse_unknown_environment(cls) -> None:
        prefix = str(cls.model_config["env_prefix"])
        known = set(cls.model_fields)
        for variable in os.environ:
            if not variable.startswith(prefix) or variable in cls.reserved_environment:
                continue
            name = variable.removeprefix(prefix).split("__")[0].lower()
            if name not in known:
                raise SettingsError(f"environment variable {variable}: unknown setting {name!r}{nearest(name, known)}")


class _PresetSource(PydanticBaseSettingsSource):
    """The weakest layer above the defaults: it may look at what the stronger ones chose."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict(self.settings_cls.preset_values(self.current_state))  # type: ignore[attr-defined]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        SettingsError: the file is missing, is not YAML (line and column named) or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"settings file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"settings file {path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    try:
        content = deepcopy(_parsed(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError(f"settings file {path}{place}: {getattr(error, 'problem', error)}") from None
    except ValueError as error:  # a date that the calendar does not have
        raise SettingsError(f"settings file {path}: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"settings file {path}: expected a mapping of keys, found {type(content).__name__}")
    return content


@lru_cache(maxsize=64)
def _parsed(text: str) -> Any:
    """Presets are read again for every training that is put together, and parsing them takes most of that."""
    return yaml.safe_load(text)


def deep_merge(weak: Mapping[str, Any], strong: Mapping[str, Any]) -> dict[str, Any]:
    """A new mapping in which ``strong`` wins and nested mappings are merged key by key."""
    merged = dict(weak)
    for key, value in strong.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = deep_merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def nearest(name: str, known: set[str] | list[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known name, else the list of known names. The same name in capitals is
    nearer than any other."""
    folded = {one.casefold(): one for one in sorted(known)}
    same = folded.get(name.casefold())
    close = (
        ([same] if same else [])
        or difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
        or [folded[one] for one in difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)]
    )
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"


def explain(error: ValidationError, model: type[BaseModel], where: str = "") -> str:
    """A pydantic error as lines of 'key: what is wrong, what to do'."""
    lines = []
    for item in error.errors():
        path = [part for part in item["loc"] if not _is_union_tag(part)]
        key = ".".join(str(part) for part in path)
        if item["type"] == "extra_forbidden":
            known = _fields_at(model, path[:-1])
            problem = f"unknown setting{nearest(str(path[-1]), known)}"
        else:
            problem = item["msg"].removeprefix("Value error, ")
            if not isinstance(item.get("input"), Mapping | BaseModel):  # a whole section would bury the message
                problem += f" (given: {item.get('input')!r})"
            if item["type"] == "missing":
                problem = "is required"
        # What no key is to blame for alone names its keys itself; a class would tell the reader nothing.
        lines.append(": ".join(part for part in (where, key, problem) if part))
    return "\n".join(lines)


def _is_union_tag(part: Any) -> bool:
    return isinstance(part, str) and (part.startswith("function-") or "[" in part)


def _fields_at(model: type[BaseModel], path: list[Any]) -> set[str]:
    """The field names of the nested model that ``path`` leads to; empty where it leads out of the models."""
    for part in path:
        field = model.model_fields.get(str(part))
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not nested:
            return set()
        model = nested[0]
    return set(model.model_fields)


def _unknown_flag(message: str, model: type[LayeredSettings]) -> str:
    """argparse's 'unrecognized arguments' with the nearest known flag, or what else may be meant."""
    marker = "unrecognized arguments:"
    if marker not in message:
        return message
    word, *rest = message.split(marker)[1].split()
    flag, _, value = word.partition("=")
    flags = _flags(model)
    if flag.startswith("--") and not difflib.get_close_matches(flag, flags, n=1, cutoff=_SURELY):
        given = value or (rest[0] if rest and not rest[0].startswith("--") else None)
        meant = model.meant_by(flag, given)
        if meant:
            return f"unknown flag {word}; did you mean {meant}?"
    return f"unknown flag {word}{nearest(flag, flags)}"


def _flags(model: type[BaseModel], prefix: str = "--") -> set[str]:
    flags: set[str] = set()
    for name, field in model.model_fields.items():
        flag = prefix + name.replace("_", "-")
        flags.add(flag)
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                flags |= _flags(kind, flag + ".")
    return flags
