"""Times of a pass as formulas of one size that stays free: for inverse questions and elasticities."""

from __future__ import annotations

from nbanalyzer.costs.metrics import OF_ENGINE
from nbanalyzer.formulas.polynomial import Polynomial

from .closed_form import as_polynomial, expected_of, time_of
from .rates import Efficiency, Rates
from .roofline import Roofline

__all__ = ["TIMES", "time_formula"]

TIMES = ("time", "lower_bound", "estimate")
"""The metrics that are times of one pass."""


def time_formula(roofline: Roofline, metric: str, name: str) -> Polynomial:
    """Return a time of a pass, in seconds, in one variable.

    Args:
        roofline: the pass, where it runs, and the profile of estimates.
        metric: one of `TIMES`.
        name: the variable that stays free; where it is ``seq_len``, kernels stay those of the pass.

    Raises:
        InputError: an estimate of what is not modelled.

    """
    costs = roofline.engine if metric in OF_ENGINE else roofline.analysis
    symbolic = costs.symbolic(name)
    if metric == "estimate":
        return as_polynomial(expected_of(symbolic, roofline.engine_pace))
    efficiency = roofline.efficiency if metric == "time" else None
    rates = Rates(roofline.accelerator, costs.run, efficiency or Efficiency(), communication=roofline.communication)
    return as_polynomial(time_of(symbolic, rates))
