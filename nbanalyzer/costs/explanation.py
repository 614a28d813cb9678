"""Derivations of numbers: number ← formula with values ← formula ← module template and bindings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from nbanalyzer.errors import FormulaError
from nbanalyzer.formulas.formula import Formula, constant, parse
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.quantities import seconds, show
from nbanalyzer.templates.library import MODULES
from nbanalyzer.templates.template import Basic, Composite, ModuleTemplate
from nbanalyzer.text import as_lines, escape, short_paths

from .tree import Cost, Node

__all__ = [
    "Derivation",
    "Explanation",
    "explain_formula",
    "explain_node",
    "meaning",
    "number_of",
    "with_values",
    "written",
]

LISTED = 6  # modules that a launch is said to be shared with, at most

Launches = Sequence[tuple[str, tuple[Node, ...]]]
"""The launches of an engine, in order: what each is, and its kernels."""


@dataclass(frozen=True)
class Derivation:
    """The derivation of one number, each step as text.

    Attributes:
        what: e.g. ``"matmul, flops"``.
        in_module: the formula in the module template, in context variables; "" if it is from none.
        in_model: the same in global variables.
        with_values: the same with values substituted.
        number: its value, for one execution.
        count: of executions; for parameters, of copies.
        unit: ``"s"`` of a time, which is shown as one.

    """

    what: str
    in_module: str
    in_model: str
    with_values: str
    number: Number
    count: Number
    unit: str = ""

    def steps(self) -> list[str]:
        """Return the lines from the formula to the number."""
        lines = [f"{self.in_module}   (module template)"] if self.in_module and self.in_module != self.in_model else []
        number = written(self.number, self.unit)
        if self.in_model not in {self.with_values, number}:
            lines.append(self.in_model)
        if self.with_values.replace(",", "") != number.replace(",", ""):
            lines.append(self.with_values)
        total = f"  × {show(self.count)} = {show(normalize(self.number * self.count))}" if self.count != 1 else ""
        return [*lines, f"{number}{total}"]


@dataclass(frozen=True)
class Explanation:
    """The derivations of one kernel, or of one total; in an engine's list, with what runs as one with it."""

    title: str
    description: str
    bindings: tuple[str, ...]
    derivations: tuple[Derivation, ...]
    launches: tuple[str, ...] = ()

    def __repr__(self) -> str:
        lines = [self.title, *([f"  {self.description}"] if self.description else [])]
        lines += [f"  {line}" for line in (*self.bindings, *self.launches)]
        for derivation in self.derivations:
            lines.append(f"{derivation.what}")
            lines += [f"  {'= ' if index else '  '}{step}" for index, step in enumerate(derivation.steps())]
        return as_lines(lines)

    def as_html(self, *, in_symbols: bool = False) -> str:
        """Return the explanation as HTML with inline styles, all escaped; its formulas in the field's symbols too."""
        code = "font-family:monospace;white-space:pre-wrap;margin:0 0 0 1.2em"
        parts = [f'<div style="margin-left:1.2em">{escape(self.description)}</div>'] if self.description else []
        parts += [f'<div style="{code}">{escape(line)}</div>' for line in self.bindings]
        parts += [f'<div style="margin-left:1.2em">{escape(line)}</div>' for line in self.launches]
        for derivation in self.derivations:
            steps = "\n".join(("= " if index else "  ") + escape(step) for index, step in enumerate(derivation.steps()))
            symbols = _in_symbols(derivation.in_model) if in_symbols else ""
            parts.append(f'<div>{escape(derivation.what)}</div>{symbols}<div style="{code}">{steps}</div>')
        return "".join(parts)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        html = (
            f'<div style="font-size:0.9em"><div><b>{escape(self.title)}</b></div>{self.as_html(in_symbols=True)}</div>'
        )
        return {"text/plain": repr(self), "text/html": html}


def _in_symbols(text: str) -> str:
    """Return a formula as MathML; nothing if it has no variables, or is the names of what is added up."""
    with suppress(FormulaError):
        formula = parse(text)
        if formula.variables:
            return f'<div style="margin:0.2em 0 0.2em 1.2em;line-height:2">{formula.mathml()}</div>'
    return ""


def written(number: Number, unit: str) -> str:
    """Return a number of a derivation: exact, or a time."""
    return seconds(float(number)) if unit == "s" else show(number)


def explain_formula(
    what: str, formula: Formula, values: Mapping[str, Number], parts: Mapping[str, Formula] | None = None
) -> Explanation:
    """Return the derivation of a number of the whole model from its formula; `parts`, if it has some, are its terms."""
    derivations = [_derived(name, one, values) for name, one in (parts or {what: formula}).items()]
    if parts:
        names, numbers = " + ".join(parts), " + ".join(written(one.number, "") for one in derivations)
        derivations.append(Derivation(what, "", names, numbers, formula.evaluate(values), 1))
    legend = tuple(meaning(name, values[name]) for name in formula.variables)
    return Explanation(f"{what} of the whole pass", "", legend, tuple(derivations))


def _derived(what: str, formula: Formula, values: Mapping[str, Number]) -> Derivation:
    return Derivation(what, "", str(formula), with_values(formula, values), formula.evaluate(values), 1)


def meaning(name: str, value: Number, others: Mapping[str, str] | None = None) -> str:
    """Return what a variable is: its value, and what it means; `others` has meanings of what is none of a model."""
    known = VARIABLES.get(name)
    said = known.meaning if known else (others or {}).get(name, "")
    return f"{{{name}}} = {show(value)}{f'   {said}' if said else ''}"


def explain_node(
    node: Node, costs: Mapping[Node, Cost], values: Mapping[str, Number], launches: Launches | None = None
) -> Explanation:
    """Return the derivations of a kernel's numbers: its own parameters, and the costs of its basic kernels."""
    count = costs[node].count
    owner = node.parent if node.is_basic else node
    place = owner.kernel if owner and isinstance(owner.kernel, Composite) else Composite(name=node.kernel.name)
    bindings = {name: parse(text) for name, text in place.bindings.items()}
    module = MODULES.get(place.module)
    title = node.path + (f"  × {show(count)}" if count != 1 else "") + (f"  ({place.module})" if place.module else "")

    def derive(what: str, in_module: str, formula: Formula, times: Number = count) -> Derivation:
        # The module template's formula is shown only if the bindings turn it into this one.
        follows = in_module and parse(in_module).substitute(bindings) == formula
        number = formula.evaluate(values)
        shown = with_values(formula.resolve(values), values)  # the branch that is taken
        return Derivation(what, in_module if follows else "", str(formula), shown, number, times)

    derivations = []
    if node.own_parameters != constant(0):
        # Once per copy, however often the pass runs it.
        origin = module.parameters if module else ""
        derivations.append(derive("parameters", origin, node.own_parameters, costs[node].copies))
    if node.is_stored:
        what = f"weight bytes ({place.scheme})" if place.scheme else "weight bytes"
        derivations.append(derive(what, "", node.own_weight_bytes, costs[node].copies))
    basics = [node] if node.is_basic else [child for child in node.children if child.is_basic]
    for basic in basics:
        for what, in_module, formula in _parts(basic, module):
            if formula != constant(0):
                derivations.append(derive(what, in_module, formula))
    if not node.is_basic and len(basics) < len(node.children):
        metrics = [metric for metric in ("flops", "bytes", "parameters") if getattr(costs[node], metric)]
        derivations += [_sum(f"{metric}, all repeats", metric, node.children, costs) for metric in metrics]
    lines = tuple(_binding(name, formula, values) for name, formula in bindings.items())
    lines += tuple(f"{tensor.name}: {tensor.elements} of {tensor.dtype}" for tensor in place.weights)
    launched = tuple(_launch_lines(basics, launches)) if launches is not None else ()
    return Explanation(title, "" if node.is_basic else place.description, lines, tuple(derivations), launched)


def _launch_lines(nodes: Sequence[Node], launches: Launches) -> Iterator[str]:
    """Yield in which launch each of some kernels runs, and with what, in their order."""
    numbers = {number_of(node, launches): None for node in nodes}
    for number in numbers:
        own = [node for node in nodes if number_of(node, launches) == number]
        names = ", ".join(node.kernel.name for node in own)
        if not number:
            yield f"not launched, an engine does without: {names}"
            continue
        kind, together = launches[number - 1]
        others = list(dict.fromkeys(node.parent or node for node in together if node not in own))
        listed = short_paths([node.path for node in others])[:LISTED]
        more = f" and {len(others) - LISTED} more" if len(others) > LISTED else ""
        yield f"launch {number} ({kind}): {names}" + (f"; one launch with: {', '.join(listed)}{more}" if others else "")


def number_of(node: Node, launches: Launches) -> int:
    """Return the number, from 1, of the launch that a kernel runs in; 0 if it runs in none."""
    return next((number for number, (_, nodes) in enumerate(launches, 1) if node in nodes), 0)


def _parts(node: Node, module: ModuleTemplate | None) -> Iterator[tuple[str, str, Formula]]:
    """Yield (name, formula in the module template or "", formula) of a basic kernel's costs."""
    assert isinstance(node.kernel, Basic)
    if node.is_link:
        yield f"{node.kernel.label} of the {node.kernel.group} ranks, payload in bytes", "", node.payload
    label = node.kernel.label
    names = (f"{label}, flops ({node.kernel.unit})", f"{label}, bytes read", f"{label}, bytes written")
    originals = [kernel for kernel in module.kernels if kernel.name == node.kernel.name] if module else []
    texts = ("", "", "")
    if len(originals) == 1 and isinstance(original := originals[0], Basic):
        texts = (original.flops, original.memory_access.read, original.memory_access.write)
    yield from zip(names, texts, node.parts, strict=True)


def _sum(what: str, metric: str, nodes: Sequence[Node], costs: Mapping[Node, Cost]) -> Derivation:
    """Return the derivation of a sum over kernels, those with 0 left out."""
    parts = [(node.kernel.name, getattr(costs[node], metric)) for node in nodes if getattr(costs[node], metric)]
    total = normalize(sum(number for _, number in parts))
    names = " + ".join(name for name, _ in parts) or "nothing"
    return Derivation(what, "", names, " + ".join(show(number) for _, number in parts) or "0", total, 1)


def _binding(name: str, formula: Formula, values: Mapping[str, Number]) -> str:
    number = show(formula.evaluate(values))
    return f"{{{name}}} = {number}" if str(formula) in {number, f"{{{name}}}"} else f"{{{name}}} = {formula} = {number}"


def with_values(formula: Formula, values: Mapping[str, Number]) -> str:
    """Return the text of the formula with numbers in place of its variables."""
    text = str(formula)
    for name in formula.variables:
        number = str(constant(values[name]))
        text = text.replace(f"{{{name}}}", number if number.replace(".", "").isdigit() else f"({number})")
    return text
