"""One rank of a context-parallel group: some of the tokens of every sequence, and what it needs of the others' keys.

In a pass over many tokens each rank has `ceil(seq_len / cp)` of them, early and late ones, so that a causal triangle is
shared evenly (zigzag order); keys and values go round a ring, and every rank's queries see them all: Liu et al. 2023,
*Ring Attention*, arXiv:2310.01889. In a pass over one token all ranks have it, and each a part of what is cached; their
partial results are summed: Shyam et al. 2024, *Tree Attention*, arXiv:2408.04093.

What goes round is what the cache keeps, at its precision: of latent attention the latents, which every rank then
expands itself. Nothing here is checked against PyTorch, which runs no such pass on one machine.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nbanalyzer.errors import InputError
from nbanalyzer.formulas.formula import Formula, build, constant, parse, variable
from nbanalyzer.templates.template import Basic, Composite, Kernel, MemoryAccess, ModelTemplate

from .regions import is_product, regions_of
from .sharding import link
from .stages import per_layer, stack_of
from .tree import Tree

__all__ = ["NOT_CHECKED", "context"]

NOT_CHECKED = "context parallelism is not checked against PyTorch"
"""What a result says of these costs."""

TOKENS = ("seq_len", "num_logits")
CP = variable("cp")
MANY = Formula(">", None, (variable("seq_len"), constant(1)))


def context(template: ModelTemplate) -> ModelTemplate:
    """Return what one of `cp` ranks runs and keeps, with ``{cp}`` in the formulas.

    Args:
        template: complete, in the variants of the run; already divided along other axes, or not.

    Raises:
        InputError: a model whose layers do not keep keys and values of all tokens.

    """
    name = template.model_id or "this template"
    if "encoder_len" in template.variables or "cache_len" not in template.variables:
        raise InputError(f"not modelled: cp for {name}, which is not a decoder that keeps keys and values")
    for kept, text in template.state.items():
        if not {"cache_len", "seq_len"} <= {*parse(text).variables}:
            raise InputError(f"not modelled: cp for {name}, whose {kept} runs through all tokens, one after the other")
    stack = stack_of(template)
    shares: dict[int, list[Formula]] = {}
    for terms in per_layer(template, stack).values():
        for kind, share in terms:
            shares.setdefault(kind, []).append(_part(share))
    tree = Tree(template)
    around = "".join(f"{name}." for name in stack.inside)
    last = {
        region.nodes[-1].path: region
        for region in regions_of(tree).values()
        if region.kind == "attention" and region.nodes[-1].path.startswith(around)
    }
    results = {
        path: [node.kernel.memory_access.write for node in region.nodes if is_product(node)][-1]  # type: ignore[union-attr]
        for path, region in last.items()
    }
    rings = {
        ".".join((*stack.inside, kind.name)): _ring(build("+", *shares[place]))
        for place, kind in enumerate(stack.kinds)
        if place in shares
    }
    state = {name: str(_part(parse(text))) for name, text in template.state.items()}
    return msgspec.structs.replace(template, kernels=_kernels(template.kernels, "", rings, results), state=state)


def _ring(payload: Formula) -> Composite:
    """Return the sends of a layer: every rank passes on what it has, until all have seen it."""
    times = str(build("-", CP, constant(1)))
    return msgspec.structs.replace(link("ring", "send", "cp", payload), repeat=times, calls=str(MANY))


def _sum(payload: str) -> Composite:
    """Return the sum of partial results of attention over what is cached."""
    return msgspec.structs.replace(link("partial", "all_reduce", "cp", parse(payload)), calls="{seq_len} == 1")


def _kernels(
    kernels: tuple[Kernel, ...], path: str, rings: Mapping[str, Composite], results: Mapping[str, str]
) -> tuple[Kernel, ...]:
    made: list[Kernel] = []
    for kernel in kernels:
        here = f"{path}.{kernel.name}" if path else kernel.name
        if isinstance(kernel, Basic):
            access = MemoryAccess(_text(kernel.memory_access.read), _text(kernel.memory_access.write))
            payload = _text(kernel.payload)
            made.append(
                msgspec.structs.replace(kernel, flops=_text(kernel.flops), memory_access=access, payload=payload)
            )
        else:
            subs = _kernels(kernel.sub_kernels, here, rings, results)
            bindings = {name: _text(text) for name, text in kernel.bindings.items()}
            first = (rings[here],) if here in rings else ()
            made.append(msgspec.structs.replace(kernel, bindings=bindings, sub_kernels=(*first, *subs)))
        if here in results:
            made.append(_sum(_text(results[here])))
    return tuple(made)


def _text(text: str) -> str:
    return str(_divided(parse(text))) if "seq_len" in text or "num_logits" in text or "cache_len" in text else text


def _divided(formula: Formula) -> Formula:
    """Return a formula of all tokens for those of a rank."""
    if formula.operation == "variable" and formula.value in TOKENS:
        return Formula("ceil", None, (build("/", formula, CP),))
    if _is_keys(formula):
        return build("if", formula, MANY, Formula("ceil", None, (build("/", formula, CP),)))
    if not formula.arguments:
        return formula
    if formula.operation == "if" and "causal" in formula.arguments[1].variables:
        triangle, condition, rectangle = formula.arguments
        return build("if", build("/", triangle, CP), condition, _divided(rectangle))
    return build(formula.operation, *map(_divided, formula.arguments))


def _part(formula: Formula) -> Formula:
    """Return what a rank keeps of all tokens'."""
    if _is_keys(formula):
        return Formula("ceil", None, (build("/", formula, CP),))
    return build(formula.operation, *map(_part, formula.arguments)) if formula.arguments else formula


def _is_keys(formula: Formula) -> bool:
    """Return whether a formula is the number of tokens that a query may see: new ones and cached ones, or a window."""
    parts = [{"seq_len", "cache_len"}.intersection(part.variables) for part in formula.arguments]
    if formula.operation == "min":
        return any(map(_is_keys, formula.arguments))
    found = set().union(*parts)
    return formula.operation == "+" and found == {"seq_len", "cache_len"} and not any(len(part) > 1 for part in parts)
