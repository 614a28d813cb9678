"""How many devices a model needs, and how to cut it: all meshes that it fits on, and the best of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from nbanalyzer.costs.run import MESH, read_size
from nbanalyzer.display import Shown
from nbanalyzer.errors import FormulaError, InputError, NBAnalyzerError, UnknownNameError, quote
from nbanalyzer.formulas.formula import Formula, parse
from nbanalyzer.hardware.accelerators import Accelerator, accelerators
from nbanalyzer.hardware.accelerators import hardware as find_hardware
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.hardware.profiles import profile as find_profile

from .capacity import MEMORY_FRACTION
from .estimate import Interval
from .meshes import Division, Mesh, divisions, nodes_of
from .options import GOALS
from .populate import Source
from .price import Price
from .request import request

__all__ = ["Placement", "Search", "fit"]

MOST_DEVICES = 1024
SHOWN = 12  # placements with an estimate


@dataclass(frozen=True)
class Placement:
    """A mesh of an accelerator that the model fits on.

    Attributes:
        hardware: the accelerator's name.
        devices, nodes: of the mesh.
        tp, ep, pp, dp: its axes.
        memory_bytes: that the fullest rank needs.
        free_bytes: that are left of what may be used.
        time_to_first_token: seconds until the prompts are read, at least.
        time_per_output_token: seconds of the last decode step through all stages, at least.
        tokens_per_s: written, of all sequences, at most.
        cost_per_million_tokens: $ at least; None without a price.

    """

    hardware: str
    devices: int
    nodes: int
    tp: int
    ep: int
    pp: int
    dp: int
    memory_bytes: float
    free_bytes: float
    time_to_first_token: float
    time_per_output_token: float
    tokens_per_s: float
    cost_per_million_tokens: float | None = None

    @property
    def mesh(self) -> Mesh:
        """The axes."""
        return Mesh(self.tp, self.ep, self.pp, self.dp)


NUMBERS = tuple(field.name for field in fields(Placement) if field.name != "hardware")


class Search(Shown, shown_by="search"):
    """All placements of a model, the best first.

    Attributes:
        title: the model's.
        asked: the options of the question, in words.
        goal: what is minimized.
        placements: that fit, and fulfil the conditions, best first; of equal devices, the faster first.
        without: accelerator → why it has none.

    """

    def __init__(
        self, title: str, asked: str, goal: str, placements: Sequence[Placement], without: Mapping[str, str],
        estimates: _Estimates,
    ) -> None:  # fmt: skip
        self.title = title
        self.asked = asked
        self.goal = goal
        self.placements = tuple(placements)
        self.without = dict(without)
        self._estimates = estimates

    @property
    def best(self) -> Placement:
        """The best placement.

        Raises:
            InputError: there is none.

        """
        if not self.placements:
            why = "; ".join(f"{name}: {reason}" for name, reason in [*self.without.items()][:3])
            raise InputError(f"no mesh that was looked at is big enough, or fulfils the conditions ({why})")
        return self.placements[0]

    @cached_property
    def frontier(self) -> tuple[Placement, ...]:
        """Those that no other beats in both devices and time per output token, fewest devices first."""
        found: list[Placement] = []
        for one in sorted(self.placements, key=lambda one: (one.devices, one.time_per_output_token)):
            if not found or one.time_per_output_token < found[-1].time_per_output_token:
                found.append(one)
        return tuple(found)

    def estimate(self, placement: Placement) -> Interval | str:
        """Return the time per output token that is expected, or why there is none."""
        return self._estimates.of(placement)

    def table(self) -> Any:
        """Return one row per placement, a pandas DataFrame."""
        import pandas

        return pandas.DataFrame([asdict(one) for one in self.placements])


@dataclass(frozen=True)
class _Estimates:
    """What is needed to estimate a placement."""

    model: Source
    options: Mapping[str, Any]
    batch_size: int
    profile: str | os.PathLike[str] | Profile | None
    cards: Mapping[str, Accelerator]

    def of(self, placement: Placement) -> Interval | str:
        if placement.pp > 1:
            return "not modelled: pipelines"
        card = self.cards[placement.hardware]
        mesh = {"tp": placement.tp, "ep": placement.ep, "dp": placement.dp, "fusion": "engine"}
        batch = -(-self.batch_size // placement.dp)
        try:
            asked = request(self.model, batch_size=batch, **{**self.options, **mesh})
            return asked.on(card, profile=self.profile, nodes=placement.nodes).estimate_per_output_token
        except NBAnalyzerError as error:
            return str(error)


def fit(
    model: Source,
    *,
    hardware: str | os.PathLike[str] | Accelerator | Sequence[str | Accelerator] | None = None,
    prompt_len: int = 1024,
    output_len: int = 256,
    batch_size: int = 1,
    minimize: str = "devices",
    where: str | Sequence[str] = (),
    max_devices: int = 64,
    price: float | Mapping[str, float] | None = None,
    profile: str | os.PathLike[str] | Profile | None = None,
    memory_fraction: float = MEMORY_FRACTION,
    **run: Any,
) -> Search:
    """Return on which meshes a model can serve requests, the best first.

    All meshes of tp, ep, dp and pp are looked at; of those that differ by the stages of a pipeline only, the smallest
    that fits is kept, since more stages make no token faster.

    Args:
        model: as for `nbanalyzer.populate`.
        hardware: accelerators, as for `Analysis.on`; all of the catalogue if None.
        prompt_len: tokens that each sequence reads.
        output_len: tokens that each writes.
        batch_size: sequences at a time, over all replicas.
        minimize: what the best has least of: ``"devices"``, ``"cost"`` (of a million tokens) or
            ``"time_per_output_token"``; the latter two at the bound.
        where: conditions, formulas over the fields of `Placement`: ``"{tokens_per_s} >= 1000"``, ``"{tp} <= 8"``.
        max_devices: of a mesh.
        price: $ an hour of a device, the same for all accelerators, or accelerator → price.
        profile: what estimates are made with.
        memory_fraction: share of each device's memory that may be used.
        run: w_bit, a_bit, kv_bit, quant, set, config.

    Raises:
        NBAnalyzerError: bad input, or a model that cannot be divided.

    """
    if minimize not in GOALS:
        raise UnknownNameError("goal", minimize, GOALS)
    for name in (*MESH, "rank", "seq_len", "cache_len", "fusion"):
        if name in run:
            raise InputError(f"fit looks for the mesh and sets the passes: it takes no {name}")
    read_size("batch_size", batch_size, 1)
    if isinstance(max_devices, bool) or not isinstance(max_devices, int) or not 1 <= max_devices <= MOST_DEVICES:
        raise InputError(f"max_devices is a whole number from 1 to {MOST_DEVICES:,}, not {quote(max_devices)}")
    if not isinstance(memory_fraction, int | float) or not 0 < memory_fraction <= 1:
        raise InputError(f"memory_fraction is a share above 0 and at most 1, not {quote(memory_fraction)}")
    cards = _cards(hardware)
    if profile is not None:
        _require(profile, cards)
    conditions = [_condition(text) for text in (where if isinstance(where, list | tuple) else [where])]
    if minimize == "cost" and price is None:
        raise InputError("a cost needs a price: give price=…, in $ an hour for each device")
    options = {"prompt_len": prompt_len, "output_len": output_len, **run}
    work = _Work(model, options, batch_size, max_devices)
    placements: list[Placement] = []
    without: dict[str, str] = {}
    for card in cards:
        found = [one for one in work.on(card, memory_fraction, price) if _holds(one, conditions)]
        placements += found
        if not found:
            without[card.name] = work.why(card, memory_fraction) if not conditions else "none fulfils the conditions"
    placements.sort(key=lambda one: _rank(one, minimize))
    by_name = {card.name: card for card in cards}
    asked = f"batch_size {batch_size:,}, prompt {prompt_len:,}, output {output_len:,}; at most {max_devices:,} devices"
    estimates = _Estimates(model, options, batch_size, profile, by_name)
    return Search(work.title, asked, minimize, placements, without, estimates)


def _rank(one: Placement, goal: str) -> tuple[float, ...]:
    cost = one.cost_per_million_tokens
    keys = {"devices": float(one.devices), "cost": float("inf") if cost is None else cost}
    return keys.get(goal, one.time_per_output_token), one.time_per_output_token, one.devices


def _cards(hardware: Any) -> list[Accelerator]:
    """Return the accelerators that are asked for, of all those whose memory is known."""
    if hardware is None:
        return [card for card in map(find_hardware, accelerators()) if card.memory_bytes]
    several = hardware if isinstance(hardware, list | tuple) else [hardware]
    found = [find_hardware(one) for one in several]
    for card in found:
        if card.memory_bytes is None:
            raise InputError(f"the memory of {card.name} is not known: give an Accelerator with memory_bytes")
    return found


def _require(profile: str | os.PathLike[str] | Profile, cards: Iterable[Accelerator]) -> None:
    """Raise unless one of the accelerators has such a profile."""
    errors = []
    for card in cards:
        try:
            find_profile(profile, card)
        except NBAnalyzerError as error:
            errors.append(error)
        else:
            return
    raise errors[0]


def _condition(text: object) -> Formula:
    """Return a condition over the fields of a placement."""
    if not isinstance(text, str):
        raise InputError(f'a condition is a formula such as "{{tp}} <= 8", not {quote(text)}')
    try:
        formula = parse(text)
    except FormulaError as error:
        raise InputError(f"in where: {error}") from None
    for name in formula.variables:
        if name not in NUMBERS:
            raise UnknownNameError("field of a placement", name, NUMBERS)
    return formula


def _holds(one: Placement, conditions: Iterable[Formula]) -> bool:
    for condition in conditions:
        values = {name: getattr(one, name) for name in condition.variables}
        if None in values.values():
            raise InputError("a cost needs a price: give price=…, in $ an hour for each device")
        if not bool(condition.vectorize(values)):
            return False
    return True


class _Work:
    """The divisions of a model, counted once for all accelerators."""

    def __init__(self, model: Source, options: Mapping[str, Any], batch_size: int, most: int) -> None:
        self.batch_size = batch_size
        self.most = most
        whole = request(model, batch_size=batch_size, **{**options, "fusion": "engine"})
        self.title = whole.last.title
        self.depth = int(whole.last.params.get("num_layers", 1))
        has_experts = "num_experts" in whole.last.variables
        self.options = dict(options)
        self.model = model
        self.divided = [
            one
            for mesh in divisions(whole.last.params, has_experts=has_experts, most=most)
            if (one := self._division(mesh)) is not None
        ]
        self.needs = {one.mesh: self._needs(one) for one in self.divided}

    def _division(self, mesh: Mesh) -> Division | None:
        """Return the passes of a rank; None if the model cannot be divided so."""
        sizes = {name: size for name, size in mesh._asdict().items() if size > 1}
        batch = -(-self.batch_size // mesh.dp)
        try:
            found = request(self.model, batch_size=batch, **{**self.options, "fusion": "engine", **sizes})
        except InputError:
            if mesh == Mesh():
                raise
            return None
        return Division(mesh, found.prefill, found.last)

    def _needs(self, one: Division) -> list[float]:
        """Return the bytes of the fullest rank with 1, 2, … stages, as many as there may be."""
        most = min(self.most // one.mesh.devices, self.depth)
        found = [float(one.memory(1))]
        with suppress(InputError):  # not divided into stages
            found += [float(one.memory(pp)) for pp in range(2, most + 1)]
        return found

    def on(self, card: Accelerator, fraction: float, price: Any) -> Iterable[Placement]:
        """Yield the placements on an accelerator: for every division, the fewest stages that fit."""
        room = (card.memory_bytes or 0) * fraction
        for one in self.divided:
            for pp, need in enumerate(self.needs[one.mesh], 1):
                devices = one.mesh.devices * pp
                nodes = nodes_of(devices, card.devices_per_node)
                if need > room or nodes is None:
                    continue
                try:
                    first, step = one.times(card, pp)
                except InputError:
                    break  # its links are not known
                yield self._placement(card, one.mesh._replace(pp=pp), nodes, (need, room), (first, step), price)
                break

    def _placement(
        self, card: Accelerator, mesh: Mesh, nodes: int, memory: tuple[float, float], times: tuple[float, float],
        price: Any,
    ) -> Placement:  # fmt: skip
        need, room = memory
        rate = self.batch_size / times[1] if times[1] else float("inf")
        each = price.get(card.name) if isinstance(price, Mapping) else price
        cost = None if each is None else Price(card, mesh.devices, price=each).cost_per_million_tokens(rate)
        return Placement(card.name, mesh.devices, nodes, *mesh, need, room - need, *times, rate, cost)

    def why(self, card: Accelerator, fraction: float) -> str:
        """Return why a model has no place on an accelerator."""
        least = min(need for needs in self.needs.values() for need in needs)
        room = (card.memory_bytes or 0) * fraction
        if least > room:
            return f"a rank needs at least {least / 1e9:,.1f} GB, {room / 1e9:,.1f} GB may be used"
        return "its links are not known, or no mesh spreads evenly over its nodes"
