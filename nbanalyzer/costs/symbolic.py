"""A template's costs as polynomials in the variables that stay free, everything else substituted.

Where `Costs` holds for one set of values, this holds for all of them. Requests, `solve` and sweeps start here.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property

from nbanalyzer.errors import FormulaError, TemplateError
from nbanalyzer.formulas.formula import Formula, parse
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.formulas.polynomial import MAX_TERMS, Atom, Polynomial
from nbanalyzer.formulas.simplify import applied, expanded
from nbanalyzer.templates.template import Basic, Composite

from .launch import Launch
from .metrics import METRICS, OWNED, cache_of
from .run import NEVER_ZERO, Run
from .tree import Node, Tree, sizes_of

__all__ = ["Symbolic", "free_values", "never_negative"]

FROM_ONE = frozenset({"batch_size", "seq_len", "encoder_len"})


def free_values(run: Run, free: frozenset[str]) -> dict[str, Number | Polynomial]:
    """Return the run's values without the `free` variables; values derived from those become polynomials."""
    values: dict[str, Number | Polynomial] = {**run.values()}
    for name in free:
        values.pop(name, None)
    if "seq_len" in free and run.mtp:
        values["drafts"] = 0  # several new tokens are a prompt's
        values["num_logits"] = 1
    if "seq_len" in free and run.logits == "all":
        values["num_logits"] = expanded(parse("{seq_len}"), {})
    if run.encoder_len_follows and free & {"cache_len", "seq_len"}:
        values["encoder_len"] = expanded(parse("{cache_len} if {cache_len} else {seq_len}"), values)
    return values


class Symbolic:
    """A template's costs, multiplied out.

    Args:
        tree: the template.
        values: variable → number or polynomial; a variable without a value stays free.

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
            times, copies = (self._times[node.parent], self._copies[node.parent]) if node.parent else (_ONE, _ONE)
            if not node.is_basic:
                repeat, calls = self._checked(node, node.repeat), self._checked(node, node.calls)
                times, copies = times * repeat * calls, _NOTHING if node.is_shared else copies * repeat
            self._times[node], self._copies[node] = times, copies

    def _of(self, node: Node, formula: Formula) -> Polynomial:
        try:
            return expanded(formula, self._values)
        except FormulaError as error:
            raise TemplateError(str(error), node.path) from None

    def _checked(self, node: Node, formula: Formula) -> Polynomial:
        """Return one of a node's own formulas multiplied out; if it might be negative, it is added to `doubts`."""
        if id(formula) in self._known:
            return self._known[id(formula)]
        polynomial = self._known[id(formula)] = self._of(node, formula)
        self._terms += len(polynomial.terms)
        if self._terms > MAX_TERMS:
            raise TemplateError(f"multiplied out, all formulas have more than {MAX_TERMS:,} terms", node.path)
        if not never_negative(polynomial):
            self._doubts[polynomial] = None
        return polynomial

    def _one(self, node: Node, metric: str) -> Polynomial:
        """Return a metric of one execution of a basic kernel."""
        if metric == "bytes":
            return self._checked(node, node.parts[1]) + self._checked(node, node.parts[2])
        of_kernel = METRICS[metric].of_kernel
        assert of_kernel is not None
        formula = of_kernel(node)
        is_own = any(formula is part for part in node.parts)
        return self._checked(node, formula) if is_own else self._of(node, formula)

    @property
    def doubts(self) -> tuple[Polynomial, ...]:
        """The formulas computed so far that must not be negative and are not provably so."""
        return tuple(self._doubts)

    def metric(self, name: str) -> Polynomial:
        """Return a metric of the whole pass: one of `KERNEL_METRICS`, or what is kept or is no sum over kernels.

        Those are activation_bytes, parameters, weight_bytes and kv_cache_bytes.
        """
        if name == "kv_cache_bytes":
            return Polynomial.sum(self.state[part] for part in cache_of(self._tree.template.state))
        if name == "activation_bytes":
            return self.metric("bytes") - Polynomial.sum(map(self.metric, OWNED))
        if name == "weight_bytes" and self._tree.stored:
            modules = (node for node in self._tree.nodes if not node.is_basic)
            return Polynomial.sum(self._copies[node] * self._checked(node, node.own_weight_bytes) for node in modules)
        if name == "weight_bytes":
            return self.metric("parameters") * expanded(parse("{w_bytes}"), self._values)
        if name == "parameters":
            modules = (node for node in self._tree.nodes if not node.is_basic)
            return Polynomial.sum(self._copies[node] * self._checked(node, node.own_parameters) for node in modules)
        basics = (node for node in self._tree.nodes if node.is_basic)
        return Polynomial.sum(self._times[node] * self._one(node, name) for node in basics)

    def value_of(self, formula: Formula) -> Polynomial:
        """Return a formula of global variables, multiplied out."""
        return expanded(formula, self._values)

    @cached_property
    def state(self) -> dict[str, Polynomial]:
        """Name → bytes of what is kept between passes."""
        state = {}
        for name, text in self._tree.template.state.items():
            try:
                state[name] = expanded(parse(text), self._values)
            except FormulaError as error:
                raise TemplateError(str(error), f"state.{name}") from None
        return state

    @property
    def tokens(self) -> Polynomial:
        """New tokens of all sequences in this pass."""
        return expanded(parse("{batch_size} * {seq_len}"), self._values)

    @cached_property
    def launches(self) -> list[Launch[Polynomial]]:
        """The launches, equal ones merged."""
        launches: dict[tuple[object, ...], Launch[Polynomial]] = {}
        for kind, nodes in self._tree.launches:
            launch = self._launch(kind, nodes)
            amounts = (launch.matmul_flops, launch.vector_flops, launch.bytes, launch.weights, launch.cache)
            key = (kind, *amounts, launch.payload, launch.sizes, launch.steps, *_told_apart(launch))
            if key in launches:
                launch = launches[key]._replace(times=launches[key].times + launch.times)
            launches[key] = launch
        return list(launches.values())

    def _launch(self, kind: str, nodes: tuple[Node, ...]) -> Launch[Polynomial]:
        def summed(metric: str) -> Polynomial:
            return Polynomial.sum(self._one(node, metric) for node in nodes)

        steps, moved = nodes[0].steps, summed("bytes")
        matmul, vector = summed("matmul_flops"), summed("vector_flops")
        weights = summed("weight_bytes_read")
        cache = summed("kv_bytes_read") + summed("kv_bytes_written")
        activations = (moved - weights - cache) * Fraction(1, steps)
        payload = summed("payload_bytes") if kind == "link" else _NOTHING
        amounts = (self._times[nodes[0]], matmul, vector, moved, weights, cache, activations, payload)
        return Launch(kind, nodes, *amounts, sizes_of(nodes), steps, _any(moved + matmul + vector + payload))


def never_negative(polynomial: Polynomial) -> bool:
    """Return whether a polynomial is provably at least 0 for every pass: sizes that are at least 1 are taken so."""
    return polynomial.never_negative or polynomial.replace(_from_one).never_negative


def _told_apart(launch: Launch[Polynomial]) -> tuple[object, ...]:
    """Return what the time of a launch depends on beside its amounts: products of 8 x 2 and 2 x 8 have the same."""
    kernel, parent = launch.nodes[0].kernel, launch.nodes[0].parent
    if isinstance(kernel, Basic) and kernel.unit == "link":
        return kernel.collective, kernel.group
    if launch.kind != "linear" or parent is None or not isinstance(parent.kernel, Composite):
        return ()
    return (parent.kernel.bindings.get("num_tokens"), parent.kernel.bindings.get("input_size"), parent.block is None)


def _any(work: Polynomial) -> Polynomial:
    """Return 1 where the work is not 0, else 0."""
    certain = (all(atom.name in NEVER_ZERO for atom, _ in monomial) for monomial in work.terms)
    if not work or (work.never_negative and any(certain)):
        return Polynomial.constant(int(bool(work)))
    return Polynomial.of(Atom("!=", (work, _NOTHING)))


def _from_one(atom: Atom) -> Polynomial:
    """Return an atom with x + 1 for each variable x that is at least 1."""
    if atom.operation == "variable":
        return Polynomial.of(atom) + _ONE if atom.name in FROM_ONE else Polynomial.of(atom)
    return applied(atom.operation, tuple(argument.replace(_from_one) for argument in atom.arguments))


_ONE = Polynomial.constant(1)
_NOTHING = Polynomial({})
