"""The parameters of an additive law that times were taken for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import quantiles
from typing import Any

import numpy as np

from nbanalyzer.errors import InputError, quote
from nbanalyzer.formulas.evaluation import real
from nbanalyzer.formulas.formula import parse
from nbanalyzer.hardware.laws import Law, laws
from nbanalyzer.hardware.parameters import Fit

__all__ = ["figure", "fitted", "law_us"]

Point = tuple[Mapping[str, float], float]
"""What a law reads of a launch, and the microseconds that were measured."""
DIGITS = 4
ROUNDS = 8  # of reweighting, after which outliers count by their size, not by its square
FINE = 0.02  # relative error below which no point counts more than another


def law_us(law: Law, parameters: Mapping[str, float], launch: Mapping[str, float]) -> float:
    """Return the microseconds of a launch by a law with these parameters."""
    return float(real(parse(law.formula))({**launch, **parameters}))


def fitted(name: str, points: Sequence[Point], fixed: Mapping[str, float] | None = None) -> Fit:
    """Return the parameters with which an additive law is nearest to what was measured.

    The relative errors are made small, their absolute values rather than their squares; every parameter stays within
    the bounds of its law.

    Args:
        name: of the law.
        points: what was measured; one at least.
        fixed: parameters that are known.

    Raises:
        InputError: a time that cannot be.

    """
    law, known = laws()[name], dict(fixed or {})
    for _, measured in points:
        if not 0 < measured < math.inf:
            raise InputError(f"a kernel of {name} took {quote(measured)} us, which cannot be: measure again")
    free = [parameter for parameter in law.parameters if parameter not in known]
    function = real(parse(law.formula))
    rows = [_columns(law, function, free, known, launch) for launch, _ in points]
    times = np.array([measured for _, measured in points])
    constant = np.array([row[0] for row in rows])
    matrix = np.array([row[1:] for row in rows]).reshape(len(rows), len(free))
    least, most = _bounds(law, free)
    weights = np.ones(len(times))
    for _ in range(ROUNDS):
        scale = np.sqrt(weights) / times
        solution = _bounded(matrix * scale[:, None], (times - constant) * scale, least, most)
        errors = np.abs((matrix @ solution + constant) / times - 1)
        weights = 1 / np.maximum(errors, FINE)
    parameters = {
        parameter: figure(1 / value if _is_share(law, parameter) else value)
        for parameter, value in zip(free, solution.tolist(), strict=True)
    } | known
    ratios = [measured / law_us(law, parameters, launch) for launch, measured in points]
    return Fit(parameters=parameters, n=len(points), ratio=_spread(ratios), law=name)


def _columns(law: Law, function: Any, free: list[str], known: Mapping[str, float], launch: Mapping[str, float]) -> Any:
    """Return a law's constant part and the share of each free parameter: a law is additive in what it divides by."""
    none = {name: math.inf if _is_share(law, name) else 0.0 for name in free}
    constant = function({**launch, **known, **none})
    return [constant, *(function({**launch, **known, **none, name: 1.0}) - constant for name in free)]


def _bounds(law: Law, free: list[str]) -> tuple[Any, Any]:
    """Return the bounds of what is solved for: parameters, or one divided by a share."""
    parts = {name: law.parameters[name] for name in free}
    least = [1 / part.most if _is_share(law, name) else part.least for name, part in parts.items()]
    most = [1 / part.least if _is_share(law, name) else part.most for name, part in parts.items()]
    return np.array(least), np.array(most)


def _bounded(matrix: Any, target: Any, least: Any, most: Any) -> Any:
    """Return the least-squares solution that is nowhere below `least`, cut at `most`.

    All choices of parameters that are not at their lower bound are tried: there are few.
    """
    rest = target - matrix @ least
    count = matrix.shape[1]
    best, best_error = np.zeros(count), float(rest @ rest)
    for size in range(1, count + 1):
        for chosen in combinations(range(count), size):
            part = matrix[:, chosen]
            solution = np.linalg.lstsq(part, rest, rcond=None)[0]
            if (solution < 0).any():
                continue
            error = float(np.square(part @ solution - rest).sum())
            if error < best_error * (1 - 1e-12):
                best, best_error = np.zeros(count), error
                best[list(chosen)] = solution
    return np.minimum(best + least, most)


def _is_share(law: Law, name: str) -> bool:
    return law.parameters[name].unit in {"share", "multiple"}


def figure(value: float) -> float:
    """Return a number with as many digits as profiles have."""
    return float(f"{value:.{DIGITS}g}")


def _spread(ratios: list[float]) -> tuple[float, float, float, float, float]:
    """Return the quantiles of measured / law that profiles have."""
    cuts = quantiles(ratios, n=20, method="inclusive") if len(ratios) > 1 else ratios * 19
    low, tenth, half, ninety, high = (figure(cuts[index]) for index in (0, 1, 9, 17, 18))
    return low, tenth, half, ninety, high
