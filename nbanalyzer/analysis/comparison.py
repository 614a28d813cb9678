"""Several variants side by side: models, precisions, accelerators; what changed, and in which modules."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

from nbanalyzer import display
from nbanalyzer.costs.metrics import BY_MODULE, unit_of
from nbanalyzer.costs.roles import MLP, ROLES, roles_of
from nbanalyzer.costs.tree import Node
from nbanalyzer.display import Picture, Shown
from nbanalyzer.errors import InputError, NotModelledError, UnknownNameError, quote, shorten
from nbanalyzer.hardware.accelerators import hardware as find_hardware
from nbanalyzer.quantities import plain

from .analysis import Analysis
from .communication import ONE_NODE, Communication
from .estimate import Interval
from .populate import populate
from .roofline import Roofline

if TYPE_CHECKING:
    import pandas

    from nbanalyzer.hardware.profiles import Profile

__all__ = ["MOST", "Change", "Comparison", "Variant", "compare", "ratio"]

MOST = 6  # variants side by side: more is a sweep
METRICS = (
    "devices",
    "flops",
    "bytes",
    "parameters",
    "weight_bytes",
    "kv_cache_bytes",
    "payload_bytes",
    "memory",
    "fits",
    "time",
    "lower_bound",
    "estimate",
)

ALONE = 0.1  # of a variant's whole: more of it in modules that others lack, and they are compared by role
SEVERAL_DEVICES = ("devices", "payload_bytes")


@dataclass(frozen=True)
class Variant:
    """One of several passes that are compared.

    Attributes:
        label: what it is called among the others.
        analysis: its numbers.
        roofline: its times, if there is an accelerator.

    """

    label: str
    analysis: Analysis
    roofline: Roofline | None = None

    def metric(self, name: str) -> float | int | None:
        """Return one of `METRICS`, ``fits`` as 1, 0 or nan where that is not known; None without an accelerator.

        An estimate of what is not modelled is nan.
        """
        if name in {"time", "lower_bound"}:
            return getattr(self.roofline, name) if self.roofline else None
        if name == "estimate":
            if self.roofline is None:
                return None
            return self.estimate.value if self.estimate else math.nan if self.point is None else self.point
        if name == "fits":
            fit = self.roofline.fit if self.roofline else None
            return None if self.roofline is None else math.nan if fit is None else int(bool(fit))
        if name == "devices":
            return self.analysis.run.devices
        amounts = {"memory": self.analysis.memory.total, "payload_bytes": self.analysis.cost_of_all.payload_bytes}
        return plain(amounts[name]) if name in amounts else self.analysis.totals[name]

    @property
    def estimate(self) -> Interval | None:
        """The time that is expected; None without an accelerator, and of what is not modelled."""
        return self._expected if isinstance(self._expected, Interval) else None

    @property
    def not_modelled(self) -> str:
        """Why there is no estimate on its accelerator; "" if there is."""
        return str(self._expected) if isinstance(self._expected, NotModelledError) else ""

    @property
    def within(self) -> str:
        """The ends of the interval, as text; or why there is none, of a time that is expected without one."""
        if isinstance(self._expected, NotModelledError):
            return "" if self.point is None else self._expected.short
        return self._expected.within if self._expected else ""

    @cached_property
    def _expected(self) -> Interval | NotModelledError | None:
        try:
            return self.roofline.estimate if self.roofline else None
        except NotModelledError as error:
            return error

    @cached_property
    def point(self) -> float | None:
        """The time that is expected of several devices that nobody measured, who have no interval; None if not so."""
        if self.roofline and self.estimate is None and self.analysis.run.devices > 1:
            with suppress(InputError):
                return self.roofline.expected
        return None

    @property
    def marks(self) -> tuple[str, ...]:
        """What stands beside its times, see `Roofline.marks`."""
        return self.roofline.marks if self.roofline else ()

    def modules(self, metric: str) -> dict[str, float]:
        """Return path → a metric, of the modules of `Costs.modules`, those that cost nothing in this pass too."""
        nodes = self.analysis.modules(with_empty=True)
        if metric == "time":
            timings = self.roofline.timings if self.roofline else {}
            return {node.path: timings[node].time for node in nodes if node in timings}
        return {node.path: float(getattr(self.analysis.cost(node), metric)) for node in nodes}

    def roles(self, metric: str) -> dict[str, float]:
        """Return role → a metric, summed over its modules; see `nbanalyzer.costs.roles`."""
        found: dict[str, float] = {}
        for node, role in roles_of(self.analysis.kernel_tree).items():
            found[role] = found.get(role, 0.0) + self._own(metric, node)
        if metric == "parameters":  # modules with parts may hold some themselves, as experts do
            rest = float(self.analysis.cost_of_all.parameters) - math.fsum(found.values())
            found[MLP] = found.get(MLP, 0.0) + rest
        return found

    def _own(self, metric: str, node: Node) -> float:
        if metric == "time":
            return self.roofline.timings[node].time if self.roofline else 0.0
        return float(getattr(self.analysis.cost(node), metric))


@dataclass(frozen=True)
class Change:
    """What a module costs in two variants.

    Attributes:
        path: of the module; it is there in one of them at least.
        before, after: the numbers, 0 where it is not there.

    """

    path: str
    before: float
    after: float

    @property
    def difference(self) -> float:
        """How much it grew."""
        return self.after - self.before


class Comparison(Shown, shown_by="comparison"):
    """Variants side by side, the first one being what the others are compared with.

    Attributes:
        variants: two to `MOST` of them.

    """

    def __init__(self, variants: Sequence[Variant]) -> None:
        if not 2 <= len(variants) <= MOST:
            raise InputError(f"a comparison is of 2 to {MOST} variants, not {len(variants)}")
        self.variants = tuple(variants)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that all variants have; of devices and what they send only if one has several."""
        is_single = all(one.analysis.run.devices == 1 for one in self.variants)
        names = [name for name in METRICS if not (is_single and name in SEVERAL_DEVICES)]
        return tuple(name for name in names if all(one.metric(name) is not None for one in self.variants))

    def table(self) -> pandas.DataFrame:
        """Return the totals: a row per metric, a column per variant; units in ``attrs["units"]``."""
        import pandas

        columns = {one.label: [one.metric(name) for name in self.metrics] for one in self.variants}
        frame = pandas.DataFrame(columns, index=pandas.Index(self.metrics, name="metric"))
        frame.attrs["units"] = {name: "" if name == "devices" else unit_of(name) for name in self.metrics}
        return frame

    def modules(self, metric: str = "bytes") -> pandas.DataFrame:
        """Return a metric by module: a row per module, a column per variant; those that differ most first.

        Args:
            metric: ``"flops"``, ``"bytes"``, ``"parameters"`` or ``"time"``.

        """
        import pandas

        found = self.by_module(metric)
        columns = {one.label: [numbers[index] for numbers in found.values()] for index, one in enumerate(self.variants)}
        frame = pandas.DataFrame(columns, index=pandas.Index(list(found), name="module"))
        frame.attrs["units"] = {one.label: unit_of(metric) for one in self.variants}
        return frame

    def by_module(self, metric: str = "bytes") -> dict[str, list[float]]:
        """Return path → a metric in every variant, 0 where it has no such module; what differs most first."""
        self._require(metric)
        numbers = [one.modules(metric) for one in self.variants]
        paths = dict.fromkeys(path for found in numbers for path in found)
        cells = {path: [found.get(path, 0.0) for found in numbers] for path in paths}
        # What differs by as much stays in the order of the pass.
        return dict(sorted(cells.items(), key=lambda item: min(item[1]) - max(item[1])))

    def by_role(self, metric: str = "bytes") -> dict[str, list[float]]:
        """Return role → a metric in every variant, in the order of a pass; roles that none has are left out."""
        self._require(metric)
        numbers = [one.roles(metric) for one in self.variants]
        cells = {role: [found.get(role, 0.0) for found in numbers] for role in ROLES}
        return {role: amounts for role, amounts in cells.items() if any(amounts)}

    def aligned(self, metric: str = "bytes") -> tuple[str, dict[str, list[float]]]:
        """Return what variants are compared by, ``"module"`` or ``"role"``, and its numbers.

        Of models whose modules are not the same, those of one have nothing beside them in the other; their roles do.
        """
        by_module = self.by_module(metric)
        known = [one.modules(metric).keys() for one in self.variants]
        alone = {path for path in by_module if not all(path in paths for paths in known)}
        for index in range(len(self.variants)):
            whole = math.fsum(numbers[index] for numbers in by_module.values())
            if math.fsum(by_module[path][index] for path in alone) > ALONE * whole:
                return "role", self.by_role(metric)
        return "module", by_module

    @property
    def sentence(self) -> str:
        """The first thing to know, in a plain sentence: how the last variant compares with the first, and why."""
        metric = "time" if "time" in self.metrics else "bytes"
        before, after = self.variants[0], self.variants[-1]
        first, last = before.metric(metric) or 0, after.metric(metric) or 0
        if not first or not last:
            return ""
        what = "takes as long as" if metric == "time" else "moves as many bytes as"
        times = f"{last / first:.3g}"
        if times != "1":
            what = f"takes {times} times as long as" if metric == "time" else f"moves {times} times the bytes of"
        text = f"{after.label} {what} {before.label}"
        roles = {role: numbers[-1] - numbers[0] for role, numbers in self.by_role(metric).items()}
        role = max(roles, key=lambda name: abs(roles[name]))
        return f"{text}; most of the difference is in: {role}." if roles[role] and times != "1" else f"{text}."

    def _require(self, metric: str) -> None:
        if metric not in BY_MODULE:
            raise UnknownNameError("metric by module", metric, BY_MODULE)
        if metric == "time" and "time" not in self.metrics:
            raise InputError("a time needs hardware: compare(…, hardware=…)")

    def changes(self, metric: str = "bytes", of: int = 1) -> list[Change]:
        """Return what became of every module from the first variant to number `of`, the largest change first."""
        self._require(metric)
        if isinstance(of, bool) or not isinstance(of, int) or not 1 <= of < len(self.variants):
            raise InputError(f"of is a variant's number from 1 to {len(self.variants) - 1}, not {quote(of)}")
        before, after = self.variants[0].modules(metric), self.variants[of].modules(metric)
        found = [Change(path, before.get(path, 0.0), after.get(path, 0.0)) for path in {**before, **after}]
        # What differs by as much stays in the order of the pass.
        return sorted(found, key=lambda change: -abs(change.difference))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before believing the numbers, each with the variant that it is about."""
        found = []
        for one in self.variants:
            notes = one.roofline.notes if one.roofline else ()
            drafted = (one.analysis.template.drafted,) if one.analysis.template.drafted else ()
            missing = (one.not_modelled,) if one.not_modelled else ()
            found += [f"{one.label}: {text}" for text in (*drafted, *one.analysis.warnings, *notes, *missing)]
        return tuple(found)

    def called(self, metric: str) -> str:
        """Return a metric's name; memory is at least what is said, and so are times where kernels are fused."""
        if metric == "fits" and "devices" in self.metrics:
            return "fits, each rank"
        are_bounds = all(one.roofline.is_bound for one in self.variants if one.roofline)
        return f"{metric}, at least" if metric == "memory" or (metric == "time" and are_bounds) else metric

    def plot(self, metric: str = "") -> Picture:
        """Return bars of a metric by module, one per variant: of the time if there is one, else of bytes."""
        self._require(metric or "bytes")
        return display.figure(self, "comparison_plot", metric)


def compare(
    *models: Any,
    hardware: Any = None,
    profile: str | os.PathLike[str] | Profile | None = None,
    nodes: int = 1,
    overlap: float = 0.0,
    config: object = None,
    set: Mapping[str, int] | None = None,  # noqa: A002 - the users' word: --set
    **run: Any,
) -> Comparison:
    """Return two to six variants side by side.

    Args:
        models: as for `populate`; an `Analysis` is taken as it is.
        hardware: an accelerator, or a list of them.
        profile: what estimates are made with, as for `Analysis.on`.
        nodes: that the devices of each are spread over, as for `Analysis.on`.
        overlap: share of the communication that is hidden, as for `Analysis.on`.
        config: as for `populate`, for all models.
        set: as for `populate`, for all models.
        run: the values of a run; a list of values makes a variant for each: ``w_bit=[16, 8, 4]``.

    >>> print(compare("gpt2", "gpt2-xl", seq_len=16).table().loc["parameters", "gpt2-xl"])
    1557611200.0

    Raises:
        NBAnalyzerError: bad input; fewer variants than two, or more than six.

    """
    if hardware is None and (profile is not None or Communication(nodes, overlap) != ONE_NODE):
        if profile is not None:
            raise InputError("a profile needs hardware: compare(…, hardware=…)")
        raise InputError("nodes and overlap need hardware: give hardware=…, such as 'h100-sxm'")
    cards = list(hardware) if isinstance(hardware, list | tuple) else [hardware]
    listed = {name: list(value) for name, value in run.items() if isinstance(value, list | tuple | range)}
    count = math.prod(map(len, (models, cards, *listed.values())))
    if not 2 <= count <= MOST:
        raise InputError(
            f"a comparison is of 2 to {MOST} variants, not {count}: name models, or give an option several values"
        )
    variants = []
    for model, *values, card in product(models, *listed.values(), cards):
        options = dict(zip(listed, values, strict=True))
        if isinstance(model, Analysis):
            if run or config is not None or set:
                raise InputError(
                    f"an Analysis is compared as it is: {shorten(', '.join(sorted(run)) or 'config')} would change it"
                )
            analysis = model
        else:
            analysis = populate(model, config=config, set=set, **{**run, **options})
        parts = (
            [analysis.template.model_id.rpartition("/")[2] or analysis.template.architecture] if len(models) > 1 else []
        )
        parts += [f"{name} {value}" for name, value in options.items()]
        accelerator = find_hardware(card) if card is not None else None
        parts += [accelerator.name] if accelerator and len(cards) > 1 else []
        roofline = analysis.on(accelerator, profile=profile, nodes=nodes, overlap=overlap) if accelerator else None
        variants.append(Variant(", ".join(parts), analysis, roofline))
    return Comparison(_told_apart(variants))


def _told_apart(variants: list[Variant]) -> list[Variant]:
    """Return the variants with a number behind labels that are there twice."""
    labels = [one.label for one in variants]
    return [
        Variant(f"{one.label} ({index + 1})", one.analysis, one.roofline) if labels.count(one.label) > 1 else one
        for index, one in enumerate(variants)
    ]


def ratio(before: float | None, after: float | None) -> str:
    """Return the ratio of two numbers as text: ``×2``, ``×0.25``, ``=``; ``new`` where there was nothing before.

    It is empty where one is not known.
    """
    if any(number is not None and math.isnan(number) for number in (before, after)):
        return ""
    if before == after:
        return "="
    return f"×{after / before:.3g}" if before and after is not None else "new"
