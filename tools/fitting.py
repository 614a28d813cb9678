"""Fits a law's parameters to measurements: robust least squares on the logarithm of the ratio, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product

import numpy as np

from nbanalyzer.formulas.formula import parse
from nbanalyzer.hardware.laws import Law

from .measurements import Array

__all__ = ["fitted", "times"]

OUTLIER = 0.1  # of the logarithm of a ratio: what lies farther counts linearly
STEPS = 80
LOGARITHMIC = {"share", "elements", "multiple"}  # units of what divides
DIFFERENCE = 1e-4  # step of a difference quotient, of the parameter's scale
SHARES, LAUNCHES = (0.35, 0.8), (0.3, 0.9)  # where the search begins: shares, and parts of the quickest launches
OTHERS, LONGEST, BRIEF = 0.2, 8000, 100.0  # and all other times, in their units, and lengths
FIRST_KEYS, FIRST = (300, 10000), 3000.0  # few keys that take long or many that do not: what is best may be near either


def times(law: Law, launches: Mapping[str, Array], values: Mapping[str, float]) -> Array:
    """Return the microseconds of each launch, for values of parameters and constants."""
    return parse(law.formula).vectorize({**launches, **values})


def fitted(law: Law, launches: Mapping[str, Array], measured: Array, fixed: Mapping[str, float]) -> dict[str, float]:
    """Return the parameters that fit measurements best.

    Args:
        law: whose parameters.
        launches: variable → value for each measurement.
        measured: microseconds.
        fixed: the values of constants, and of parameters that are not fitted.

    """
    free = [name for name, parameter in law.parameters.items() if name not in fixed]
    shares = np.array([law.parameters[name].unit in LOGARITHMIC for name in free])
    bounds = np.array([[law.parameters[name].least, law.parameters[name].most] for name in free])
    low, high = (_coded(bound, shares) for bound in bounds.T)
    logs = np.log(measured)

    def residuals(point: Array) -> Array:
        values = dict(zip(free, _decoded(point, shares).tolist(), strict=True))
        with np.errstate(all="ignore"):
            found = np.log(times(law, launches, {**fixed, **values})) - logs
        return np.asarray(np.nan_to_num(found, nan=10.0, posinf=10.0, neginf=-10.0))

    quick = float(np.quantile(measured, 0.05))
    best, least = low, np.inf
    for share, part, keys in product(SHARES, LAUNCHES, FIRST_KEYS if "first_keys" in free else (1,)):
        first = {"launch_us": part * quick, "longest_k": LONGEST, "brief_us": BRIEF, "throttle": 0.1, "kept": 2.0}
        first |= {"tile_k_ns": 1.0, "undivided": 0.05, "first_keys": keys, "per_first_key_ns": FIRST / keys}
        start = np.array(
            [first.get(name, share if law.parameters[name].unit == "share" else OTHERS) for name in free], float
        )
        point = _descended(residuals, np.clip(_coded(start, shares), low, high), low, high)
        if (loss := _loss(residuals(point))) < least - 1e-9:
            best, least = point, loss
    return dict(zip(free, _decoded(best, shares).tolist(), strict=True))


def _coded(values: Array, shares: Array) -> Array:
    """Return where the search looks for values: for a share by its logarithm, as it divides."""
    return np.asarray(np.where(shares, np.log(np.maximum(values, 1e-9)), values))


def _decoded(point: Array, shares: Array) -> Array:
    return np.asarray(np.where(shares, np.exp(np.where(shares, point, 0)), point))


def _loss(residuals: Array) -> float:
    return float(np.mean(np.sqrt(OUTLIER**2 + residuals**2) - OUTLIER))


def _descended(residuals: Callable[[Array], Array], start: Array, low: Array, high: Array) -> Array:
    """Return where damped Gauss–Newton steps, each clipped to the bounds, lead from a start."""
    point, damping = start, 1e-2
    here = residuals(point)
    for _ in range(STEPS):
        slopes = np.empty((here.size, point.size))
        for index in range(point.size):
            step = DIFFERENCE * max(1.0, abs(point[index]))
            moved = point.copy()
            moved[index] += step if point[index] + step <= high[index] else -step
            slopes[:, index] = (residuals(moved) - here) / (moved[index] - point[index])
        weights = 1 / np.sqrt(OUTLIER**2 + here**2)
        gradient = slopes.T @ (weights * here)
        # What a bound holds back does not move: the others' steps are then those that they take without it.
        held = ((point <= low) & (gradient > 0)) | ((point >= high) & (gradient < 0))
        moving = np.flatnonzero(~held)
        if not moving.size:
            break
        curvature = (slopes.T * weights) @ slopes
        square = curvature[np.ix_(moving, moving)]
        before = _loss(here)
        for _ in range(12):
            damped = square + damping * np.diag(np.diag(square) + 1e-12)
            new = point.copy()
            new[moving] -= np.linalg.solve(damped, gradient[moving])
            new = np.clip(new, low, high)
            there = residuals(new)
            if (after := _loss(there)) < before:
                break
            damping *= 4
        else:
            break
        point, here, damping = new, there, max(damping / 8, 1e-9)
        if before - after < 1e-7 * before:
            break
    return point
