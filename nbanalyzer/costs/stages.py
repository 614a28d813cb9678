"""One stage of a pipeline: its part of a model's layers, and what it sends to the next stage.

Layers are divided as transformers does (`PipelineStage.layer_range_for_rank`, 5.24): contiguous, evenly by number,
the remainder one each to the first stages. (Megatron-LM wants a number that divides; vLLM's `get_pp_indices` gives the
remainder to the last stages but one.) The first stage has the embedding, the last one the final norm and the head; if
the head's weight is the embedding's, both keep it. Positions, masks and rotary tables are computed by every stage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import msgspec

from nbanalyzer.errors import InputError
from nbanalyzer.formulas.formula import Formula, build, constant, parse, variable
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.templates.media import names_of
from nbanalyzer.templates.template import Basic, Composite, Kernel, ModelTemplate, fields

from .sharding import link
from .tree import Tree

__all__ = [
    "Range",
    "Stack",
    "busiest",
    "layers_of",
    "lists_of",
    "order_in",
    "order_of",
    "per_layer",
    "range_of",
    "stack_of",
    "stacks_of",
    "staged",
]

TIED = "tie_word_embeddings"
SEND = "{batch_size} * {seq_len} * {hidden_size} * {a_bytes}"
_NUMBERED = re.compile(r"(.+)_(\d+)")


class Range(NamedTuple):
    """Layers from `start` up to, but not including, `end`."""

    start: int
    end: int


def range_of(num_layers: int, pp: int, stage: int) -> Range:
    """Return the layers of one of `pp` stages, counted from 0.

    Raises:
        InputError: no such stage, or more stages than layers.

    """
    if not 1 <= pp <= num_layers:
        raise InputError(f"pp={pp}: a model of {num_layers} layers has 1 to {num_layers} pipeline stages")
    if not 0 <= stage < pp:
        raise InputError(f"a pipeline of {pp} stages has no stage {stage}: they count from 0 to {pp - 1}")
    each, rest = divmod(num_layers, pp)
    start = stage * each + min(stage, rest)
    return Range(start, start + each + (stage < rest))


@dataclass(frozen=True)
class Stack:
    """The list of a model's layers.

    Attributes:
        inside: the modules around it, outermost first: ``("model",)``.
        kinds: the layers that differ, in the order in which the first of each runs.

    """

    inside: tuple[str, ...]
    kinds: tuple[Composite, ...]

    @property
    def repeats(self) -> tuple[Formula, ...]:
        """How many layers there are of each kind."""
        return tuple(parse(kind.repeat) for kind in self.kinds)

    @property
    def reads_text(self) -> bool:
        """Whether the layers' formulas have tokens in them: those of a tower have patches or samples."""
        return "seq_len" in _used(self.kinds)


def stack_of(template: ModelTemplate) -> Stack:
    """Return where a template's layers are: of a model that reads images or sound and writes text, the text model's.

    Raises:
        InputError: there are none, or several lists of them, or layers of text that read images.

    """
    found = list(_stacks(template.kernels, ()))
    media = names_of(template.reads)
    if media and template.state:
        found = [stack for stack in found if stack.reads_text]
        if any(not media.isdisjoint(_used(stack.kinds)) for stack in found):
            what = f"{template.model_id or 'this template'}, whose layers of text read images or sound"
            raise InputError(f"not modelled: pipeline stages of {what}")
    if len(found) != 1:
        several = "several lists of layers, as an encoder and a decoder" if found else "no repeated layers"
        raise InputError(f"not modelled: {template.model_id or 'this template'} has {several}: no pipeline stages")
    return found[0]


def stacks_of(template: ModelTemplate) -> tuple[Stack, ...]:
    """Return all lists of layers of a template, as of an encoder and a decoder."""
    return tuple(_stacks(template.kernels, ()))


def lists_of(stack: Stack) -> Iterator[Stack]:
    """Yield what has one name each: beside a tower's blocks there may be as many projectors as it is read after."""
    named: dict[str, list[Composite]] = {}
    for kind in stack.kinds:
        named.setdefault(_list_of(kind) or kind.name, []).append(kind)
    for kinds in named.values():
        yield Stack(stack.inside, tuple(kinds))


def layers_of(kernels: Sequence[Kernel]) -> Iterator[Composite]:
    """Yield the kinds of layers of all lists of layers, as of an encoder and a decoder."""
    for stack in _stacks(kernels, ()):
        yield from stack.kinds


def _stacks(kernels: Sequence[Kernel], inside: tuple[str, ...]) -> Iterator[Stack]:
    modules = [kernel for kernel in kernels if isinstance(kernel, Composite)]
    repeated = [module for module in modules if module.repeat != "1"]
    if repeated:
        # A kind that is one layer only is not repeated, but called like the others: layers_0 beside layers_1.
        lists = {match[1] for module in repeated if (match := _NUMBERED.fullmatch(module.name))}
        yield Stack(inside, tuple(module for module in modules if module in repeated or _list_of(module) in lists))
    else:
        for module in modules:
            yield from _stacks(module.sub_kernels, (*inside, module.name))


def _list_of(module: Composite) -> str:
    match = _NUMBERED.fullmatch(module.name)
    return match[1] if match else ""


def order_of(template: ModelTemplate, params: Mapping[str, Number]) -> tuple[int, ...]:
    """Return the kind of every layer, in the order in which they run: its place in `Stack.kinds`.

    It is what the config lists, if it does (``layer_types``); else it follows from how many there are of each kind in
    models of fewer layers, as the formulas say: the first ones, or the last ones where a pattern ends with the model.

    Raises:
        InputError: the formulas do not tell.

    """
    return order_in(stack_of(template), template, params)


def order_in(stack: Stack, template: ModelTemplate, params: Mapping[str, Number]) -> tuple[int, ...]:
    """Return the same of one of a template's lists of layers, as of a tower.

    Raises:
        InputError: the formulas do not tell.

    """
    counts = [formula.evaluate(params) for formula in stack.repeats]
    depth = int(sum(counts))
    if len(counts) == 1:
        return (0,) * depth
    for order in (*_listed(template.config, depth), _grown(stack, params, depth), _grown(stack, params, depth)[::-1]):
        firsts = [order.index(kind) if kind in order else depth for kind in range(len(counts))]
        if [order.count(kind) for kind in range(len(counts))] == counts and firsts == sorted(firsts):
            return order
    raise InputError(f"not modelled: in which order {template.model_id or 'this template'} runs its layers")


def _listed(config: Mapping[str, Any], depth: int) -> Iterator[tuple[int, ...]]:
    """Yield what a config lists layer by layer, as numbers in the order in which they come up."""
    for entries in config.values():
        if isinstance(entries, Mapping):
            yield from _listed(entries, depth)
        elif isinstance(entries, list | tuple | str) and len(entries) >= depth:
            names = [str(entry) for entry in entries[:depth]]
            kinds = list(dict.fromkeys(names))
            yield tuple(map(kinds.index, names))


def _grown(stack: Stack, params: Mapping[str, Number], depth: int) -> tuple[int, ...]:
    """Return which kind a layer more is of, in models of 1 layer, 2 layers, …; -1 if that is not one kind."""
    before, order = [0] * len(stack.kinds), []
    for layers in range(1, depth + 1):
        values = {**params, "num_layers": layers}
        now = [min(max(int(formula.evaluate(values)), 0), layers) for formula in stack.repeats]
        more = [kind for kind, count in enumerate(now) if count != before[kind]]
        order.append(more[0] if len(more) == 1 and now[more[0]] == before[more[0]] + 1 else -1)
        before = now
    return tuple(order)


def staged(template: ModelTemplate, params: Mapping[str, Number], pp: int, stage: int) -> ModelTemplate:
    """Return what one of `pp` stages runs and keeps; the template itself if there is only one.

    Args:
        template: complete, in the variants of the run.
        params: the model's sizes.
        pp: the number of stages.
        stage: which one, from 0.

    Raises:
        InputError: a model that is not divided so, or no such stage.

    """
    stack, order = stack_of(template), order_of(template, params)
    layers = range_of(len(order), pp, stage)
    if pp == 1:
        return template
    counts = [constant(order[layers.start : layers.end].count(kind)) for kind in range(len(stack.kinds))]
    if len(counts) == 1:  # ceil((num_layers - stage) / pp): the remainder goes to the first stages
        left = build("-", stack.repeats[0], constant(stage))
        counts = [Formula("ceil", None, (build("/", left, variable("pp")),))]
    cut = _Cut(stack, counts, names_of(template.reads), is_first=stage == 0, is_last=stage == pp - 1)
    deep, first = cut.deep(template.kernels, stack.inside), range_of(len(order), pp, 0)
    if deep > first.end:
        raise InputError(
            f"not modelled: pp={pp}: images are added after each of the first {deep} layers, of which the first stage "
            f"has {first.end}"
        )
    state = {name: str(total(terms, counts)) for name, terms in per_layer(template, stack).items()}
    return msgspec.structs.replace(template, kernels=cut.kernels(template.kernels, stack.inside), state=state)


@dataclass(frozen=True)
class _Cut:
    """Takes a stage's kernels out of a tree.

    Attributes:
        stack: the layers that are divided.
        counts: how many of each kind the stage has.
        media: variables of what is read besides tokens: the first stage reads it, towers and all.
        is_first, is_last: of the stages.

    """

    stack: Stack
    counts: Sequence[Formula]
    media: frozenset[str]
    is_first: bool
    is_last: bool

    def kernels(self, kernels: Sequence[Kernel], inside: tuple[str, ...]) -> tuple[Kernel, ...]:
        """Return the stage's kernels on the level of a module around the layers; `inside` are those within it."""
        here = [
            place
            for place, kernel in enumerate(kernels)
            if (kernel.name == inside[0] if inside else kernel in self.stack.kinds)
        ]
        before, after = kernels[: here[0]], kernels[here[-1] + 1 :]
        kept: list[Kernel] = [
            _untied(kernel) if self.is_first and not self.reads(kernel) else kernel
            for kernel in before
            if self.is_first or not (_is_embedding(kernel) or self.reads(kernel))
        ]
        for kernel in kernels[here[0] : here[-1] + 1]:
            if not inside and kernel in self.stack.kinds:
                count = self.counts[self.stack.kinds.index(kernel)]
                if count != constant(0):
                    kept.append(msgspec.structs.replace(kernel, repeat=str(count)))
            elif inside and isinstance(kernel, Composite):
                subs = self.kernels(kernel.sub_kernels, inside[1:])
                kept.append(msgspec.structs.replace(kernel, sub_kernels=subs))
            else:
                kept.append(kernel)
        if not inside and not self.is_last:
            kept.append(link("stage", "send", "pp", parse(SEND)))
        kept += [kernel for kernel in after if self.is_first and self.reads(kernel)]
        return (*kept, *(_untied(kernel) for kernel in after if self.is_last and not self.reads(kernel)))

    def reads(self, kernel: Kernel) -> bool:
        """Return whether a kernel is of images or sound."""
        return not self.media.isdisjoint(_used((kernel,)))

    def deep(self, kernels: Sequence[Kernel], inside: tuple[str, ...]) -> int:
        """Return after how many layers something of images is added to the stream (Qwen3-VL's DeepStack)."""
        if inside:
            around = next(one for one in kernels if one.name == inside[0])
            return self.deep(around.sub_kernels, inside[1:]) if isinstance(around, Composite) else 0
        return sum(isinstance(one, Basic) and one.flops != "0" and self.reads(one) for one in kernels)


def _used(kernels: Sequence[Kernel]) -> set[str]:
    """Return the variables of kernels, with all below them."""
    return {name for field in fields(tuple(kernels)) for name in field.parse().variables}


def _is_embedding(kernel: Kernel) -> bool:
    """Return whether what stands before the layers makes their input, and not positions or masks."""
    texts = [field.text for field in fields((kernel,))]
    return any("hidden_size}" in text for text in texts) or any(
        field.field == "parameters" and field.text != "0" for field in fields((kernel,))
    )


def _untied(kernel: Kernel) -> Kernel:
    """Return a kernel before or after the layers with a weight of its own, where it would be the other's."""
    if isinstance(kernel, Basic):
        return kernel
    parameters = kernel.parameters and str(parse(kernel.parameters).substitute({TIED: 0}))
    for names in (("output_size", "input_size"), ("num_embeddings", "embedding_dim")):
        if parameters and kernel.bindings.keys() >= {*names}:
            sizes, own = [parse(kernel.bindings[name]) for name in names], parse(parameters)
            if own in (constant(0), sizes[0]):  # nothing, or a bias
                parameters = str(build("+", build("*", *sizes), own))
    subs = tuple(map(_untied, kernel.sub_kernels))
    return msgspec.structs.replace(kernel, parameters=parameters, sub_kernels=subs)


def per_layer(template: ModelTemplate, stack: Stack) -> dict[str, list[tuple[int, Formula]]]:
    """Return what a layer keeps between passes: name → pairs of a kind of layer and the bytes of one layer.

    Raises:
        InputError: the formulas do not say what is a layer's.

    """
    uses = [{name for field in fields((kind,)) for name in field.parse().variables} for kind in stack.kinds]
    found: dict[str, list[tuple[int, Formula]]] = {}
    for name, text in template.state.items():
        formula, at = parse(text), 0
        found[name] = []
        for term in formula.arguments if formula.operation == "+" else (formula,):
            # The terms come in the order of the kinds; one of a single layer has no number of layers in it.
            shares = {
                kind: share
                for kind, repeat in enumerate(stack.repeats)
                if kind >= at and (share := _share(term, repeat)) is not None
            }
            if not shares:
                model = template.model_id or "this template"
                raise InputError(f"not modelled: which layers keep the {name} of {model}")
            likely = [kind for kind, share in shares.items() if {*share.variables} <= uses[kind]] or list(shares)
            kind = next((kind for kind in likely if stack.repeats[kind] != constant(1)), likely[0])
            at = kind
            found[name].append((kind, shares[kind]))
    return found


def _share(term: Formula, repeat: Formula) -> Formula | None:
    """Return what a sum over `repeat` layers is for one of them; None if it is another sum."""
    if repeat == constant(1):
        return term
    factors = repeat.arguments if repeat.operation == "*" else (repeat,)
    if term.operation != "*" or term.arguments[: len(factors)] != factors:
        return None
    return build("*", *term.arguments[len(factors) :])


def total(terms: Sequence[tuple[int, Formula]], counts: Sequence[Formula]) -> Formula:
    """Return what so many layers of each kind keep."""
    return build("+", *(build("*", counts[kind], share) for kind, share in terms))


def busiest(tree: Tree, values: Mapping[str, Number], pp: int) -> int:
    """Return which of `pp` stages has most to do: FLOPs of its layers, of towers in the first, all else in the last.

    Args:
        tree: of the whole model, in the variants of the run, not divided.
        values: of all variables.
        pp: the number of stages.

    Raises:
        InputError: as for `staged`.

    """
    stack, order = stack_of(tree.template), order_of(tree.template, values)
    costs, media = tree.costs(values), names_of(tree.template.reads)
    nodes = {node.path: node for node in tree.nodes}
    layers = [costs[nodes[".".join((*stack.inside, kind.name))]] for kind in stack.kinds]
    rest = sum(costs[root].flops for root in tree.roots) - sum(layer.flops for layer in layers)
    each = [Fraction(layer.flops) / max(order.count(kind), 1) for kind, layer in enumerate(layers)]
    around = {".".join(stack.inside[:depth]) for depth in range(1, len(stack.inside) + 1)}
    beside = [node for node in tree.nodes if (node.parent.path if node.parent else "") in {"", *around}]
    read = sum(
        costs[node].flops for node in beside if node.path not in around and not media.isdisjoint(_used((node.kernel,)))
    )

    def work(stage: int) -> Number:
        start, end = range_of(len(order), pp, stage)
        return sum(each[kind] for kind in order[start:end]) + read * (stage == 0) + (rest - read) * (stage == pp - 1)

    return max(range(pp), key=work)
