"""Terms of formulas for bytes: of weights and of the cache, of each tensor, of what is kept between passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from nbanalyzer.formulas.formula import Formula, build, constant, parse
from nbanalyzer.templates.template import ModelTemplate

from .tree import Node

__all__ = [
    "CACHE", "MEMORY", "NOTHING", "is_kept", "kept_terms", "less", "only", "outputs_of", "replaced", "share_of",
    "terms_of", "without",
]  # fmt: skip

MEMORY = frozenset({"w_bytes", "kv_bytes"})  # what is read and written whatever is fused
CACHE = frozenset({"kv_bytes"})
NOTHING = constant(0)


def outputs_of(node: Node) -> list[Formula]:
    """Return the bytes of each tensor that a kernel writes beside the cache, e.g. values and indices."""
    formula, steps = node.parts[2], node.steps
    terms = terms_of(without(formula, CACHE))
    return [build("/", term, constant(steps)) if steps > 1 else term for term in terms]


def terms_of(formula: Formula) -> tuple[Formula, ...]:
    """Return what a formula adds up."""
    return formula.arguments if formula.operation == "+" else (formula,)


def without(formula: Formula, names: frozenset[str]) -> Formula:
    """Return a number of bytes without the terms of these variables, in all its cases."""
    return _filtered(formula, lambda term: term != NOTHING and names.isdisjoint(term.variables))


def only(formula: Formula, names: frozenset[str]) -> Formula:
    """Return the terms of a number of bytes that have one of these variables, in all its cases."""
    return _filtered(formula, lambda term: not names.isdisjoint(term.variables))


def _filtered(formula: Formula, keeps: Callable[[Formula], bool]) -> Formula:
    """Return the sum of the terms that are kept, in all its cases."""
    if formula.operation == "if":
        yes, condition, no = formula.arguments
        return build("if", _filtered(yes, keeps), condition, _filtered(no, keeps))
    terms = (_filtered(term, keeps) if term.operation == "if" else term for term in terms_of(formula))
    return build("+", *filter(keeps, terms))


def less(formula: Formula, covered: list[Formula]) -> Formula:
    """Return a number of bytes without those that are covered."""
    rest = list(terms_of(formula))
    for term in (term for one in covered for term in terms_of(one)):
        if term in rest:
            rest.remove(term)
        else:
            return build("max", build("-", formula, build("+", *covered)), NOTHING)
    return build("+", *rest)


def kept_terms(template: ModelTemplate) -> Iterator[Counter[Formula]]:
    """Yield the factors of what a model keeps between passes beside the cache, e.g. a state-space model's state."""
    for text in template.state.values():
        for term in terms_of(parse(text)):
            variables = set(term.variables)
            if "batch_size" in variables and not variables & {"kv_bytes", "seq_len", "cache_len", "encoder_len"}:
                yield Counter(_factors(term))


def is_kept(formula: Formula, term: Counter[Formula]) -> bool:
    """Return whether bytes are those of one layer of a kept term: the other factors count layers."""
    factors = Counter(_factors(formula))
    rest = term - factors
    is_part = "batch_size" in formula.variables and not factors - term
    return is_part and not any(one.operation == "number" and one.value == 4 for one in rest)


def _factors(formula: Formula) -> tuple[Formula, ...]:
    return formula.arguments if formula.operation == "*" else (formula,)


def replaced(formula: Formula, old: Formula, new: Formula) -> Formula:
    """Return a formula with a part of it replaced, where it comes first."""
    if formula is old:
        return new
    if not formula.arguments:
        return formula
    return build(formula.operation, *(replaced(argument, old, new) for argument in formula.arguments))


def share_of(formula: Formula, name: str, value: Formula) -> Formula:
    """Return what a variable adds to a sum that is proportional to it."""
    found = []
    for term in terms_of(formula):
        if name in term.variables:
            whole, rest = term.substitute({name: value}), term.substitute({name: 0})
            found.append(whole if rest == NOTHING else build("-", whole, rest))
    return build("+", *found)
