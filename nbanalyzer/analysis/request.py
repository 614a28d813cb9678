"""A whole request: a prompt is read, then token after token is written. Its costs, and its times on an accelerator."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from nbanalyzer.costs.count import as_run
from nbanalyzer.costs.passes import passes_of
from nbanalyzer.costs.run import MESH, read_size
from nbanalyzer.errors import InputError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.accelerators import hardware as find_hardware
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.hardware.profiles import profile as find_profile

from .analysis import Analysis
from .communication import Communication
from .populate import Source, populate
from .price import Price
from .rates import Efficiency
from .request_costs import RequestCosts
from .request_timing import RequestTiming

__all__ = ["Request", "RequestTiming", "request"]


def request(
    model: Source,
    *,
    prompt_len: int,
    output_len: int,
    config: object = None,
    set: Mapping[str, int] | None = None,  # noqa: A002 - the users' word: --set
    tp: int = 1,
    **run: Any,
) -> Request:
    """Return what a request costs: a prompt of `prompt_len` tokens read, `output_len` tokens written.

    The prompt's pass gives the first token, each decode step another one, so there are ``output_len - 1`` steps. An
    encoder-decoder model reads the prompt with its encoder and begins to write after one start token.

    Args:
        model: as for `populate`.
        prompt_len: tokens per sequence, at least 1.
        output_len: tokens per sequence, at least 1.
        config: as for `populate`.
        set: as for `populate`.
        tp: devices that an engine divides the model over, by its heads and widths; everything is then one rank's.
        run: batch_size, w_bit, a_bit, kv_bit, quant, attn, logits (here ``"last"``, as generate() does), mla, causal,
            the other axes of a mesh, fusion (``"engine"`` with several devices).

    Raises:
        NBAnalyzerError: bad input, or a model that writes nothing.

    """
    for name in ("seq_len", "cache_len", "encoder_len"):
        if name in run:
            raise InputError(f"a request takes prompt_len and output_len, not {name}")
    read_size("prompt_len", prompt_len, 1)
    read_size("output_len", output_len, 1)
    common: dict[str, Any] = {"config": config, "set": set, "logits": "last", **run}
    mesh = as_run({name: value for name, value in (("tp", tp), *run.items()) if name in MESH})
    if mesh.devices > 1:
        _require_engine(mesh.axes, run)
        common |= {"tp": tp, "fusion": "engine"}
    first = populate(model, seq_len=prompt_len, **common)
    if not first.template.state:
        raise InputError(f"{first.title} keeps nothing from one pass to the next: it writes no text, token by token")
    _require_kept(first, output_len)
    passes = passes_of(has_encoder="encoder_len" in first.variables)
    lengths = {"prompt_len": prompt_len, "output_len": max(output_len, 2)}

    def populated(formulas: Mapping[str, str]) -> Analysis:
        sizes: dict[str, Any] = {name: parse(text).evaluate(lengths) for name, text in formulas.items()}
        return populate(model, **sizes, **common)

    if "encoder_len" in first.variables:
        first = populated(passes.first)
    last = populated(passes.last)
    return Request(first, last, prompt_len, output_len, tp)


def _require_kept(first: Analysis, output_len: int) -> None:
    """Raise if a model has forgotten some of what it wrote before a request ends."""
    reads = first.template.reads
    if reads is None or not reads.written:
        return
    window = int(parse(reads.written).evaluate(first.params))
    if output_len > window:
        raise InputError(
            f"output_len={output_len}: of what {first.title} writes it keeps the last {window - 1} tokens beside its "
            f"prompt, and a request of more than {window} is not modelled"
        )


def _require_engine(axes: Mapping[str, int], run: Mapping[str, Any]) -> None:
    """Raise if a run says otherwise than an engine does with these devices."""
    name = ", ".join(f"{axis}={size}" for axis, size in axes.items())
    if run.get("fusion", "engine") != "engine":
        raise InputError(f"{name} is of a serving engine, which fuses kernels: leave fusion={run['fusion']} out")


class Request(RequestCosts):
    """What a request costs, see `RequestCosts`, and what can be asked of it: how long it takes."""

    def on(
        self,
        hardware: str | os.PathLike[str] | Accelerator,
        *,
        compute_efficiency: float = 1.0,
        bandwidth_efficiency: float = 1.0,
        launch_overhead: float = 0.0,
        profile: str | os.PathLike[str] | Profile | None = None,
        nodes: int = 1,
        price: float | None = None,
        grid: float | None = None,
    ) -> RequestTiming:
        """Return how long the request takes on an accelerator: at the roofline, and as it is expected to.

        Args:
            hardware: as for `Analysis.on`, with the efficiencies, the overhead and the profile.
            compute_efficiency: at the roofline.
            bandwidth_efficiency: at the roofline.
            launch_overhead: at the roofline.
            profile: what estimates are made with.
            nodes: that the devices are spread over.
            price: $ an hour of a device.
            grid: g of CO2 a kWh.

        Raises:
            NBAnalyzerError: as for `Analysis.on`, a price that cannot be, or a pipeline of stages.

        """
        efficiency = Efficiency(
            compute=compute_efficiency, bandwidth=bandwidth_efficiency, launch_overhead=launch_overhead
        )
        card = find_hardware(hardware)
        if (stages := self.last.run.pp) > 1:
            raise InputError(
                f"not modelled: the time of a request through pp={stages} stages, of which these are the costs of one: "
                "fit has the bound of a token through all of them"
            )
        cost = Price(card, self.tp, price=price, grid=grid)
        return RequestTiming(self, card, efficiency, find_profile(profile, card), cost, Communication(nodes))
