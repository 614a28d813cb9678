"""Which layers of a tree are which, so that lists of modules can be read; and the trees that were stored so, kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain

from nbanalyzer.errors import FormulaError, InputError, quote
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.templates.choices import Quantisation

from .run import Run
from .stages import lists_of, order_in, range_of, stack_of, stacks_of
from .stored import Layers, stored
from .tree import Tree

__all__ = ["stored_tree"]

_EXPERT = re.compile(r"experts\\?\.(\d+|\\d[+*]?|[\[(][^\])]*[\])][+*]?)")
"""The number of an expert in a list of modules, or what stands for some."""


def stored_tree(tree: Tree, quantisation: Quantisation, params: Mapping[str, Number], run: Run) -> Tree:
    """Return a tree whose weights are stored in schemes.

    Args:
        tree: as it runs; with all weights, if ranks share them.
        quantisation: which weights are in which scheme.
        params: the model's sizes.
        run: its mesh decides the sizes of a rank.

    Raises:
        InputError: lists that mean some experts of a layer, layers whose order is not known.

    """
    return _stored(tree, quantisation, tuple(params.items()), tuple(run.axes.items()))


@lru_cache(maxsize=64)
def _stored(
    tree: Tree,
    quantisation: Quantisation,
    params: tuple[tuple[str, Number], ...],
    axes: tuple[tuple[str, int], ...],
) -> Tree:
    sizes, mesh = dict(params), dict(axes)
    _require_even(quantisation, int(sizes.get("num_experts", 0)))
    layers = tuple(layers_of(tree, sizes, mesh.get("pp", 1)))
    return stored(tree, quantisation, layers, {**sizes, **dict.fromkeys(mesh, 1)})


def layers_of(tree: Tree, params: Mapping[str, Number], stages: int) -> Iterator[Layers]:
    """Yield which layers the nodes of a tree are, of each of its lists of layers whose order is known."""
    divided = stack_of(tree.source) if stages > 1 else None
    for stack in chain.from_iterable(map(lists_of, stacks_of(tree.source))):
        try:
            order = order_in(stack, tree.source, params)
        except (InputError, FormulaError):
            continue
        numbers = range(len(order))
        if stack == divided:
            stage = tree.division.stage
            assert stage is not None
            numbers = range(*range_of(len(order), stages, stage))
        kinds = tuple(
            (kind.name, tuple(layer for layer in numbers if order[layer] == place))
            for place, kind in enumerate(stack.kinds)
        )
        is_whole = stages == 1 and len(kinds) == 1 and (stack.reads_text or tree.source.reads is None)
        yield Layers(stack.inside, kinds, is_whole)


def _require_even(quantisation: Quantisation, experts: int) -> None:
    """Raise if a list means some experts of a layer and not the others: they are counted as one matrix."""
    named: dict[str, set[int]] = {}
    for pattern in (pattern for choice in quantisation.choices for pattern in choice.patterns):
        if found := _EXPERT.search(pattern):
            number = found[1]
            every = number.startswith(("\\d", "[0-9]"))  # any number
            numbers = {int(number)} if number.isdigit() else {*range(experts)} if every else {-1}
            named.setdefault(f"{pattern[: found.start(1)]}*{pattern[found.end(1) :]}", set()).update(numbers)
    for pattern, numbers in named.items():
        if numbers != {*range(experts)}:
            raise InputError(
                f"quantization_config means single experts, {quote(pattern)}: those of a layer are counted alike, so "
                "give a scheme's name as quant, or quant=none"
            )
