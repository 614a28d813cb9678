"""The matrices among a module's parameters: their sizes as formulas, and what they are of, by structure.

A linear has one. Experts have two or three each, gate and up apart, since a scheme rounds the sizes of either up. What
is no matrix (norms, biases, convolutions, state-space parameters) is the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nbanalyzer.formulas.formula import Formula, build, constant, parse, variable
from nbanalyzer.formulas.simplify import expanded
from nbanalyzer.templates.schemes import Role
from nbanalyzer.templates.template import Basic, Composite

from .plan import has_experts
from .terms import terms_of
from .tree import Node

__all__ = ["Matrix", "factors_of", "matrices_of"]

ABSORBED = "absorbed_latent_attention"
LINEAR = (".Linear", ".Conv1D")
GROUPED = "GroupedLinear"
ONE, NOTHING = constant(1), constant(0)
TIED = build("-", ONE, variable("tie_word_embeddings"))
VOCABULARY = "vocab_size"
EXPERTS = "num_experts"
GATED = (("gate_proj", "w1"), ("up_proj", "w3"))
PLAIN = (("up_proj", "w1"),)
DOWN = ("down_proj", "w2")


class Matrix(NamedTuple):
    """A matrix of weights.

    Attributes:
        role: what it is of.
        output, taken: rows and columns, as `torch.nn.Linear` stores them.
        copies: how many there are of it; 0 where another module has it.
        place: which of the module's products reads it, from 0.
        names: last names of the module that has it in a checkpoint, below this one; empty for this one.

    """

    role: Role
    output: Formula
    taken: Formula
    copies: Formula = ONE
    place: int = 0
    names: tuple[str, ...] = ()


def matrices_of(node: Node) -> tuple[list[Matrix], Formula]:
    """Return the matrices among a module's own parameters, and how many parameters are no matrix's."""
    kernel, parameters = node.kernel, node.own_parameters
    assert isinstance(kernel, Composite)
    bindings = {name: parse(text) for name, text in kernel.bindings.items()}
    if kernel.module.endswith(ABSORBED):
        return [_absorbed(bindings)], NOTHING
    if has_experts(kernel):
        return _experts(node)
    if {"input_size", "output_size"} <= bindings.keys():
        return _linear(node, bindings)
    if VOCABULARY in parameters.variables and not _products(node):
        return _table(parameters)
    if kernel.module.endswith(LINEAR):
        return _unbound(node)
    if kernel.module.endswith(GROUPED):
        return _grouped(node)
    if EXPERTS in parameters.variables and _products(node):
        return _router(node)
    return [], parameters


def factors_of(formula: Formula) -> tuple[Formula, ...]:
    """Return what a formula multiplies."""
    return formula.arguments if formula.operation == "*" else (formula,)


def _linear(node: Node, bindings: Mapping[str, Formula]) -> tuple[list[Matrix], Formula]:
    """Return the matrix of a linear whose bindings say its sizes; one that is tied has no parameters of its own."""
    output, taken = bindings["output_size"], bindings["input_size"]
    role: Role = "head" if VOCABULARY in output.variables else "linear"
    bias = build("*", bindings.get("has_bias", NOTHING), output)
    factors = Counter(factors_of(node.own_parameters))  # as written: parts that a rank has are no polynomials
    for copies in (ONE, TIED):
        if factors == Counter(factors_of(build("*", copies, output, taken))):
            return [Matrix(role, output, taken, copies)], NOTHING
    own = expanded(node.own_parameters, {})
    for copies in (ONE, TIED, NOTHING):
        for rest in (bias, NOTHING) if bias != NOTHING else (NOTHING,):
            if expanded(build("+", build("*", copies, output, taken), rest), {}) == own:
                return [Matrix(role, output, taken, copies)], rest
    return [], node.own_parameters


def _absorbed(bindings: Mapping[str, Formula]) -> Matrix:
    """Return the matrix that expands a latent, which attention has absorbed: a checkpoint has it as it is."""
    heads, widths = bindings["num_heads"], (bindings["nope_head_dim"], bindings["v_head_dim"])
    return Matrix(
        "linear", build("*", heads, build("+", *widths)), bindings["latent_size"], place=-1, names=("kv_b_proj",)
    )


def _unbound(node: Node) -> tuple[list[Matrix], Formula]:
    """Return the matrix of a linear that was traced with its surroundings: its inputs are those that it reads."""
    factors, products = factors_of(node.own_parameters), _products(node)
    if len(factors) < 2 or not products:
        return [], node.own_parameters
    taken = _shared(factors, products[0])
    output = list((Counter(factors) - Counter(taken)).elements())
    if not taken or not output:
        return [], node.own_parameters
    role: Role = "head" if VOCABULARY in build("*", *output).variables else "linear"
    return [Matrix(role, build("*", *output), build("*", *taken))], NOTHING


def _grouped(node: Node) -> tuple[list[Matrix], Formula]:
    """Return the matrices of a linear of groups, one for each: their number is in what it reads and what it writes."""
    products = _products(node)
    if node.own_parameters.operation != "*" or len(products) != 1:
        return [], node.own_parameters
    factors = factors_of(node.own_parameters)
    read, written = _shared(factors, products[0]), factors_of(products[0].parts[2])
    groups = [factor for factor in read if factor in written]
    taken = [factor for factor in read if factor not in groups]
    output = list((Counter(factors) - Counter(read)).elements())
    if not groups or not taken or not output:
        return [], node.own_parameters
    return [Matrix("linear", build("*", *output), build("*", *taken), build("*", *groups))], NOTHING


def _table(parameters: Formula) -> tuple[list[Matrix], Formula]:
    """Return the matrix of an embedding, with a row for every token."""
    factors = factors_of(parameters)
    rows = [factor for factor in factors if VOCABULARY in factor.variables]
    width = [factor for factor in factors if factor not in rows]
    if parameters.operation == "+" or len(rows) != 1 or not width:
        return [], parameters
    return [Matrix("embedding", rows[0], build("*", *width))], NOTHING


def _router(node: Node) -> tuple[list[Matrix], Formula]:
    """Return the matrix of what chooses experts."""
    rest = []
    found: list[Matrix] = []
    for term in terms_of(node.own_parameters):
        factors = factors_of(term)
        rows = [factor for factor in factors if EXPERTS in factor.variables]
        width = [factor for factor in factors if factor not in rows]
        if len(rows) == 1 and width and not found:
            found.append(Matrix("router", rows[0], build("*", *width)))
        else:
            rest.append(term)
    return found, build("+", *rest)


def _experts(node: Node) -> tuple[list[Matrix], Formula]:
    """Return the matrices of experts: of each term of the parameters with two sizes, one for each product."""
    products = _products(node)
    found: list[Matrix] = []
    rest: list[Formula] = []
    place = 0
    for term in terms_of(node.own_parameters):
        factors = factors_of(term)
        copies = [factor for factor in factors if EXPERTS in factor.variables]
        numbers = [factor for factor in factors if factor.operation == "number"]
        sizes = [factor for factor in factors if factor not in (*copies, *numbers)]
        if len(copies) != 1 or len(sizes) != 2 or place >= len(products):
            rest.append(term)
            continue
        taken = _shared(sizes, products[place])[:1] or sizes[:1]
        output = next(size for size in sizes if size is not taken[0])
        is_gated = [number.value for number in numbers] == [2]
        is_down = place > 0
        names = (DOWN,) if is_down else GATED if is_gated else PLAIN
        found += [Matrix("expert", output, taken[0], copies[0], place, one) for one in names]
        if is_down and numbers:
            return [], node.own_parameters
        place += 1
    return found, build("+", *rest)


def _products(node: Node) -> list[Node]:
    """Return the products of a module that read its weights."""
    return [
        child
        for child in node.children
        if isinstance(child.kernel, Basic) and child.kernel.unit == "matmul" and "w_bytes" in child.sizes
    ]


def _shared(sizes: Sequence[Formula], product: Node) -> list[Formula]:
    """Return those of a matrix's sizes that the other operand of a product has too, which are its columns."""
    others = [term for term in terms_of(product.parts[1]) if "w_bytes" not in term.variables]
    read = {factor for term in others for factor in factors_of(term)}
    return [size for size in sizes if size in read]
