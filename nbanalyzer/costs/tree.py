"""A kernel tree with values: the cost of every kernel, exactly, and the formulas behind it.

A `Tree` is a model template with compiled formulas and its kernels listed in reading order; `Tree.costs` evaluates
it for one set of values. Work grows with the kernels in the template, not with the layers of the model: a repeated
block is evaluated once and multiplied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from nbanalyzer.errors import FormulaError, TemplateError, near, quote
from nbanalyzer.formulas.evaluation import Compiled, compiled, run
from nbanalyzer.formulas.formula import Formula, build, constant, parse, variable
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.templates.schemes import DTYPES
from nbanalyzer.templates.template import Basic, Composite, Kernel, ModelTemplate, Tensor

from .cost import Cost
from .division import Division, Stored

__all__ = ["Cost", "Node", "Tree", "bytes_of", "sizes_of"]


LARGEST = 10**60  # of a cost or a count; a product of two is still a float
SMALLEST = Fraction(1, LARGEST)  # but 0

BASIC_FIELDS = ("flops", "memory_access.read", "memory_access.write", "payload")
COMPOSITE_FIELDS = ("repeat", "calls", "parameters")
"""The names of `Node.formulas` in the template."""

OWNED_TRAFFIC = {
    "weight_bytes_read": ("w_bytes", 1), "kv_bytes_read": ("kv_bytes", 1), "kv_bytes_written": ("kv_bytes", 2),
}  # fmt: skip
"""The traffic of weights and cache: metric → its bytes per element, and the index of its formula in `Node.parts`."""


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """A kernel with its place in the tree and its compiled formulas."""

    kernel: Kernel
    path: str
    depth: int
    parent: Node | None
    children: list[Node]

    @cached_property
    def is_basic(self) -> bool:
        """Whether its kernel is basic: has formulas of its own."""
        return isinstance(self.kernel, Basic)

    @cached_property
    def is_block(self) -> bool:
        """Whether it repeats, or some passes skip it."""
        return self.repeat != constant(1) or self.calls != constant(1)

    @cached_property
    def block(self) -> Node | None:
        """The innermost module around it that repeats, or that some passes skip."""
        parent = self.parent
        return parent if parent is None or parent.is_block else parent.block

    @property
    def around(self) -> Iterator[Node]:
        """The modules around it, the innermost first."""
        if self.parent:
            yield self.parent
            yield from self.parent.around

    @property
    def module_around(self) -> Node | None:
        """What the module of a basic kernel is a part of."""
        return self.parent.parent if self.parent else None

    @cached_property
    def is_last(self) -> bool:
        """Whether it has only basic kernels below: a leaf module."""
        return all(child.is_basic for child in self.children)

    @cached_property
    def is_part(self) -> bool:
        """Whether it is a basic kernel of a leaf module."""
        return self.is_basic and self.parent is not None and self.parent.is_last

    def __repr__(self) -> str:
        return f"Node({self.path!r})"

    @property
    def steps(self) -> int:
        """The operations, one after the other, that a basic kernel stands for."""
        return self.kernel.steps if isinstance(self.kernel, Basic) else 1

    @cached_property
    def repeat(self) -> Formula:
        """Its copies for each copy of its parent."""
        return constant(1) if isinstance(self.kernel, Basic) else self.formula_of(self.kernel.repeat, "repeat")

    @cached_property
    def calls(self) -> Formula:
        """How often each copy runs when its parent runs once."""
        return constant(1) if isinstance(self.kernel, Basic) else self.formula_of(self.kernel.calls, "calls")

    @cached_property
    def copies(self) -> Formula:
        """Its copies in the whole model; none of what is shared."""
        if self.is_shared:
            return constant(0)
        return build("*", self.parent.copies, self.repeat) if self.parent else self.repeat

    @cached_property
    def times(self) -> Formula:
        """Its runs in the whole pass."""
        own = build("*", self.repeat, self.calls)
        return build("*", self.parent.times, own) if self.parent else own

    @cached_property
    def own_parameters(self) -> Formula:
        """Parameters of one copy, without its children's."""
        text = "" if isinstance(self.kernel, Basic) else self.kernel.parameters
        return self.formula_of(text, "parameters") if text else constant(0)

    @cached_property
    def own_weight_bytes(self) -> Formula:
        """Bytes of one copy's own parameters, as they are stored."""
        if self.is_stored:
            assert isinstance(self.kernel, Composite)
            return build("+", *map(bytes_of, self.kernel.weights))
        return build("*", self.own_parameters, variable("w_bytes"))

    @property
    def is_shared(self) -> bool:
        """Whether its own parameters are another kernel's."""
        return isinstance(self.kernel, Composite) and self.kernel.shared

    @property
    def is_stored(self) -> bool:
        """Whether its own parameters are in a scheme, or beside such ones."""
        return isinstance(self.kernel, Composite) and bool(self.kernel.weights)

    @cached_property
    def stored(self) -> Formula | None:
        """Bytes of weights in a scheme that a basic kernel reads, but those by ``{w_bytes}``; None if it reads none."""
        text = self.kernel.weights if isinstance(self.kernel, Basic) else ""
        return self.formula_of(text, "weights") if text else None

    @cached_property
    def parts(self) -> tuple[Formula, Formula, Formula]:
        """FLOPs, bytes read and bytes written of one execution of a basic kernel."""
        assert isinstance(self.kernel, Basic)
        access = self.kernel.memory_access
        texts = (self.kernel.flops, access.read, access.write)
        flops, read, write = (self.formula_of(text, field) for text, field in zip(texts, BASIC_FIELDS, strict=False))
        return flops, read, write

    @cached_property
    def payload(self) -> Formula:
        """Bytes of what one execution of a basic kernel communicates."""
        return self.formula_of(self.kernel.payload, "payload") if isinstance(self.kernel, Basic) else constant(0)

    @cached_property
    def is_link(self) -> bool:
        """Whether it communicates."""
        return isinstance(self.kernel, Basic) and self.kernel.unit == "link"

    @cached_property
    def uses(self) -> tuple[frozenset[str], ...]:
        """The variables of each of `parts`."""
        return tuple(frozenset(formula.variables) for formula in self.parts)

    @cached_property
    def sizes(self) -> frozenset[str]:
        """Those of ``"w_bytes"``, ``"a_bytes"`` and ``"kv_bytes"`` that the traffic of a basic kernel depends on."""
        used = frozenset().union(*self.uses[1:]) & {"w_bytes", "a_bytes", "kv_bytes"}
        return used | {"w_bytes"} if self.stored else used

    @cached_property
    def formulas(self) -> tuple[Formula, ...]:
        """All its formulas: `parts`, of a link its `payload`; or `repeat`, `calls` and `own_parameters`."""
        if not self.is_basic:
            return self.repeat, self.calls, self.own_parameters
        return (*self.parts, self.payload) if self.is_link else self.parts

    @cached_property
    def functions(self) -> tuple[Compiled, ...]:
        """The compiled `formulas`."""
        return tuple(compiled(formula) for formula in self.formulas)

    def formula_of(self, text: str, field: str) -> Formula:
        """Return the parsed text; an error names this kernel and the field."""
        try:
            return parse(text)
        except FormulaError as error:
            raise TemplateError(str(error), f"{self.path}, {field}") from None

    def values(self, values: Mapping[str, Number]) -> list[Number]:
        """Return the exact values of `formulas`, none negative; errors name this kernel and the field."""
        results = []
        names = BASIC_FIELDS if self.is_basic else COMPOSITE_FIELDS
        for function, formula, field in zip(self.functions, self.formulas, names, strict=False):
            try:
                value = run(function, formula, values)
            except FormulaError as error:
                raise TemplateError(str(error), f"{self.path}, {field}") from None
            if not (0 <= value < LARGEST and (type(value) is int or value > SMALLEST)):
                problem = "negative" if value < 0 else f"{'smaller' if value < 1 else 'larger'} than anything that is"
                raise TemplateError(f"{problem}: '{formula}' is {quote(value)}", f"{self.path}, {field}")
            results.append(value)
        return results


class Tree:
    """A model template with compiled formulas; `nodes` lists its kernels in reading order.

    Args:
        template: the model template, in the variants that were chosen.
        source: the same with all its variants, for other choices; `template` if None.
        launches: the kind of every launch, and the places in `nodes` of its basic kernels; None if every kernel runs,
            with those before it that it is fused with.
        division: how the model is divided over devices; None if it is not.
        rules: the place of every basic kernel that was a launch of its own before kernels were fused → the rule that
            took it away, see `nbanalyzer.costs.fusion`.
        stored: how its weights are stored; None if the run's bits say it.

    """

    def __init__(
        self,
        template: ModelTemplate,
        source: ModelTemplate | None = None,
        launches: Sequence[tuple[str, tuple[int, ...]]] | None = None,
        division: Division | None = None,
        rules: Mapping[int, str] | None = None,
        stored: Stored | None = None,
    ) -> None:
        self.template = template
        self.source = source or template
        self.division = division or Division()
        self.stored = stored
        self._launches = launches
        self._rules = rules or {}
        self.nodes: list[Node] = []
        self.roots = self._add(template.kernels, None)

    def _add(self, kernels: tuple[Kernel, ...], parent: Node | None) -> list[Node]:
        added = []
        for kernel in kernels:
            path = f"{parent.path}.{kernel.name}" if parent else kernel.name
            node = Node(kernel, path, parent.depth + 1 if parent else 0, parent, [])
            self.nodes.append(node)
            added.append(node)
            if not isinstance(kernel, Basic):
                node.children.extend(self._add(kernel.sub_kernels, node))
        return added

    def with_kernels(self, template: ModelTemplate, stored: Stored) -> Tree:
        """Return the tree of the same kernels at the same places, with other formulas and weights that are stored."""
        return Tree(template, self.source, self._launches, self.division, self._rules, stored)

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """The variables of its costs and its state, in the order of the formulas."""
        formulas = [parse(text) for text in self.template.state.values()]
        for node in self.nodes:
            formulas += node.formulas
            if self.stored:
                formulas += [node.stored] if node.stored else []
                formulas += [] if node.is_basic else [node.own_weight_bytes]
        return tuple(dict.fromkeys(name for formula in formulas for name in formula.variables))

    @cached_property
    def is_latent(self) -> bool:
        """Whether attention works on a latent that it can also expand: see ``mla`` in `nbanalyzer.costs.run.Run`."""
        return any("absorbed" in node.kernel.variants for node in self.nodes if isinstance(node.kernel, Composite))

    @cached_property
    def launches(self) -> list[tuple[str, tuple[Node, ...]]]:
        """The basic kernels, grouped by launch, with its kind; without fusion only what shares a kernel is grouped."""
        if self._launches is not None:
            return [(kind, tuple(self.nodes[place] for place in places)) for kind, places in self._launches]
        launches: list[tuple[str, tuple[Node, ...]]] = []
        for node in self.nodes:
            if not isinstance(node.kernel, Basic):
                continue
            if launches and node.kernel.fused and launches[-1][1][-1].parent is node.parent:
                launches[-1] = ("", (*launches[-1][1], node))
            else:
                launches.append(("link" if node.is_link else "", (node,)))
        return launches

    @cached_property
    def rules(self) -> dict[Node, str]:
        """The basic kernels that an engine launches with others, or not at all → by which rule; none without fusion."""
        return {self.nodes[place]: rule for place, rule in self._rules.items()}

    def costs(self, values: Mapping[str, Number]) -> dict[Node, Cost]:
        """Return the cost of every kernel; a composite kernel's is the sum of its parts'.

        Raises:
            TemplateError: a formula without a value, or with a negative one; with the kernel's path.

        """
        # A byte count's share of weights is its increase when a weight takes twice the bytes.
        doubled = {name: {**values, name: 2 * values[name]} for name in ("w_bytes", "kv_bytes")}
        costs: dict[Node, Cost] = {}
        for node in self.nodes:
            parent = costs[node.parent] if node.parent else Cost(count=1, copies=1)
            costs[node] = _basic(node, parent, values, doubled) if node.is_basic else _composite(node, parent, values)
        for node in reversed(self.nodes):
            if node.parent:
                try:
                    costs[node.parent].include(costs[node])
                except TemplateError as error:
                    raise TemplateError(error.problem, node.parent.path) from None
        return costs

    def resembling(self, wanted: str) -> list[str]:
        """Return a few paths with the last name of `wanted`, or a near one."""
        last = wanted.rpartition(".")[2]
        same = [node.path for node in self.nodes if node.kernel.name == last]
        names = near(last, {node.kernel.name for node in self.nodes}, 1)
        return (same or [node.path for node in self.nodes if node.kernel.name in names])[:3]

    def state(self, values: Mapping[str, Number]) -> dict[str, Number]:
        """Return name → bytes of what is kept between passes."""
        state = {}
        for name, text in self.template.state.items():
            try:
                size = state[name] = parse(text).evaluate(values)
            except FormulaError as error:
                raise TemplateError(str(error), f"state.{name}") from None
            if not (size == 0 or SMALLEST < size < LARGEST):
                raise TemplateError(f"no number of bytes: '{text}' is {quote(size)}", f"state.{name}")
        return state


def sizes_of(nodes: tuple[Node, ...]) -> frozenset[str]:
    """Return which of ``"w_bytes"``, ``"a_bytes"`` and ``"kv_bytes"`` the kernels' traffic depends on."""
    return nodes[0].sizes if len(nodes) == 1 else frozenset().union(*(node.sizes for node in nodes))


def _composite(node: Node, parent: Cost, values: Mapping[str, Number]) -> Cost:
    repeat, calls, parameters = node.values(values)
    for number, field in ((repeat, "repeat"), (calls, "calls")):
        if not isinstance(number, int):
            problem = f"a kernel repeats a whole number of times, not {quote(number)}"
            raise TemplateError(problem, f"{node.path}, {field}")
    count, copies = parent.count * repeat * calls, 0 if node.is_shared else parent.copies * repeat
    if max(count, copies) >= LARGEST:
        raise TemplateError("runs more often than anything does", f"{node.path}, repeat")
    return Cost(count=count, copies=copies, parameters=normalize(copies * parameters))


def _basic(node: Node, parent: Cost, values: Mapping[str, Number], doubled: Mapping[str, Mapping[str, Number]]) -> Cost:
    """Return a basic kernel's cost; `doubled` are the values with twice the bytes per element, by its name."""
    assert isinstance(node.kernel, Basic)
    amounts = node.values(values)
    times, (flops, read, write) = parent.count, amounts[:3]
    cost = Cost(times, parent.copies, read_bytes=normalize(times * read), write_bytes=normalize(times * write))
    if node.is_link:
        cost.payload_bytes = normalize(times * amounts[3])
    else:
        setattr(cost, f"{node.kernel.unit}_flops", normalize(times * flops))
    for metric, (size, part) in OWNED_TRAFFIC.items():
        if size in node.uses[part]:
            formula = node.parts[part]
            share = run(node.functions[part], formula, doubled[size]) - amounts[part]
            if not 0 <= share <= amounts[part]:
                raise TemplateError(f"'{formula}' is not proportional to {{{size}}}", f"{node.path}, memory_access")
            setattr(cost, metric, normalize(times * share))
    if node.stored:
        cost.weight_bytes_read = normalize(cost.weight_bytes_read + times * _stored(node, values))
    return cost


def _stored(node: Node, values: Mapping[str, Number]) -> Number:
    assert node.stored is not None
    try:
        return node.stored.evaluate(values)
    except FormulaError as error:
        raise TemplateError(str(error), f"{node.path}, weights") from None


def bytes_of(tensor: Tensor) -> Formula:
    """Return the bytes of a stored tensor."""
    width = constant(DTYPES[tensor.dtype]) if tensor.dtype in DTYPES else variable("w_bytes")
    return build("*", parse(tensor.elements), width)
