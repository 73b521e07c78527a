"""The content poured into the template."""

from pathlib import Path
from typing import Any

from pipeline.report.content import clock
from pipeline.report.tables import Number

_TEMPLATES = Path(__file__).parent


def render(content: dict[str, Any]) -> str:
    """The page. Everything that comes from data or settings is escaped; only our own SVG is not.

    Raises:
        jinja2.UndefinedError: the template names something that ``content`` lacks.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["clock"] = clock
    environment.filters["metric"] = _metric
    environment.filters["svg"] = Markup
    return environment.get_template("report.html.j2").render(**content)


def _metric(number: Number | None) -> str:
    return "-" if number is None else f"{number.value:.4f}"
