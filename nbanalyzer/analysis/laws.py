"""What the laws of a profile read of a launch, and the time that they give: over numbers or polynomials alike."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from nbanalyzer.costs.launch import Amount, Launch
from nbanalyzer.costs.run import NEVER_ZERO, Run
from nbanalyzer.costs.tree import Node
from nbanalyzer.errors import FormulaError, NotModelledError
from nbanalyzer.formulas.extremes import decided
from nbanalyzer.formulas.formula import Formula, parse
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.formulas.polynomial import Atom, Polynomial
from nbanalyzer.formulas.simplify import applied, expanded, reduced
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.links import Fabric
from nbanalyzer.hardware.parameters import ANY, ARITHMETIC, Parameters
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.templates.template import Composite

from .communication import MICRO, ONE_NODE, Communication, between_us, group_of, message, note_of
from .quants import precision_of, scheme_of

__all__ = ["Pace", "arithmetic"]

_BATCH, _EXPERTS, _TOKENS = parse("{batch_size}"), parse("{num_experts}"), parse("{batch_size} * {seq_len}")
_HIDDEN, _ROUTED = parse("{hidden_size}"), parse("{batch_size} * {seq_len} * {experts_per_token}")
_ELEMENT = parse("{a_bytes}")


def arithmetic(accelerator: Accelerator, precision: str) -> str | None:
    """Return the precision whose peak counts for one of a profile's, on this accelerator; None if none is known."""
    choices = (ARITHMETIC.get(precision, precision), "bf16", "fp16", "fp32")
    return next((one for one in choices if one in accelerator.peaks), None)


@dataclass(frozen=True)
class Pace:
    """What an engine reaches on an accelerator, for a run's precisions.

    Args:
        accelerator: where.
        profile: the engine's.
        run: its bits decide the precision of weights that are in no scheme.
        is_latent: whether attention works on a latent.
        communication: where the devices of the run's mesh are.

    """

    accelerator: Accelerator
    profile: Profile
    run: Run
    is_latent: bool = False
    communication: Communication = ONE_NODE

    @cached_property
    def fabric(self) -> Fabric:
        """The links between the devices of the run's mesh, see `nbanalyzer.analysis.rates.Rates.fabric`."""
        return self.accelerator.fabric(self.run.axes, self.communication.nodes)

    def is_between_nodes(self, launch: Launch[Any]) -> bool:
        """Return whether a launch communicates with other nodes."""
        return launch.kind == "link" and any(level.is_network for level in self.fabric.levels(*group_of(launch)))

    def law(self, launch: Launch[Any]) -> Parameters:
        """Return the law of a launch, with the profile's parameters.

        Raises:
            NotModelledError: nobody measured such launches: they are not modelled.

        """
        found = self.profile.parameters(self.kind(launch), self.precision(launch), in_model=True)
        return replace(found, note=note_of(launch, self.fabric)) if launch.kind == "link" else found

    def kind(self, launch: Launch[Any]) -> str:
        """Return the class of kernel that a launch belongs to.

        Raises:
            NotModelledError: it belongs to none.

        """
        if launch.kind == "scan":
            raise NotModelledError(
                "not modelled: state-space and linear attention, of which no measured kernels are at hand"
            )
        if launch.kind == "attention" and self.is_latent:
            raise NotModelledError("not modelled: latent attention, of which no measured kernels are at hand")
        if launch.kind == "attention":
            return "decode_attention" if self.run.seq_len == 1 else "prefill_attention"
        return {"chain": "elementwise", "link": "all_reduce"}.get(launch.kind, launch.kind)

    def precision(self, launch: Launch[Any]) -> str:
        """Return the precision of a launch, by the names of profiles."""
        if launch.kind == "link":
            return ANY
        run, has_weights = self.run, launch.kind in {"linear", "experts"}
        if not has_weights:
            return "fp8_cache" if launch.kind == "attention" and run.kv_bit == 8 else "bf16"
        if scheme := scheme_of(launch):
            return precision_of(scheme, self.accelerator)
        if run.a_bit > 8:
            return "bf16" if run.w_bit > 8 else f"int{8 if run.w_bit > 4 else 4}_wo"
        return "fp8" if max(run.w_bit, run.a_bit) > 4 else "nvfp4"

    def figures(self, launch: Launch[Amount], value_of: Callable[[Formula], Amount]) -> dict[str, Any]:
        """Return what laws read of one run of a launch: numbers, or polynomials.

        Args:
            launch: of an engine's list.
            value_of: formula of global variables → its value.

        """
        if launch.kind == "link":
            return message(launch, self.fabric)
        rate = self.accelerator.bandwidth / MICRO
        weights = launch.weights
        found: dict[str, Any] = {
            "memory_us": launch.bytes / rate,
            "weight_us": weights / rate,
            "cache_us": launch.cache / rate,
            "activation_us": launch.activations / rate,
            "compute_us": self._compute(launch),
            "num_sequences": value_of(_BATCH),
        }
        module = launch.nodes[0].parent
        bindings = module.kernel.bindings if module and isinstance(module.kernel, Composite) else {}
        for name in ("num_tokens", "input_size"):
            found[name] = value_of(parse(bindings.get(name, "0")))
        if launch.kind == "linear":  # linears that share their input are one product: their columns add up
            found["output_size"] = _ratio(launch.matmul_flops, found["num_tokens"] * found["input_size"] * 2)
        if launch.kind == "attention":
            for name in ("num_heads", "num_kv_heads"):
                with suppress(FormulaError):  # a model by hand need not say it: laws that read it say so
                    found[name] = value_of(parse(f"ceil({{{name}}} / {self.run.tp})"))
            found["num_tokens"] = value_of(_TOKENS)
            # Every pair of a query and a key that it sees takes two products over the elements of query and result.
            found["context"] = _ratio(launch.matmul_flops * value_of(_ELEMENT), launch.activations * 2)
        if launch.kind == "experts":
            all_of_them = value_of(_owner(launch).own_weight_bytes)
            found["experts_touched"] = _ratio(launch.weights * value_of(_EXPERTS), all_of_them)
            # Between the products of an expert, gate, up and down, engines go through memory: laws are fitted so.
            hidden = value_of(_HIDDEN)
            elements = value_of(_ROUTED) * hidden * 2 + _ratio(launch.matmul_flops, hidden * 2)
            found["activation_us"] = elements * value_of(_ELEMENT) / rate
            found["memory_us"] = found["weight_us"] + found["activation_us"]
        return found

    def time_us(self, launch: Launch[Number], value_of: Callable[[Formula], Number]) -> float:
        """Return the microseconds that one run of a launch takes."""
        figures = self.figures(launch, value_of)
        inside = self.law(launch).time_us({name: float(value) for name, value in figures.items()})
        return inside + float(between_us(launch, self.fabric)) if launch.kind == "link" else inside

    def polynomial_us(self, launch: Launch[Polynomial], value_of: Callable[[Formula], Polynomial]) -> Polynomial:
        """Return the microseconds that one run of a launch takes, as a polynomial of what stays free."""
        from nbanalyzer.costs.symbolic import never_negative  # not needed for numbers

        law, figures = self.law(launch), self.figures(launch, value_of)
        law.require(figures)
        inside = decided(expanded(law.formula, figures).replace(_reduced), never_negative)
        return inside + between_us(launch, self.fabric) if launch.kind == "link" else inside

    def _compute(self, launch: Launch[Amount]) -> Any:
        """Return the microseconds of a launch's FLOPs at their peak; of a chain, which has no products, all others."""
        if launch.kind == "chain":
            peak = self.accelerator.vector_peak
            return launch.vector_flops / (peak / MICRO) if peak else launch.vector_flops * 0
        if not launch.matmul_flops:
            return launch.matmul_flops
        name = arithmetic(self.accelerator, self.precision(launch))
        if name is None:
            return launch.matmul_flops * 0
        return launch.matmul_flops / (self.accelerator.peaks[name] / MICRO)


def _owner(launch: Launch[Any]) -> Node:
    """Return the module that holds the experts' weights."""
    product = next(node for node in launch.nodes if "w_bytes" in node.sizes)  # tokens may be copied before
    return next(module for module in product.around if "num_experts" in module.own_parameters.variables)


def _reduced(atom: Atom) -> Polynomial:
    """Return an operation with what is rounded reduced: blocks of 128 tokens of a sequence are those of any batch."""
    if atom.operation == "variable":
        return Polynomial.of(atom)
    arguments = tuple(argument.replace(_reduced) for argument in atom.arguments)
    if atom.operation in {"ceil", "//"}:
        arguments = reduced(arguments[0], arguments[1], NEVER_ZERO)
    return applied(atom.operation, arguments)


def _ratio(dividend: Any, divisor: Any) -> Any:
    if isinstance(dividend, Polynomial):
        return applied("/", reduced(dividend, divisor, NEVER_ZERO)) if divisor else divisor
    return dividend / divisor if divisor else 0
