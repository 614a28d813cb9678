"""Sharded data parallelism in training: what a step communicates, and what a rank keeps of weights, gradients, state.

FSDP2 (`torch.distributed.fsdp.fully_shard`) gathers a unit of weights before it runs and again before its backward
pass, unless it was kept; afterwards the ranks sum its gradients, each keeping a part (reduce-scatter). HSDP, `dp`
copies of `fsdp` ranks, sums each part over the copies as well (all-reduce). ZeRO (Rajbhandari et al. 2020,
arXiv:1910.02054) says what is divided: optimizer state (stage 1), gradients too (2), weights too (3, which FSDP is).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.shards import EXPERTS
from nbanalyzer.costs.tree import Node
from nbanalyzer.errors import InputError, UnknownNameError, quote
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.templates.template import Basic

__all__ = ["OPTIMIZERS", "States", "Step", "Unit", "states_of", "step_of", "units_of"]

Plan = Literal["layers", "transformers"]


@dataclass(frozen=True)
class Unit:
    """Weights that are gathered together.

    Attributes:
        name: of the layer or of what it is.
        times: how many such units there are.
        part: elements that a rank keeps of one.
        ranks: that gather it.
        reshards: whether the whole is freed after the forward pass, and gathered again before the backward pass.

    """

    name: str
    times: Number
    part: Number
    ranks: int
    reshards: bool

    @property
    def whole(self) -> Number:
        """Elements after gathering one, with the rows that fill it up."""
        return normalize(self.part * self.ranks)


def units_of(costs: Costs, plan: Plan = "layers") -> list[Unit]:
    """Return the units of a pass on ``fsdp`` ranks, the root first.

    Args:
        costs: of a run with ``fsdp``.
        plan: ``"layers"``: each layer, and all else as the root, which is kept, as `fully_shard` does when it is called
            on each layer and on the model; ``"transformers"``: its own plan, the embedding, each layer, and final norm
            and head together, which are kept; a head that is the embedding takes that along.

    Raises:
        InputError: a run without ``fsdp``, with experts that are spread over some of its ranks, or with weights in a
            scheme.

    """
    ranks = costs.run.fsdp
    gathers = [node for node in costs.nodes if _is_gather(node)]
    if ranks == 1 or not gathers:
        raise InputError("weights are whole on every rank: populate with fsdp=8, or as many ranks as share them")
    if any(node.path.split(".")[-2].startswith(EXPERTS) for node in gathers):
        raise InputError("not modelled: a step of training with experts that are spread over some of the shards, by ep")
    if costs.kernel_tree.stored:
        raise InputError("not modelled: a step of training of weights in a scheme, which have no gradients: quant=none")
    found = []
    for node in gathers:
        part = normalize(Fraction(_payload(costs, node)) / ranks / Fraction(costs.values["w_bytes"]))
        if layer := _layer_of(node):
            found.append(Unit(layer.path, costs.cost(node).copies, part, ranks, reshards=True))
        elif plan == "layers":
            found.append(Unit("root", 1, part, ranks, reshards=False))
    return found if plan == "layers" else [*_around(costs, gathers), *found]


def _around(costs: Costs, gathers: Sequence[Node]) -> list[Unit]:
    """Return what transformers gathers beside the layers."""
    layers, ranks = {_layer_of(node) for node in gathers} - {None}, costs.run.fsdp
    before: Number = 0
    after: Number = 0
    has_layers = False
    for node in costs.nodes:
        has_layers |= node in layers
        if node.is_basic or not layers.isdisjoint(_with_modules_around(node)):
            continue
        own = costs.cost(node).copies * costs.value_of(node.own_parameters)
        before, after = (before, after + own) if has_layers else (before + own, after)
    if costs.params.get("tie_word_embeddings"):
        return [Unit("embedding, norm and head", 1, before + after, ranks, reshards=False)]
    embedding = Unit("embedding", 1, before, ranks, reshards=True)
    return [embedding, Unit("norm and head", 1, after, ranks, reshards=False)]


def _with_modules_around(node: Node) -> Iterator[Node]:
    above: Node | None = node
    while above is not None:
        yield above
        above = above.parent


def _is_gather(node: Node) -> bool:
    return isinstance(node.kernel, Basic) and (node.kernel.collective, node.kernel.group) == ("all_gather", "fsdp")


def _layer_of(node: Node) -> Node | None:
    """Return the layer whose weights a kernel gathers; None for the root's."""
    return node.module_around


def _payload(costs: Costs, node: Node) -> Number:
    assert isinstance(node.kernel, Basic)
    return costs.value_of(parse(node.kernel.payload))


@dataclass(frozen=True)
class Step:
    """What a rank communicates in one step of training, in bytes of whole tensors.

    Attributes:
        gathered_forward: weights, before the forward pass.
        gathered_backward: weights, again, before the backward pass.
        scattered: gradients that the ranks sum, each keeping its part.
        reduced: parts of gradients that the copies of the model sum.

    """

    gathered_forward: Number
    gathered_backward: Number
    scattered: Number
    reduced: Number


def step_of(costs: Costs, plan: Plan = "layers", gradient_bytes: int | None = None) -> Step:
    """Return what a step communicates for its weights; activations' parallel axes have traffic of their own.

    Args:
        costs: of a run with ``fsdp``; ``dp`` are the copies of HSDP.
        plan: see `units_of`.
        gradient_bytes: of an element, in sums; as a weight's if None.

    Raises:
        InputError: as for `units_of`.

    """
    units = units_of(costs, plan)
    weight = costs.values["w_bytes"]
    gradient = weight if gradient_bytes is None else gradient_bytes
    whole = sum(unit.times * unit.whole for unit in units)
    again = sum(unit.times * unit.whole for unit in units if unit.reshards)
    parts = sum(unit.times * unit.part for unit in units) if costs.run.dp > 1 else 0
    numbers = (whole * weight, again * weight, whole * gradient, parts * gradient)
    return Step(*map(normalize, numbers))


OPTIMIZERS: Mapping[str, tuple[int, int, int]] = MappingProxyType({"adam_mixed": (2, 2, 12), "adamw": (2, 2, 4)})
"""Bytes per parameter of weight, gradient and optimizer state.

``adam_mixed`` as ZeRO's paper counts Adam in mixed precision, with an fp32 copy of the weights and two fp32 moments;
``adamw`` as PyTorch's own, of bf16 weights, keeps both moments in bf16.
"""

_DIVIDED_FROM = {"weights": 3, "gradients": 2, "optimizer": 1}
"""The first stage of ZeRO that divides something."""


@dataclass(frozen=True)
class States:
    """What a rank keeps in training beside activations, in bytes."""

    weights: Number
    gradients: Number
    optimizer: Number

    @property
    def total(self) -> Number:
        """All of it."""
        return normalize(self.weights + self.gradients + self.optimizer)


def states_of(parameters: Number, ranks: int, stage: int, optimizer: str = "adam_mixed") -> States:
    """Return what a rank keeps of a model in training.

    Args:
        parameters: of the whole model, or of the part of it that these ranks share.
        ranks: that share it.
        stage: of ZeRO: 0 divides nothing, 1 the optimizer's state, 2 gradients too, 3 weights too.
        optimizer: of `OPTIMIZERS`.

    Raises:
        InputError: a stage or a number of ranks that does not exist.

    """
    if optimizer not in OPTIMIZERS:
        raise UnknownNameError("optimizer", optimizer, OPTIMIZERS)
    if isinstance(stage, bool) or stage not in {0, 1, 2, 3}:
        raise InputError(f"stage is 0, 1, 2 or 3, ZeRO's, not {quote(stage)}")
    if isinstance(ranks, bool) or not isinstance(ranks, int) or ranks < 1:
        raise InputError(f"ranks is a whole number from 1, not {quote(ranks)}")
    sizes = zip(_DIVIDED_FROM.items(), OPTIMIZERS[optimizer], strict=True)
    parts = {name: Fraction(size, ranks if stage >= first else 1) for (name, first), size in sizes}
    return States(**{name: normalize(parameters * size) for name, size in parts.items()})
