"""The values and the numbers of a sweep as text."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbanalyzer.costs.metrics import unit_of
from nbanalyzer.quantities import seconds, si

__all__ = ["label_of", "labels_of", "listed", "shown"]

SHOWN_ROWS = 8  # values of an axis that are all listed


def shown(metric: str, value: float) -> str:
    """Return a metric's value with its unit: ``1.230 ms``, ``47.33 k tokens/s``, ``16.06 GB``."""
    unit = unit_of(metric)
    if not math.isfinite(value):
        return "no number" if math.isnan(value) else f"{value} {unit}".rstrip()
    if unit == "s":
        return seconds(value)
    if unit in {"elements", "sequences", ""}:
        return si(value)
    return f"{si(value)} {unit}" if "/" in unit else si(value, unit)


def label_of(value: Any) -> Any:
    """Return the label of a value: numbers and words themselves, objects' names."""
    if isinstance(value, int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return getattr(value, "name", "") or getattr(value, "model_id", "") or type(value).__name__


def labels_of(values: Sequence[Any]) -> Any:
    """Return the labels of the values of an axis, as an array."""
    labels = [label_of(value) for value in values]
    return np.asarray(labels, dtype=object if any(isinstance(label, str) for label in labels) else None)


def listed(values: Sequence[Any]) -> str:
    """Return the values of an axis as text, without the middle of a long one."""
    if len(values) <= SHOWN_ROWS:
        return ", ".join(str(label_of(value)) for value in values)
    return f"{listed(values[:3])} … {label_of(values[-1])} ({len(values):,} values)"
