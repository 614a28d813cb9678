"""The steps of a serving engine on one rank: how long each is expected to take, and takes at least.

A step writes one token for every sequence of a batch. A step **with a prompt in it** reads the prompt of a new sequence
as well: its linears and experts run once over the tokens of both, its attention, and what else goes through a sequence
with a state of its own, is that of the batch and that of the prompt, and what reads the prompt's images or sound runs
besides. With N drafts a step, each sequence of the batch has N + 1 tokens in it, and the layers that draft run as
`nbanalyzer.costs.mtp` has it. All are sums over the launches of an engine's list (``fusion="engine"``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.count import tree_of
from nbanalyzer.costs.launch import Launch
from nbanalyzer.costs.mtp import is_again, is_ahead
from nbanalyzer.costs.run import Run
from nbanalyzer.costs.symbolic import Symbolic
from nbanalyzer.costs.tree import Node, Tree
from nbanalyzer.errors import NotModelledError
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.formulas.polynomial import Polynomial
from nbanalyzer.formulas.simplify import applied
from nbanalyzer.formulas.summation import total
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.parameters import Spread
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.quantities import seconds
from nbanalyzer.templates.config import ModelParams
from nbanalyzer.templates.media import names_of

from .communication import MICRO, ONE_NODE, Communication
from .eager import EAGER
from .estimate import Interval, expected_times, interval_of, spread_of
from .laws import Pace
from .rates import Rates, busy

__all__ = ["Steps", "Times"]


@dataclass(frozen=True)
class Times:
    """How long a step takes, in seconds; the bound is known whether or not the estimate is.

    Attributes:
        estimate: on the profile's engine, or in words why nobody knows.
        bound: at least.

    """

    estimate: float | str
    bound: float

    @property
    def expected(self) -> float:
        """Seconds on the profile's engine.

        Raises:
            NotModelledError: it is not modelled.

        """
        if isinstance(self.estimate, str):
            raise NotModelledError(self.estimate)
        return self.estimate

    @property
    def not_modelled(self) -> str:
        """Why there is no estimate; empty if there is."""
        return self.estimate if isinstance(self.estimate, str) else ""

    def __add__(self, other: Times) -> Times:
        why = self.not_modelled or other.not_modelled
        return Times(why or self.expected + other.expected, self.bound + other.bound)

    def __sub__(self, other: Times) -> Times:
        return self + other * -1

    def __mul__(self, share: float) -> Times:
        return Times(self.not_modelled or self.expected * share, self.bound * share)


def _or_why(estimate: Callable[[], float]) -> float | str:
    """Return the seconds of an estimate, or why nobody knows them."""
    try:
        return estimate()
    except NotModelledError as error:
        return str(error)


@dataclass(eq=False, repr=False)
class Steps:
    """The steps of a model on one rank.

    Args:
        costs: any pass of an engine's list, of the rank.
        accelerator: where.
        profile: what times are expected with.
        communication: where the ranks are.

    """

    costs: Costs
    accelerator: Accelerator
    profile: Profile
    communication: Communication = ONE_NODE

    @property
    def tp(self) -> int:
        """Ranks."""
        return self.costs.run.tp

    def decode(self, batch: int, context: int) -> Times:
        """Return a step of `batch` sequences with `context` tokens in the cache: one token for each, and drafts."""
        step = self._pass(batch, 1, context)
        return self._times(step, step.launches)

    def prefill(self, prompt: int, batch: int = 1) -> Times:
        """Return a pass that reads `batch` prompts of `prompt` tokens, and nothing else."""
        step = self._pass(batch, prompt, 0)
        return self._times(step, step.launches)

    def mixed(self, batch: int, context: int, prompt: int) -> Times:
        """Return a step as `decode` does it, with one prompt of `prompt` tokens in it."""
        old, new = self._pass(batch, 1, context), self._pass(1, prompt, 0)
        tokens = batch * (1 + self.costs.run.mtp)  # each alone in its sequence, for all that is not attention
        both, heads = self._alone(tokens + prompt, context), self._alone(tokens + 1, context)
        found = Times(0.0, 0.0)
        parts = [("media", new), ("sequences", old), ("sequences", new), ("head", heads), ("", both)]
        if self.costs.run.mtp:
            parts.append(("draft", self._alone(batch + 1, context)))
        for name, step in parts:
            found += self._times(step, (launch for launch in step.launches if self._part(launch) == name))
        return found

    def _part(self, launch: Launch[Number]) -> str:
        """Return what a launch runs over: images or sound, sequences, the tokens that give logits, or all tokens.

        One token of each sequence is drafted from: by the head of the layer that drafts, and by all that runs again.
        """
        used = {name for node in launch.nodes for names in (*node.uses, node.payload.variables) for name in names}
        if not used.isdisjoint(self._media):
            return "media"
        if launch.kind in {"attention", "scan"} or _has_phases(launch.nodes[0]):
            return "sequences"
        if is_ahead(launch.nodes[0]) and (is_again(launch.nodes[0]) or "vocab_size" in used):
            return "draft"
        return "head" if "num_logits" in used else ""

    @cached_property
    def _media(self) -> frozenset[str]:
        """The variables of what a prompt has besides text."""
        return names_of(self.costs.kernel_tree.source.reads)

    def _pass(self, batch: int, seq_len: int, cache_len: int) -> Costs:
        run = self.costs.run.fused(batch_size=batch, seq_len=seq_len, cache_len=cache_len)
        return Costs(self._tree(run), self.costs.params, run)

    def _tree(self, run: Run) -> Tree:
        tree = self.costs.kernel_tree
        if run.variants != self.costs.run.variants:  # prompts are read with other kernels, as those of latent attention
            tree = tree_of(tree.source, run, self.costs.params)
        return tree

    def _alone(self, tokens: int, context: int) -> Costs:
        """Return a pass over so many tokens, each of a sequence of its own, without drafts that it verifies."""
        found = self._pass(tokens, 1, context)
        if not found.run.mtp:
            return found
        known, drafts = found.params, {"mtp": found.run.mtp, "drafts": 0}
        params = ModelParams({**known, **drafts}, known.model_type, known.unknown, known.defaults)
        return Costs(found.kernel_tree, params, found.run.fused(mtp=0))

    def _pace(self, costs: Costs) -> Pace:
        if self.profile.engine == EAGER:
            raise NotModelledError(f"not modelled: requests by {self.profile.name}: it times one pass at a time")
        return Pace(self.accelerator, self.profile, costs.run, costs.is_latent, self.communication)

    def _rates(self, run: Run) -> Rates:
        return Rates(self.accelerator, run, communication=self.communication)

    def _times(self, step: Costs, launches: Iterable[Launch[Number]]) -> Times:
        started = [launch for launch in launches if launch.is_started and launch.times]
        rates = self._rates(step.run)

        def expected() -> float:
            pace = self._pace(step)
            return sum(float(launch.times) * pace.time_us(launch, step.value_of) / MICRO for launch in started)

        return Times(_or_why(expected), sum(max(busy(launch, rates).values(), default=0.0) for launch in started))

    # ---- many steps, in closed form

    def all_decodes(self, start: int, stop: int) -> Times:
        """Return the steps from `start` up to, not including, `stop` tokens in the cache, together."""
        if stop <= start:
            return Times(0.0, 0.0)
        costs = self._pass(self.costs.run.batch_size, 1, start)
        symbolic = costs.symbolic("cache_len")
        rates = self._rates(costs.run)

        def together(each: Polynomial) -> float:
            return float(total(each, "cache_len", start, stop).evaluate({}))

        def expected() -> float:
            return together(Polynomial.sum(time for _, time in expected_times(symbolic, self._pace(costs))))

        return Times(_or_why(expected), together(_bound_of(symbolic, rates)))

    # ---- what to know

    @cached_property
    def _one(self) -> Costs:
        """A step of one sequence: its launches are of the kinds that those of any other are."""
        return self._pass(1, 1, 1)

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """Which peaks are not known, of the launches of a step: bounds leave out what would run at them."""
        return self._rates(self._one.run).notes(self._one.launches)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Which parameters stand in for others that were not measured, of the launches of a step."""
        pace = self._pace(self._one)
        laws = (pace.law(launch) for launch in self._one.launches if launch.is_started and launch.times)
        return tuple(dict.fromkeys(law.note for law in laws if law.note))

    @cached_property
    def spread(self) -> Spread:
        """How measured times spread around estimates of such models on so many devices.

        Raises:
            NotModelledError: nobody compared them: they are not modelled.

        """
        return spread_of(self._one.launches, self._pace(self._one))

    def interval(self, times: Times) -> Interval:
        """Return an expected time with its interval, see `spread`."""
        return interval_of(times.expected, times.bound, self.spread, self.profile.name)

    def words_of(self, times: Times) -> str:
        """Return an expected time with its interval as text; without one, the time alone.

        Raises:
            NotModelledError: some launches are not modelled.

        """
        expected = times.expected
        try:
            return str(self.interval(times))
        except NotModelledError as error:  # nobody compared such estimates with measurements
            return f"{seconds(max(expected, times.bound))} ({error.short})"


def _bound_of(costs: Symbolic, rates: Rates) -> Polynomial:
    """Return the least seconds of a pass as a polynomial of what stays free: the longest of each launch's times."""
    times = ([*busy(launch, rates).values()] for launch in costs.launches)
    return Polynomial.sum(applied("max", (*one,)) if len(one) > 1 else one[0] for one in times if one)


def _has_phases(node: Node) -> bool:
    """Return whether a kernel is another for a prompt than for one token, as a convolution with a state is."""
    above: Node | None = node.parent
    while above is not None:
        if "seq_len" in above.calls.variables:
            return True
        above = above.parent
    return False
