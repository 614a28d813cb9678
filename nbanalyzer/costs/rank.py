"""One rank of a mesh: its stage's layers, its part of the sizes, of the weights and of the tokens, in this order."""

from __future__ import annotations

from collections.abc import Mapping

from nbanalyzer.errors import InputError
from nbanalyzer.formulas.formula import Formula
from nbanalyzer.templates.template import ModelTemplate

from .context import NOT_CHECKED, context
from .division import Division, Stage
from .plan import plan_of
from .run import Layout, Run
from .sharding import sharded
from .shards import gathered
from .stages import busiest, order_of, range_of, staged
from .tree import Tree

__all__ = ["divided", "require_division", "stage_of"]


def divided(varied: ModelTemplate, source: ModelTemplate, layout: Layout, stage: Stage | None) -> Tree:
    """Return the tree of one rank of a mesh.

    Args:
        varied: the template, in the variants of the run.
        source: the same with all variants.
        layout: the axes of the mesh.
        stage: of a pipeline; None for all layers.

    Raises:
        InputError: a model that is not divided so.

    """
    template, notes = varied, list[str]()
    sizes: Mapping[Formula, str] = {}
    if stage:
        params = dict(stage.sizes)
        layers = range_of(len(order_of(varied, params)), stage.stages, stage.number)
        template = staged(template, params, stage.stages, stage.number)
        tower = f", and what reads {varied.reads.what}" if varied.reads and stage.number == 0 else ""
        notes.append(f"stage {stage.number} with layers {layers.start} to {layers.end - 1}{tower}")
    if layout.axes & {"tp", "ep"}:
        template, division = sharded(template, plan_of(varied, layout), layout)
        sizes = division.sizes
        notes += division.notes
    if "fsdp" in layout.axes:
        template = gathered(template, layout.axes, whole_experts=layout.spreads_over_shards)
    if "cp" in layout.axes:
        template = context(template)
        notes += [f"every rank of cp reads all {varied.reads.what}"] if varied.reads else []
        notes.append(NOT_CHECKED)
    return Tree(template, source, division=Division(sizes, tuple(notes), stage.number if stage else None))


def stage_of(tree: Tree, params: Mapping[str, int], run: Run) -> Stage:
    """Return the stage that a run is of: of the rank that it says, or the busiest.

    Args:
        tree: of the whole model.
        params: its sizes.
        run: with the number of stages.

    """
    number = run.places["pp"]
    if number is None:
        number = busiest(tree, {**params, **run.values()}, run.pp)
    return Stage(number, run.pp, tuple(params.items()))


def require_division(tree: Tree, params: Mapping[str, int], run: Run) -> None:
    """Raise an `InputError` if a mesh needs equal parts of what does not divide, or changes nothing."""
    for size, axis in tree.division.sizes.items():
        value, ranks = size.evaluate(params), getattr(run, axis)
        if value % ranks:
            name = str(size).replace("{", "").replace("}", "")
            raise InputError(f"{axis}={ranks} does not divide {name} = {value:,} into equal parts")
    if run.ep > 1 and "ep" not in tree.division.sizes.values():
        raise InputError(f"ep={run.ep} changes nothing: this model has no experts to spread")
    if run.imbalance != 1 and run.ep == 1:
        raise InputError(f"imbalance={run.imbalance} changes nothing: it is of experts that are spread, by ep")
    heads = params.get("num_kv_heads")
    if heads and tree.division.sizes and heads % run.tp and run.tp % heads:
        raise InputError(f"tp={run.tp} does not divide num_kv_heads = {heads}, nor is it a multiple of it")
