"""A form's state as a file: the numbers, the page, or the plot."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import msgspec

from nbanalyzer.errors import InputError, quote
from nbanalyzer.files import write_whole, writing
from nbanalyzer.text import as_attribute, as_cell

from .result import Answer
from .view import static

__all__ = ["SAVED_AS", "save"]

SAVED_AS = (".csv", ".json", ".html", ".png")


def save(answer: Answer, path: str | os.PathLike[str]) -> None:
    """Write a state, whole or not at all, in the format of the suffix.

    A pass is written as `Analysis.save` writes it; of a request, the figures.

    Raises:
        InputError: another suffix, or a place that cannot be written to.

    """
    text = os.fspath(path)
    suffix = Path(text).suffix.lower()
    if suffix not in SAVED_AS:
        raise InputError(f"save as {', '.join(SAVED_AS)}: {quote(text)} has another suffix")
    if suffix != ".png" and answer.request is None:
        (answer.roofline or answer.analysis).save(path)
        return
    if suffix == ".png":
        content = (answer.roofline or answer.analysis).plot()._repr_png_()
    else:
        content = _of_request(answer, suffix).encode()
    with writing(quote(text)):
        write_whole(path, content)


def _of_request(answer: Answer, suffix: str) -> str:
    figures = answer.figures.values()
    if suffix == ".csv":
        rows = [("figure", "value", "unit"), *((figure.name, figure.value, figure.unit) for figure in figures)]
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([*map(as_cell, row)] for row in rows)
        return out.getvalue()
    if suffix == ".json":
        content = {
            "model": answer.title,
            "conditions": answer.conditions,
            "figures": {figure.name: figure.value for figure in figures},
            "units": {figure.name: figure.unit for figure in figures},
            "hardware": answer.accelerator.name if answer.accelerator else None,
        }
        return msgspec.json.format(msgspec.json.encode(content), indent=1).decode() + "\n"
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{as_attribute(answer.title)}</title>\n"
        f'<body style="font-family:sans-serif;margin:1em">\n{static(answer)["text/html"]}\n</body>\n</html>\n'
    )
