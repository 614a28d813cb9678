"""A template's costs as polynomials: in the variables that stay free, everything else put in.

What `Analysis` says for one set of values, this says for all of them at once. Sums over steps, inverse questions
and sweeps start here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

from nbanalyzer.errors import FormulaError, TemplateError
from nbanalyzer.formulas.formula import Formula, Number, parse
from nbanalyzer.formulas.polynomial import MAX_TERMS, Atom, Polynomial, applied, expanded
from nbanalyzer.formulas.program import Expression

from .run import Run
from .tree import METRICS, Node, Tree, sizes_of

if TYPE_CHECKING:
    from nbanalyzer.analysis.roofline import Rates

__all__ = ["Launch", "Symbolic", "free_values"]

MOST_COMPARED = 64  # working sets that are compared with each other: more hide nothing worth the time
PARTS = {"flops": 0, "read_bytes": 1, "write_bytes": 2}  # places in `Node.parts`
FROM_ONE = frozenset({"batch_size", "seq_len", "encoder_len"})
NEVER_ZERO = frozenset({"batch_size", "seq_len", "encoder_len", "w_bytes", "a_bytes", "kv_bytes"})


@dataclass(frozen=True, slots=True)
class Launch:
    """What one kernel on the device costs each time it runs, and how often it runs in the pass.

    Attributes:
        times: runs in the whole pass.
        matmul_flops, vector_flops, read, write: of one run, FLOPs and bytes.
        activations: bytes of activations that one run reads and writes, on average over its steps.
        sizes: of ``"w_bytes"``, ``"a_bytes"`` and ``"kv_bytes"`` those that its traffic depends on.
        steps: operations, one after the other, that one run is; each is started of its own.

    """

    times: Polynomial
    matmul_flops: Polynomial
    vector_flops: Polynomial
    bytes: Polynomial
    activations: Polynomial
    sizes: frozenset[str]
    steps: int


def free_values(run: Run, free: frozenset[str]) -> dict[str, Number | Polynomial]:
    """Return the run's values but for the `free` variables; what follows from one of those follows still."""
    found: dict[str, Number | Polynomial] = {**run.values()}
    for name in free:
        found.pop(name, None)
    if "seq_len" in free and run.logits == "all":
        found["num_logits"] = expanded(parse("{seq_len}"), {})
    if run.encoder_len_follows and free & {"cache_len", "seq_len"}:
        found["encoder_len"] = expanded(parse("{cache_len} if {cache_len} else {seq_len}"), found)
    return found


class Symbolic:
    """A template's costs, multiplied out.

    Args:
        tree: the template.
        values: variable → number, or what it follows from; a variable without stays free.

    """

    def __init__(self, tree: Tree, values: Mapping[str, Number | Polynomial]) -> None:
        self._tree = tree
        self._values = values
        self._times: dict[Node, Polynomial] = {}
        self._copies: dict[Node, Polynomial] = {}
        self._known: dict[int, Polynomial] = {}  # by the formula's id: many kernels share one, and the tree keeps them
        self._doubts: dict[Polynomial, None] = {}
        self._terms = 0  # of all formulas so far
        for node in tree.nodes:
            repeat, calls = (
                (_ONE, _ONE) if node.is_basic else (self._sure(node, node.repeat), self._sure(node, node.calls))
            )
            times, copies = (self._times[node.parent], self._copies[node.parent]) if node.parent else (_ONE, _ONE)
            self._times[node], self._copies[node] = times * repeat * calls, copies * repeat

    def _of(self, node: Node, formula: Formula) -> Polynomial:
        try:
            return expanded(formula, self._values)
        except FormulaError as error:
            raise TemplateError(str(error), node.path) from None

    def _sure(self, node: Node, formula: Formula) -> Polynomial:
        """Return one of a node's own formulas, of which a negative value is an error, multiplied out."""
        if id(formula) in self._known:
            return self._known[id(formula)]
        found = self._known[id(formula)] = self._of(node, formula)
        self._terms += len(found.terms)
        if self._terms > MAX_TERMS:
            raise TemplateError(f"multiplied out, all formulas have more than {MAX_TERMS:,} terms", node.path)
        if not (found.never_negative or found.replace(_from_one).never_negative):
            self._doubts[found] = None
        return found

    def _one(self, node: Node, metric: str) -> Polynomial:
        """Return a metric of one execution of a basic kernel."""
        if metric in {"matmul_flops", "vector_flops"}:
            return self._sure(node, node.parts[0]) if METRICS[metric](node) is node.parts[0] else _NOTHING
        if metric == "bytes":
            return self._sure(node, node.parts[1]) + self._sure(node, node.parts[2])
        if metric in PARTS:
            return self._sure(node, node.parts[PARTS[metric]])
        return self._of(node, METRICS[metric](node))

    @property
    def doubts(self) -> tuple[Polynomial, ...]:
        """What must not be negative and might be, of what has been asked for so far."""
        return tuple(self._doubts)

    def metric(self, name: str) -> Polynomial:
        """Return a metric of the whole pass: one of `METRICS`, activation_bytes, parameters, weight_bytes."""
        if name == "activation_bytes":
            owned = ("weight_bytes_read", "kv_bytes_read", "kv_bytes_written")
            return self.metric("bytes") - Polynomial.sum(self.metric(one) for one in owned)
        if name == "weight_bytes":
            return self.metric("parameters") * expanded(parse("{w_bytes}"), self._values)
        if name == "parameters":
            modules = (node for node in self._tree.nodes if not node.is_basic)
            return Polynomial.sum(self._copies[node] * self._sure(node, node.own_parameters) for node in modules)
        basics = (node for node in self._tree.nodes if node.is_basic)
        return Polynomial.sum(self._times[node] * self._one(node, name) for node in basics)

    @cached_property
    def state(self) -> dict[str, Polynomial]:
        """What is kept between steps, in bytes, by name."""
        found = {}
        for name, text in self._tree.template.state.items():
            try:
                found[name] = expanded(parse(text), self._values)
            except FormulaError as error:
                raise TemplateError(str(error), f"state.{name}") from None
        return found

    @property
    def tokens(self) -> Polynomial:
        """New tokens of all sequences in this pass."""
        return expanded(parse("{batch_size} * {seq_len}"), self._values)

    @cached_property
    def memory(self) -> Expression:
        """What has to be in memory, in bytes: weights, state, and the largest activations, see `memory.Memory`."""
        kept = Polynomial.sum([self.metric("weight_bytes"), *self.state.values()])
        return Expression("sum", (kept, Expression("max", tuple(self.working_sets))))

    def time(self, rates: Rates) -> Expression:
        """Return the time of the pass, see `nbanalyzer.analysis.roofline`: a sum of the longest of each kernel's times.

        What is slower in every case, as most kernels' traffic is, needs no comparison.
        """
        decided: list[Polynomial] = []
        undecided: list[Expression] = []
        for launch in self.launches:
            times = [launch.bytes * _per(rates.bandwidth)]
            if launch.matmul_flops.terms:
                times.append(launch.matmul_flops * _per(rates.matmul(launch.sizes)))
            if launch.vector_flops.terms and rates.vector is not None:
                times.append(launch.vector_flops * _per(rates.vector))
            times = [launch.times * one for one in dict.fromkeys(times) if one.terms]
            longest = [
                one for one in times if not any((other - one).never_negative for other in times if other is not one)
            ]
            if len(longest) > 1:
                undecided.append(Expression("max", tuple(longest)))
            decided += longest if len(longest) == 1 else []
            if rates.efficiency.launch_overhead:
                decided.append(
                    launch.times * _any_work(launch) * (launch.steps * Fraction(rates.efficiency.launch_overhead))
                )
        return Expression("sum", (Polynomial.sum(decided), *undecided))

    @cached_property
    def working_sets(self) -> list[Polynomial]:
        """Bytes of activations of one run of each kernel, without those that are never the largest."""
        found: list[Polynomial] = []
        for launch in self.launches:
            one = launch.activations
            if not launch.times.is_constant:  # an encoder, for example, that this pass does not run
                one = one * Polynomial.of(Atom("!=", (launch.times, Polynomial({}))))
            if len(found) >= MOST_COMPARED:
                found.append(one)
            elif launch.times.terms and not any((other - one).never_negative for other in found):
                found = [other for other in found if not (one - other).never_negative] + [one]
        return found or [Polynomial({})]

    @cached_property
    def launches(self) -> list[Launch]:
        """The kernels that run on the device, equal ones together."""
        found: dict[tuple[object, ...], Launch] = {}
        for nodes in self._tree.launches:
            launch = self._launch(nodes)
            key = (
                launch.matmul_flops,
                launch.vector_flops,
                launch.bytes,
                launch.activations,
                launch.sizes,
                launch.steps,
            )
            if key in found:
                launch = Launch(found[key].times + launch.times, *key)
            found[key] = launch
        return list(found.values())

    def _launch(self, nodes: tuple[Node, ...]) -> Launch:
        def summed(metric: str) -> Polynomial:
            return Polynomial.sum(self._one(node, metric) for node in nodes)

        moved = summed("bytes")
        owned = (summed(name) for name in ("weight_bytes_read", "kv_bytes_read", "kv_bytes_written"))
        return Launch(
            self._times[nodes[0]],
            summed("matmul_flops"),
            summed("vector_flops"),
            moved,
            (moved - Polynomial.sum(owned)) * Fraction(1, nodes[0].steps),
            sizes_of(nodes),
            nodes[0].steps,
        )


def _any_work(launch: Launch) -> Polynomial:
    """Return 1 where a kernel has anything to do, 0 where it has not and is not started."""
    work = launch.bytes + launch.matmul_flops + launch.vector_flops
    certain = (all(atom.name in NEVER_ZERO for atom, _ in monomial) for monomial in work.terms)
    if not work.terms or (work.never_negative and any(certain)):
        return Polynomial.constant(int(bool(work.terms)))
    return Polynomial.of(Atom("!=", (work, Polynomial({}))))


def _from_one(atom: Atom) -> Polynomial:
    """Return an atom with the variables that are at least 1 counted from there."""
    if atom.operation == "variable":
        return Polynomial.of(atom) + _ONE if atom.name in FROM_ONE else Polynomial.of(atom)
    return applied(atom.operation, tuple(argument.replace(_from_one) for argument in atom.arguments))


def _per(rate: float) -> Fraction:
    return 1 / Fraction(rate)


_ONE = Polynomial.constant(1)
_NOTHING = Polynomial({})
