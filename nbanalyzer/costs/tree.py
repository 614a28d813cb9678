"""From a kernel tree and values to numbers: what every kernel costs, and the formulas behind them.

A `Tree` is a model template made ready once: its formulas compiled, its kernels in a list in reading
order. `Tree.costs` then evaluates it for one set of values. Work grows with the kernels in the
template, not with the layers of the model: a repeated block is evaluated once and multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property

from nbanalyzer.errors import FormulaError, TemplateError, quote
from nbanalyzer.formulas.evaluation import Compiled, compiled, is_bounded, run
from nbanalyzer.formulas.formula import Formula, build, constant, parse
from nbanalyzer.formulas.grammar import MAX_BITS, Number, normalize
from nbanalyzer.templates.template import Basic, Kernel, ModelTemplate

__all__ = ["Cost", "Node", "Tree", "sizes_of"]


LARGEST = 10**60  # of a cost or a count; a product of two is still a float
SMALLEST = Fraction(1, LARGEST)  # but 0


@dataclass(slots=True)
class Cost:
    """What a kernel costs in the whole pass, all its repeats included.

    FLOPs are floating-point operations, 2 per multiply-add. Bytes are the traffic of each executed
    operation, unfused: what is read of weights, of the cache, and everything that is read and written.
    """

    count: Number = 0  # how often it runs
    copies: Number = 0  # how often it is there, with parameters of its own
    parameters: Number = 0
    matmul_flops: Number = 0
    vector_flops: Number = 0
    read_bytes: Number = 0
    write_bytes: Number = 0
    weight_bytes_read: Number = 0
    kv_bytes_read: Number = 0
    kv_bytes_written: Number = 0

    @property
    def flops(self) -> Number:
        """All floating-point operations."""
        return self.matmul_flops + self.vector_flops

    @property
    def bytes(self) -> Number:
        """All traffic, read and written."""
        return normalize(self.read_bytes + self.write_bytes)

    @property
    def is_empty(self) -> bool:
        """Whether it costs nothing at all."""
        return not (self.parameters or self.flops or self.bytes)

    @property
    def activation_bytes(self) -> Number:
        """All traffic that is neither weights nor cache."""
        return normalize(self.bytes - self.weight_bytes_read - self.kv_bytes_read - self.kv_bytes_written)

    @property
    def arithmetic_intensity(self) -> float:
        """FLOPs per byte of traffic; 0 where nothing moves."""
        return float(self.flops / self.bytes) if self.bytes else 0.0

    def include(self, other: Cost) -> None:
        """Add what `other` costs; the count stays.

        Raises:
            TemplateError: fractions that have a sum of more bits than any number may have.

        """
        for name in SUMS:
            if more := getattr(other, name):
                total = getattr(self, name) + more
                if type(total) is not int and not is_bounded(total):
                    raise TemplateError(f"the kernels' {name} add up to a number of more than {MAX_BITS:,} bits")
                setattr(self, name, normalize(total))


SUMS = tuple(field.name for field in fields(Cost) if field.name not in {"count", "copies"})


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
        """Whether it carries formulas itself."""
        return isinstance(self.kernel, Basic)

    @cached_property
    def is_last(self) -> bool:
        """Whether nothing but basic kernels stands below: a module without modules."""
        return all(child.is_basic for child in self.children)

    @cached_property
    def is_part(self) -> bool:
        """Whether it is a basic kernel of a module without modules."""
        return self.is_basic and self.parent is not None and self.parent.is_last

    def __repr__(self) -> str:
        return f"Node({self.path!r})"

    @property
    def steps(self) -> int:
        """How many operations, one after the other, a basic kernel stands for."""
        return self.kernel.steps if isinstance(self.kernel, Basic) else 1

    @cached_property
    def repeat(self) -> Formula:
        """How often it runs where its parent runs once."""
        return constant(1) if isinstance(self.kernel, Basic) else self.formula_of(self.kernel.repeat, "repeat")

    @cached_property
    def calls(self) -> Formula:
        """How often each copy runs where its parent runs once."""
        return constant(1) if isinstance(self.kernel, Basic) else self.formula_of(self.kernel.calls, "calls")

    @cached_property
    def copies(self) -> Formula:
        """How many copies there are in the whole model."""
        return build("*", self.parent.copies, self.repeat) if self.parent else self.repeat

    @cached_property
    def times(self) -> Formula:
        """How often it runs in the whole pass."""
        own = build("*", self.repeat, self.calls)
        return build("*", self.parent.times, own) if self.parent else own

    @cached_property
    def own_parameters(self) -> Formula:
        """Parameters of one copy, without its children's."""
        text = "" if isinstance(self.kernel, Basic) else self.kernel.parameters
        return self.formula_of(text, "parameters") if text else constant(0)

    @cached_property
    def parts(self) -> tuple[Formula, Formula, Formula]:
        """FLOPs, bytes read and bytes written of one execution of a basic kernel."""
        assert isinstance(self.kernel, Basic)
        access = self.kernel.memory_access
        return (
            self.formula_of(self.kernel.flops, "flops"),
            self.formula_of(access.read, "memory_access.read"),
            self.formula_of(access.write, "memory_access.write"),
        )

    @cached_property
    def uses(self) -> tuple[frozenset[str], ...]:
        """The variables of each of `parts`."""
        return tuple(frozenset(formula.variables) for formula in self.parts)

    @cached_property
    def formulas(self) -> tuple[Formula, ...]:
        """All its formulas: `parts`, or `repeat`, `calls` and `own_parameters`."""
        return self.parts if self.is_basic else (self.repeat, self.calls, self.own_parameters)

    @cached_property
    def programs(self) -> tuple[Compiled, ...]:
        """The compiled `formulas`."""
        return tuple(compiled(formula) for formula in self.formulas)

    def formula_of(self, text: str, field: str) -> Formula:
        """Return the parsed text; an error names this kernel and the field."""
        try:
            return parse(text)
        except FormulaError as error:
            raise TemplateError(str(error), f"{self.path}, {field}") from None

    def values(self, values: Mapping[str, Number], *fields: str) -> list[Number]:
        """Return the exact values of `formulas`, none negative; errors name this kernel and the field."""
        found = []
        for program, formula, field in zip(self.programs, self.formulas, fields, strict=True):
            try:
                value = run(program, formula, values)
            except FormulaError as error:
                raise TemplateError(str(error), f"{self.path}, {field}") from None
            if not (0 <= value < LARGEST and (type(value) is int or value > SMALLEST)):
                problem = "negative" if value < 0 else f"{'smaller' if value < 1 else 'larger'} than anything that is"
                raise TemplateError(f"{problem}: '{formula}' is {quote(value)}", f"{self.path}, {field}")
            found.append(value)
        return found


class Tree:
    """A model template ready to be evaluated: `nodes` lists its kernels in reading order."""

    def __init__(self, template: ModelTemplate) -> None:
        self.template = template
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

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """The variables that its costs and its state depend on, in the order met."""
        formulas = [parse(text) for text in self.template.state.values()]
        for node in self.nodes:
            formulas += node.formulas
        return tuple(dict.fromkeys(name for formula in formulas for name in formula.variables))

    @cached_property
    def launches(self) -> list[tuple[Node, ...]]:
        """The basic kernels, those together that run as one: what is fused runs with what stands before it."""
        found: list[tuple[Node, ...]] = []
        for node in self.nodes:
            if not isinstance(node.kernel, Basic):
                continue
            before = found[-1][-1] if found else None
            if before and node.kernel.fused and before.parent is node.parent:
                found[-1] += (node,)
            else:
                found.append((node,))
        return found

    def costs(self, values: Mapping[str, Number]) -> dict[Node, Cost]:
        """Return what every kernel costs with these values; a composite kernel is the sum of its parts.

        Raises:
            TemplateError: a formula that has no value, or a negative one, with the kernel's path.

        """
        # What a byte count owes to the weights is what it gains when they take twice as many bytes.
        doubled = [{**values, name: 2 * values[name]} for name in ("w_bytes", "kv_bytes")]
        costs: dict[Node, Cost] = {}
        for node in self.nodes:
            parent = costs[node.parent] if node.parent else Cost(count=1, copies=1)
            costs[node] = _basic(node, parent, values, *doubled) if node.is_basic else _composite(node, parent, values)
        for node in reversed(self.nodes):
            if node.parent:
                try:
                    costs[node.parent].include(costs[node])
                except TemplateError as error:
                    raise TemplateError(error.problem, node.parent.path) from None
        return costs

    def state(self, values: Mapping[str, Number]) -> dict[str, Number]:
        """Return what is kept between steps, in bytes, by name."""
        found = {}
        for name, text in self.template.state.items():
            try:
                found[name] = parse(text).evaluate(values)
            except FormulaError as error:
                raise TemplateError(str(error), f"state.{name}") from None
            if not (found[name] == 0 or SMALLEST < found[name] < LARGEST):
                raise TemplateError(f"no number of bytes: '{text}' is {quote(found[name])}", f"state.{name}")
        return found


def sizes_of(nodes: tuple[Node, ...]) -> frozenset[str]:
    """Return those of ``"w_bytes"``, ``"a_bytes"`` and ``"kv_bytes"`` that the kernels' traffic depends on."""
    used = frozenset().union(*(names for node in nodes for names in node.uses[1:]))
    return used & {"w_bytes", "a_bytes", "kv_bytes"}


def _composite(node: Node, parent: Cost, values: Mapping[str, Number]) -> Cost:
    repeat, calls, parameters = node.values(values, "repeat", "calls", "parameters")
    for number, field in ((repeat, "repeat"), (calls, "calls")):
        if not isinstance(number, int):
            problem = f"a kernel repeats a whole number of times, not {quote(number)}"
            raise TemplateError(problem, f"{node.path}, {field}")
    count, copies = parent.count * repeat * calls, parent.copies * repeat
    if max(count, copies) >= LARGEST:
        raise TemplateError("runs more often than anything does", f"{node.path}, repeat")
    return Cost(count=count, copies=copies, parameters=normalize(copies * parameters))


def _basic(
    node: Node,
    parent: Cost,
    values: Mapping[str, Number],
    weights_doubled: Mapping[str, Number],
    cache_doubled: Mapping[str, Number],
) -> Cost:
    flops, read, write = node.values(values, "flops", "memory_access.read", "memory_access.write")
    _, read_program, write_program = node.programs
    _, read_formula, write_formula = node.parts
    _, reads, writes = node.uses
    times = parent.count
    cost = Cost(
        count=times, copies=parent.copies, read_bytes=normalize(times * read), write_bytes=normalize(times * write)
    )
    assert isinstance(node.kernel, Basic)
    setattr(cost, f"{node.kernel.unit}_flops", normalize(times * flops))
    for name, variable_name, used, once, program, formula, doubled in (
        ("weight_bytes_read", "w_bytes", reads, read, read_program, read_formula, weights_doubled),
        ("kv_bytes_read", "kv_bytes", reads, read, read_program, read_formula, cache_doubled),
        ("kv_bytes_written", "kv_bytes", writes, write, write_program, write_formula, cache_doubled),
    ):
        if variable_name in used:
            share = run(program, formula, doubled) - once
            if not 0 <= share <= once:
                raise TemplateError(
                    f"'{formula}' is not proportional to {{{variable_name}}}", f"{node.path}, memory_access"
                )
            setattr(cost, name, normalize(times * share))
    return cost
