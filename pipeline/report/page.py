"""The content poured into the template."""

from pathlib import Path
from typing import Any

from pipeline.judged import Number
from pipeline.pages import render as pages
from pipeline.report.content import clock

_TEMPLATE = Path(__file__).parent / "report.html.j2"


def render(content: dict[str, Any]) -> str:
    """The page of a run.

    Raises:
        jinja2.UndefinedError: the template names something that ``content`` lacks.
    """
    return pages.render(_TEMPLATE, content, {"clock": clock, "metric": _metric})


def _metric(number: Number | None) -> str:
    return "-" if number is None else f"{number.value:.4f}"
