"""A form's state as a file: the numbers, the page, or the plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from nbanalyzer.report.analysis import as_csv, as_fragment, as_json, in_cells, page

from .result import Answer
from .view import table

__all__ = ["FORMATS", "content_of"]


def _csv(answer: Answer) -> str:
    if answer.request is None:
        return as_csv(answer.analysis, answer.roofline)
    figures = answer.figures.values()
    return in_cells([("figure", "value", "unit"), *((figure.name, figure.value, figure.unit) for figure in figures)])


def _json(answer: Answer) -> str:
    if answer.request is None:
        return as_json(answer.analysis, answer.roofline)
    content = {
        "model": answer.analysis.title,
        "conditions": answer.conditions,
        "figures": {figure.name: figure.value for figure in answer.figures.values()},
        "units": {figure.name: figure.unit for figure in answer.figures.values()},
        "hardware": answer.accelerator.name if answer.accelerator else None,
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=1).decode() + "\n"


def _html(answer: Answer) -> str:
    is_pass = answer.request is None
    content = as_fragment(answer.analysis, answer.roofline) if is_pass else table(answer)
    return page(answer.analysis.title, content + answer.result.plot().html())


def _png(answer: Answer) -> bytes:
    return answer.result.plot().png()


FORMATS: Mapping[str, Callable[[Answer], str | bytes]] = {"csv": _csv, "json": _json, "html": _html, "png": _png}
"""Suffix of a file → its content: a pass as `Analysis.save` writes it; of a request, figures. Pages have a picture."""


def content_of(answer: Answer, suffix: str) -> bytes:
    """Return a state as the bytes of a file."""
    content = FORMATS[suffix](answer)
    return content.encode() if isinstance(content, str) else content
