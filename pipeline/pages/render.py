"""A template and its content to one HTML page that needs nothing else."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_SHARED = Path(__file__).parent


def render(template: Path, content: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]] | None = None) -> str:
    """The page. Everything that comes from data or settings is escaped; only our own SVG (``| svg``) is not.

    Args:
        template: a .j2 file; it may include what stands beside it or in this package (``style.css``).
        filters: beyond ``count`` (thousands separated), ``share`` (of a whole, in percent) and ``svg``.

    Raises:
        jinja2.UndefinedError: the template names something that ``content`` lacks.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader([template.parent, _SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({"count": lambda n: f"{n:,}", "share": share, "svg": Markup, **(filters or {})})
    return environment.get_template(template.name).render(**content)


def share(part: float, whole: float) -> str:
    """A share of a whole, in percent."""
    return f"{100 * part / whole if whole else 0:.3f} %"
