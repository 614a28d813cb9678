"""Which meshes of devices a model can be divided over, and what each of their ranks keeps and takes, for any card.

The layers of a pipeline's stages are those of the whole model: a step takes as long over all stages together as
without a pipeline, and the sends besides. So only what a stage keeps has to be found anew for every number of stages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.launch import Launch
from nbanalyzer.costs.stages import order_of, per_layer, range_of, stack_of
from nbanalyzer.costs.tree import Node
from nbanalyzer.errors import InputError
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.hardware.accelerators import Accelerator

from .communication import Communication
from .memory import memory_of
from .rates import Rates, busy

__all__ = ["Division", "Mesh", "divisions", "nodes_of"]


class Mesh(NamedTuple):
    """The axes of a mesh that a search goes through: see `nbanalyzer.costs.run.MESH`."""

    tp: int = 1
    ep: int = 1
    pp: int = 1
    dp: int = 1

    @property
    def devices(self) -> int:
        """All of them."""
        return self.tp * self.pp * self.dp

    def __str__(self) -> str:
        return " ".join(f"{name}={size}" for name, size in self._asdict().items() if size > 1) or "one device"


def divisions(params: Mapping[str, int], *, has_experts: bool, most: int) -> Iterator[Mesh]:
    """Yield the meshes without a pipeline that a model might be divided over, of at most so many devices.

    Heads are divided by a number that divides them. Experts are divided by their width, or spread over all ranks, so
    many that they divide; replicas without such experts only repeat what one does.
    """
    heads, experts = params.get("num_heads") or 1, params.get("num_experts") or 0
    for tp in range(1, most + 1):
        if heads % tp:
            continue
        yield Mesh(tp)
        for ep in range(max(tp, 2), most + 1, tp):
            if has_experts and experts % ep == 0:
                yield Mesh(tp, ep, dp=ep // tp)


def nodes_of(devices: int, per_node: int) -> int | None:
    """Return the nodes that devices are spread over evenly; None if they do not spread so."""
    nodes = -(-devices // per_node)
    return nodes if devices % nodes == 0 else None


@dataclass(frozen=True)
class Division:
    """A model divided over a mesh without a pipeline: one rank's passes.

    Attributes:
        mesh: with ``pp`` 1.
        prefill: the pass that reads the prompts, as an engine runs it.
        step: the decode step with the most in the cache.

    """

    mesh: Mesh
    prefill: Costs
    step: Costs

    @cached_property
    def _kept(self) -> _Kept:
        return _Kept.of(self.step)

    @cached_property
    def activations(self) -> Number:
        """Bytes of the largest working set of both passes."""
        return max(memory_of(costs).activations for costs in (self.prefill, self.step))

    def memory(self, pp: int) -> Number:
        """Return the bytes that the fullest of `pp` stages needs.

        Raises:
            InputError: the model has fewer layers, or is not divided into stages.

        """
        kept = memory_of(self.step).weights + self.step.state_bytes if pp == 1 else self._kept.most(pp)
        return kept + self.activations

    def times(self, accelerator: Accelerator, pp: int) -> tuple[float, float]:
        """Return the seconds that the prompts and a decode step take at least, through all stages.

        Raises:
            InputError: links that it needs are not known, or its devices do not spread evenly over nodes.

        """
        nodes = nodes_of(self.mesh.devices, accelerator.devices_per_node)
        if nodes is None:
            raise InputError(f"{self.mesh} does not spread evenly over nodes of {accelerator.name}")
        where = Communication(nodes)
        first, step = (
            _bound(costs, launches, accelerator, where)
            for costs, launches in ((self.prefill, self._prefill_launches), (self.step, self._step_launches))
        )
        if pp > 1:
            first += self._sends(self.prefill, accelerator, pp)
            step += self._sends(self.step, accelerator, pp)
        return first, step

    def _sends(self, costs: Costs, accelerator: Accelerator, pp: int) -> float:
        """Return the seconds of what the stages send one another: the residual stream, between all of them."""
        sizes = {name: size for name, size in self.mesh._asdict().items() if size > 1} | {"pp": pp}
        nodes = nodes_of(self.mesh.devices * pp, accelerator.devices_per_node)
        if nodes is None:
            raise InputError(f"{self.mesh} with pp={pp} does not spread evenly over nodes of {accelerator.name}")
        stream = costs.run.batch_size * costs.run.seq_len * costs.params["hidden_size"] * float(costs.values["a_bytes"])
        return (pp - 1) * stream / accelerator.fabric(sizes, nodes).rate("send", "pp")

    @cached_property
    def _prefill_launches(self) -> list[Launch[Any]]:
        return _as_floats(self.prefill)

    @cached_property
    def _step_launches(self) -> list[Launch[Any]]:
        return _as_floats(self.step)


def _as_floats(costs: Costs) -> list[Launch[Any]]:
    """Return the launches with inexact amounts, which are quick to compute with."""
    launches: list[Launch[Any]] = [*costs.launches]
    return [
        launch._replace(
            times=float(launch.times),
            matmul_flops=float(launch.matmul_flops),
            vector_flops=float(launch.vector_flops),
            bytes=float(launch.bytes),
            weights=float(launch.weights),
            payload=float(launch.payload),
        )
        for launch in launches
        if launch.times
    ]


def _bound(costs: Costs, launches: list[Launch[Any]], accelerator: Accelerator, where: Communication) -> float:
    """Return the seconds of a pass at least, as `Roofline` adds them up."""
    rates = Rates(accelerator, costs.run, communication=where)
    return sum(max(busy(launch, rates).values(), default=0.0) for launch in launches)


@dataclass(frozen=True)
class _Kept:
    """What a rank's layers keep: bytes of weights and of state, by the kind of layer, and of what is around them.

    Attributes:
        order: the kind of every layer.
        layers: bytes of one layer of each kind.
        before, after: bytes of the weights before and after the layers.

    """

    order: tuple[int, ...]
    layers: tuple[Fraction, ...]
    before: Fraction
    after: Fraction

    @classmethod
    def of(cls, costs: Costs) -> _Kept:
        """Return it for the pass of a rank that has all layers."""
        template = costs.template
        stack = stack_of(template)
        paths = [".".join((*stack.inside, kind.name)) for kind in stack.kinds]
        nodes = {node.path: node for node in costs.nodes}
        layers = [Fraction(_weights(costs, nodes[path])) / (costs.costs[nodes[path]].copies or 1) for path in paths]
        for terms in per_layer(template, stack).values():
            for kind, share in terms:
                layers[kind] += Fraction(costs.value_of(share))
        place = costs.nodes.index(nodes[paths[0]])
        before, after, table = Fraction(), Fraction(), Fraction()
        for number, node in enumerate(costs.nodes):
            if node.is_basic or any(_is_in(node.path, path) for path in paths):
                continue
            own = costs.own_weight_bytes(node)
            before, after = (before + own, after) if number < place else (before, after + own)
            table += own if number < place and "vocab_size" in node.own_parameters.variables else 0
        if costs.values.get("tie_word_embeddings"):  # then the last stage keeps the table too
            after += table
        return cls(order_of(template, costs.params), tuple(layers), before, after)

    def most(self, pp: int) -> Number:
        """Return the bytes of the fullest of `pp` stages."""
        totals = []
        for stage in range(pp):
            start, end = range_of(len(self.order), pp, stage)
            total = sum((self.layers[kind] for kind in self.order[start:end]), Fraction())
            totals.append(total + self.before * (stage == 0) + self.after * (stage == pp - 1))
        return max(totals)


def _weights(costs: Costs, node: Node) -> Number:
    """Return the bytes of the parameters of a module and of all below it as they are stored, of all copies."""
    below = sum(_weights(costs, child) for child in node.children)
    return below if node.is_basic else costs.own_weight_bytes(node) + below


def _is_in(path: str, module: str) -> bool:
    return path == module or path.startswith(f"{module}.")
