"""Which layers of a tree are which, so that lists of modules can be read; and the trees that were stored so, kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from nbanalyzer.errors import InputError
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.templates.choices import Quantisation

from .run import Run
from .stages import order_of, range_of, stack_of
from .stored import Layers, stored
from .tree import Tree

__all__ = ["stored_tree"]


def stored_tree(tree: Tree, quantisation: Quantisation, params: Mapping[str, Number], run: Run) -> Tree:
    """Return a tree whose weights are stored in schemes.

    Args:
        tree: as it runs.
        quantisation: which weights are in which scheme.
        params: the model's sizes.
        run: its mesh decides the sizes of a rank.

    Raises:
        InputError: weights that ranks share, or layers whose order is not known.

    """
    if run.fsdp > 1:
        raise InputError(
            f"not modelled: fsdp={run.fsdp} with weights in {quantisation.name}, of which it shards the rows: "
            "quant=none counts 16 bits"
        )
    return _stored(tree, quantisation, tuple(params.items()), tuple(run.axes.items()))


@lru_cache(maxsize=64)
def _stored(
    tree: Tree,
    quantisation: Quantisation,
    params: tuple[tuple[str, Number], ...],
    axes: tuple[tuple[str, int], ...],
) -> Tree:
    sizes = dict(params)
    return stored(
        tree, quantisation, layers_of(tree, sizes, dict(axes).get("pp", 1)), {**sizes, **dict.fromkeys(dict(axes), 1)}
    )


def layers_of(tree: Tree, params: Mapping[str, Number], stages: int) -> Layers | None:
    """Return which layers the nodes of a tree are; None if it has no list of layers, or their order is not known."""
    try:
        whole = stack_of(tree.source)
        order = order_of(tree.source, params)
    except InputError:
        return None
    numbers = range(len(order))
    if stages > 1:
        stage = tree.division.stage
        assert stage is not None
        numbers = range(*range_of(len(order), stages, stage))
    kinds = tuple(
        (kind.name, tuple(layer for layer in numbers if order[layer] == place))
        for place, kind in enumerate(whole.kinds)
    )
    return Layers(whole.inside, kinds, is_whole=stages == 1 and len(kinds) == 1)
