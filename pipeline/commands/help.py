"""``--help`` of a command, laid out from its settings: the flag, what it means, its default."""

import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


def show(model: type[BaseModel], program: str) -> None:
    """Print it: the command's own flags first, then one block per section."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"usage: {program} [flags]\n", markup=False)
    console.print(inspect.cleandoc(model.__doc__ or "") + "\n", markup=False)
    for title, flags in _groups(model):
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2), title=title, title_justify="left")
        table.title_style = "bold"
        table.add_column(style="cyan", no_wrap=True, min_width=28)
        table.add_column(overflow="fold")
        for flag, kind, text in flags:
            table.add_row(f"{flag} {kind}".rstrip(), text)
        console.print(table)
        console.print()
    console.print(
        "flags win over HMAR_* variables (HMAR_SNAPSHOT__K_CORE__USER=5), those over --settings, that over the preset",
        markup=False,
        style="dim",
    )


def _groups(model: type[BaseModel]) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    own = [("--settings", "FILE", "YAML file with the same keys.")]
    sections: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        section = _section(field)
        if section is None:
            own.append(_row("--", name, field))
        else:
            sections.append((name, section))
    yield "flags", own
    for name, section in sections:
        title = f"{name}: {(section.__doc__ or '').strip().splitlines()[0]}"
        yield title, list(_rows(f"--{_kebab(name)}.", section))


def _rows(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        section = _section(field)
        if section is None:
            yield _row(prefix, name, field)
        else:
            yield from _rows(f"{prefix}{_kebab(name)}.", section)


def _row(prefix: str, name: str, field: FieldInfo) -> tuple[str, str, str]:
    text = " ".join((field.description or "").split())
    flag = f"{prefix}{_kebab(name)}"
    kind = _kind(field.annotation)
    if kind == "CHOICE":
        text = f"{text} One of {', '.join(_choices(field.annotation))}."
    if field.annotation is bool and field.default is True:
        return f"{flag}, {flag.replace('--', '--no-', 1)}", "", f"{text} (default: yes)".strip()
    if field.is_required():
        text = f"{text} (required)"
    elif field.default is not PydanticUndefined and field.default not in (None, "", ()) and field.default is not False:
        text = f"{text} (default: {_default(field.default)})"
    return flag, kind, text.strip()


def _kind(annotation: Any) -> str:
    """What a flag takes, in a word."""
    arguments = [one for one in get_args(annotation) if one is not type(None)]
    origin = get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return _kind(arguments[0])
    if origin is Literal:
        return "|".join(map(str, arguments)) if len(arguments) < 3 else "CHOICE"
    if annotation is bool:
        return ""
    if origin in (tuple, list):
        return "A,B,..."
    if origin is dict:
        return "JSON"
    words = {"str": "TEXT", "int": "N", "float": "X", "Path": "PATH", "datetime": "TIME"}
    return words.get(getattr(annotation, "__name__", ""), "VALUE")


def _choices(annotation: Any) -> list[str]:
    literal = next((one for one in get_args(annotation) if get_origin(one) is Literal), annotation)
    return [str(one) for one in get_args(literal)]


def _default(value: Any) -> str:
    return ",".join(str(one) for one in value) if isinstance(value, tuple) else str(value)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _kebab(name: str) -> str:
    return name.replace("_", "-")
