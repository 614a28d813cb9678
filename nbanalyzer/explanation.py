"""How a number came about: number ← values put in ← formula ← module template and bindings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from .cost import Cost, Node
from .formula import Formula, Number, constant, normalize, parse
from .shipped import MODULES
from .templates import Basic, ModuleTemplate

__all__ = ["Derivation", "Explanation", "explain_metric", "explain_node"]


@dataclass(frozen=True)
class Derivation:
    """One number, step by step; each step is text, outermost last.

    Attributes:
        what: e.g. ``"matmul, flops"``.
        in_module: the formula in the module template, in context variables; empty if it comes from none.
        in_model: the same in global variables.
        with_values: the same with the values put in.
        number: the result for one execution.
        count: how often it runs.

    """

    what: str
    in_module: str
    in_model: str
    with_values: str
    number: Number
    count: Number

    def steps(self) -> list[str]:
        """Return the lines from the formula to the number."""
        lines = [f"{self.in_module}   (module template)"] if self.in_module and self.in_module != self.in_model else []
        if self.in_model not in {self.with_values, show(self.number)}:
            lines.append(self.in_model)
        if self.with_values != show(self.number).replace(",", ""):
            lines.append(self.with_values)
        total = f"  × {show(self.count)} = {show(normalize(self.number * self.count))}" if self.count != 1 else ""
        return [*lines, f"{show(self.number)}{total}"]


@dataclass(frozen=True)
class Explanation:
    """The derivations of one kernel, or of one total."""

    title: str
    bindings: tuple[str, ...]
    derivations: tuple[Derivation, ...]

    def __repr__(self) -> str:
        lines = [self.title]
        lines += [f"  {line}" for line in self.bindings]
        for derivation in self.derivations:
            lines.append(f"{derivation.what}")
            lines += [f"  {'= ' if index else '  '}{step}" for index, step in enumerate(derivation.steps())]
        return "\n".join(lines)

    def as_html(self) -> str:
        """Return the explanation as HTML with inline styles, everything escaped."""
        code = "font-family:monospace;white-space:pre-wrap;margin:0 0 0 1.2em"
        parts = [f'<div style="{code}">{escape(line)}</div>' for line in self.bindings]
        for derivation in self.derivations:
            steps = "\n".join(("= " if index else "  ") + step for index, step in enumerate(derivation.steps()))
            parts.append(f'<div>{escape(derivation.what)}</div><div style="{code}">{escape(steps)}</div>')
        return "".join(parts)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        html = f'<div style="font-size:0.9em"><div><b>{escape(self.title)}</b></div>{self.as_html()}</div>'
        return {"text/plain": repr(self), "text/html": html}


def explain_metric(
    metric: str, unit: str, formula: Formula, values: Mapping[str, Number], number: Number | float
) -> Explanation:
    """Return how a total came about, from the formula of the whole pass."""
    exact = number if isinstance(number, int) else formula.evaluate(values)
    derivation = Derivation(f"{metric} [{unit}]", "", str(formula), with_values(formula, values), exact, 1)
    return Explanation(f"{metric} of the whole pass", (), (derivation,))


def explain_node(node: Node, cost: Cost, values: Mapping[str, Number]) -> Explanation:
    """Return how the numbers of a kernel came about: its own parameters, and its basic kernels' costs."""
    kernel = node.kernel
    owner = node.parent if isinstance(kernel, Basic) else node
    module_name = "" if owner is None or isinstance(owner.kernel, Basic) else owner.kernel.module
    title = (
        node.path
        + (f"  × {show(cost.count)}" if cost.count != 1 else "")
        + (f"  ({module_name})" if module_name else "")
    )
    bindings: tuple[str, ...] = ()
    if owner is not None and not isinstance(owner.kernel, Basic):
        bindings = tuple(_binding(name, parse(text), values) for name, text in owner.kernel.bindings.items())
    module = MODULES.get(module_name)

    derivations = []
    if not isinstance(kernel, Basic) and kernel.parameters:
        own = module.parameters if module else ""
        derivations.append(_derive("parameters", own, node.own_parameters, values, cost.count))
    basics = [node] if node.is_basic else [child for child in node.children if child.is_basic]
    for basic in basics:
        derivations += _basic_derivations(basic, module, values, cost.count)
    if not derivations or len(basics) < len(node.children):
        derivations += _sums(node, cost)
    return Explanation(title, bindings, tuple(derivations))


def _basic_derivations(
    node: Node, module: ModuleTemplate | None, values: Mapping[str, Number], count: Number
) -> list[Derivation]:
    assert isinstance(node.kernel, Basic)
    operation = node.kernel.operation
    originals = [kernel for kernel in module.kernels if kernel.name == operation] if module else []
    original = originals[0] if len(originals) == 1 and isinstance(originals[0], Basic) else None
    texts = (original.flops, original.memory_access.read, original.memory_access.write) if original else ("", "", "")
    names = (f"{operation}, flops ({node.kernel.unit})", f"{operation}, bytes read", f"{operation}, bytes written")
    steps = zip(names, texts, node.parts, strict=True)
    return [_derive(*step, values, count) for step in steps if step[2] != constant(0)]


def _derive(what: str, in_module: str, formula: Formula, values: Mapping[str, Number], count: Number) -> Derivation:
    number = formula.evaluate(values)
    return Derivation(what, in_module, str(formula), with_values(formula, values), number, count)


def _sums(node: Node, cost: Cost) -> list[Derivation]:
    """Return the totals of a kernel that is made of others, as sums over its children."""
    names = " + ".join(child.kernel.name for child in node.children)
    return [
        Derivation(f"{what}, all repeats", "", names, names, getattr(cost, metric), 1)
        for what, metric in (("flops", "flops"), ("bytes", "bytes"), ("parameters", "parameters"))
    ]


def _binding(name: str, formula: Formula, values: Mapping[str, Number]) -> str:
    number = show(formula.evaluate(values))
    return f"{{{name}}} = {formula}" + ("" if str(formula) == number else f" = {number}")


def with_values(formula: Formula, values: Mapping[str, Number]) -> str:
    """Return the text of the formula with numbers in place of its variables, nothing computed."""
    text = str(formula)
    for name in formula.variables:
        number = str(constant(values[name]))
        text = text.replace(f"{{{name}}}", number if number.replace(".", "").isdigit() else f"({number})")
    return text


def show(number: Number) -> str:
    """Return an exact number with thousands separated."""
    return f"{number:,}" if isinstance(number, int) else f"{float(number):,}"
