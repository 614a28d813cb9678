"""Which variable moves a metric most: elasticities, from the symbolic derivative."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbanalyzer import display
from nbanalyzer.costs.metrics import OF_ENGINE, PASS_METRICS
from nbanalyzer.costs.run import CHOICES, TOKENS
from nbanalyzer.display import Picture, Shown
from nbanalyzer.errors import InputError, UnknownNameError, quote
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.formulas.polynomial import Polynomial

from .analysis import Analysis
from .populate import Source, populate
from .sentence import of_elasticities
from .times import TIMES, time_formula

if TYPE_CHECKING:
    import pandas

    from nbanalyzer.hardware.accelerators import Accelerator
    from nbanalyzer.hardware.profiles import Profile

__all__ = ["Sensitivity", "sensitivity"]

BYTES = ("w_bytes", "a_bytes", "kv_bytes")


class Sensitivity(Shown, shown_by="sensitivity"):
    """The elasticities of one metric at one point.

    Attributes:
        analysis: the point.
        metric: of what.
        elasticities: variable → by how many percent the metric grows where the variable grows by one percent, the
            largest in size first. 1: proportional; 2: quadratic; 0: it makes no difference here.

    """

    def __init__(self, analysis: Analysis, metric: str, elasticities: Mapping[str, float]) -> None:
        self.analysis = analysis
        self.metric = metric
        self.elasticities = dict(sorted(elasticities.items(), key=lambda item: (-abs(item[1]), item[0])))

    @property
    def sentence(self) -> str:
        """The first thing to know, in a plain sentence: what moves the metric most, and what does not."""
        return of_elasticities(self.metric, self.elasticities)

    def table(self) -> pandas.DataFrame:
        """Return one row per variable: its value, and the elasticity."""
        import pandas

        values = [float(self.analysis.values[name]) for name in self.elasticities]
        columns = {"value": values, "elasticity": list(self.elasticities.values())}
        return pandas.DataFrame(columns, index=pandas.Index(list(self.elasticities), name="variable"))

    def plot(self) -> Picture:
        """Return the elasticities as bars."""
        return display.figure(self, "elasticity_chart")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the elasticities, whole or not at all: a page, .html."""
        display.save(self, path)


def sensitivity(
    model: Source,
    metric: str = "flops",
    at: Mapping[str, Any] | None = None,
    *,
    hardware: str | os.PathLike[str] | Accelerator | None = None,
    profile: str | os.PathLike[str] | Profile | None = None,
    config: object = None,
) -> Sensitivity:
    """Return how much each variable moves a metric: d log(metric) / d log(variable), exact at the point `at`.

    Args:
        model: as for `populate`.
        metric: one of `nbanalyzer.costs.metrics.PASS_METRICS`, such as ``"flops"`` or ``"bytes"``; with hardware
            ``"time"``, ``"lower_bound"`` or ``"estimate"``.
        at: the point: values of a run and of the config, ``{"seq_len": 2048, "num_kv_heads": 8}``.
        hardware: what times are on, as for `Analysis.on`.
        profile: what estimates are made with, as for `Analysis.on`.
        config: as for `populate`.

    Raises:
        NBAnalyzerError: bad input, or a metric that is 0 at the point.

    """
    if metric not in (*PASS_METRICS, *TIMES):
        raise UnknownNameError("metric", metric, (*PASS_METRICS, *TIMES))
    if metric in TIMES and hardware is None:
        raise InputError(f"{metric} needs hardware: give hardware=…, such as 'h100-sxm'")
    for name, given_to, needing in (("hardware", hardware, TIMES), ("profile", profile, ("estimate",))):
        if given_to is not None and metric not in needing:
            raise InputError(f"{name} changes nothing of {metric}: it is for {', '.join(needing)}")
    given = dict(at or {})
    run = {name: given.pop(name) for name in (*TOKENS, *CHOICES) if name in given}
    for name in ("model", "hardware"):
        if name in run:
            raise InputError(f"at takes sizes and conventions, not {quote(name)}")
    analysis = populate(model, config=config, set=given, **run)
    roofline = None if hardware is None else analysis.on(hardware, profile=profile)
    costs = roofline.engine if roofline and metric in OF_ENGINE else analysis
    found: dict[str, float] = {}
    for name in costs.variables:
        value = costs.values[name]
        if not value or not (name in TOKENS or name in BYTES or name in costs.params):
            continue
        if roofline:
            found[name] = _logarithmic(time_formula(roofline, metric, name), metric, name, value)
        else:
            found[name] = _elasticity(analysis, metric, name, value)
    return Sensitivity(analysis, metric, found)


def _elasticity(analysis: Analysis, metric: str, name: str, value: Number) -> float:
    """Return d log(metric) / d log(variable), everything else held; what follows from the variable still follows."""
    symbolic = analysis.symbolic(name)
    if metric == "arithmetic_intensity":  # a quotient
        above, below = (_logarithmic(symbolic.metric(one), metric, name, value) for one in ("flops", "bytes"))
        return above - below
    return _logarithmic(symbolic.metric(metric), metric, name, value)


def _logarithmic(cost: Polynomial, metric: str, name: str, value: Number) -> float:
    here, slope = cost.tangent(name, value)
    if here == 0:
        raise InputError(f"{metric} is 0 here: it has no elasticity")
    return float(slope * value / here)
