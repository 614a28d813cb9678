"""The tool about several devices: on which meshes a model can serve requests, the best first."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nbanalyzer.analysis.capacity import MEMORY_FRACTION
from nbanalyzer.analysis.search import Placement, Search, fit
from nbanalyzer.costs.run import QUANT, SIZES
from nbanalyzer.errors import InputError
from nbanalyzer.quantities import seconds, si

from .answers import Rows, finite, page
from .arguments import Limit, Model, Names, Offset
from .passes import Number
from .shelf import Shelf, card_of, profile_of, remarks

__all__ = ["meshes"]

MOST_WHERE = 8
MOST_WITHOUT = 12
_Some = {"minimum": 1}


class Meshes(Model, frozen=True, kw_only=True):
    """What is to be served, and on what."""

    hardware: Annotated[Names, Meta(description="accelerators to look at; all if left out")] = msgspec.field(
        default_factory=list
    )
    prompt_len: Annotated[int, Meta(description="tokens that each sequence reads", extra_json_schema=_Some)] = 1024
    output_len: Annotated[int, Meta(description="tokens that each writes", extra_json_schema=_Some)] = 256
    batch_size: Annotated[int, Meta(description="sequences at a time, over all replicas", extra_json_schema=_Some)] = 1
    w_bit: Annotated[int | None, Meta(description=SIZES["w_bit"])] = None
    a_bit: Annotated[int | None, Meta(description=SIZES["a_bit"])] = None
    kv_bit: Annotated[int | None, Meta(description=SIZES["kv_bit"])] = None
    quant: Annotated[str | None, Meta(description=QUANT)] = None
    minimize: Annotated[
        Literal["devices", "cost", "time_per_output_token"],
        Meta(description="what the best mesh has least of; cost needs a price"),
    ] = "devices"
    where: Annotated[
        Names, Meta(description='conditions, formulas over the fields of a row: "{tokens_per_s} >= 1000", "{tp} <= 8"')
    ] = msgspec.field(default_factory=list)
    max_devices: Annotated[int, Meta(description="of a mesh", extra_json_schema={"minimum": 1, "maximum": 1024})] = 64
    price: Annotated[float | None, Meta(description="$ an hour of a device, the same for all accelerators")] = None
    prices: Annotated[dict[str, float], Meta(description="accelerator → $ an hour of a device, in place of price")] = (
        msgspec.field(default_factory=dict)
    )
    memory_fraction: Annotated[float, Meta(description=f"share of the memory that may be used ({MEMORY_FRACTION})")] = (
        MEMORY_FRACTION
    )
    profile: Annotated[str, Meta(description="the engine that the estimate is of: vllm, sglang or trtllm")] = ""
    limit: Limit = 20
    offset: Offset = 0


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A mesh of an accelerator that the model fits on; times are bounds.

    Attributes:
        hardware: the accelerator.
        memory_bytes: that the fullest rank needs.
        free_bytes: that are left of what may be used.
        time_to_first_token: seconds until the prompts are read, at least.
        time_per_output_token: seconds of the last decode step, at least.
        tokens_per_s: written, of all sequences, at most.
        cost_per_million_tokens: $ at least; None without a price.

    """

    hardware: str
    devices: int
    nodes: int
    tp: int
    ep: int
    pp: int
    dp: int
    memory_bytes: Number
    free_bytes: Number
    time_to_first_token: float | None
    time_per_output_token: float | None
    tokens_per_s: float | None
    cost_per_million_tokens: float | None


class Placed(Rows, frozen=True, kw_only=True):
    """The meshes that a model can serve requests on.

    Attributes:
        model: its id and class.
        asked: the question, in words.
        minimize: what the first row has least of.
        estimate: seconds per output token that are expected on the first mesh, low, value and high; or why there is
            none; None if there is no mesh.
        rows: the meshes, the best first.
        without: accelerator → why it has none.
        without_total: how many have none.
        warnings: what to know before believing the numbers.

    """

    model: str
    asked: str
    minimize: str
    estimate: dict[str, Any] | str | None
    rows: list[Place]
    without: dict[str, str]
    without_total: int
    warnings: list[str]

    def words(self) -> str:
        """Return the best mesh, and those after it."""
        lines = [f"{self.model}; {self.asked}; least {self.minimize} first"]
        lines += [] if self.total else ["no mesh fits, or fulfils the conditions"]
        lines += [_line(one) for one in self.rows[:12]]
        lines += [f"no place on {name}: {why}" for name, why in [*self.without.items()][:4]]
        return "\n".join([*lines, *self.rest, *(f"warning: {text}" for text in self.warnings)])


def meshes(shelf: Shelf, asked: Meshes) -> Placed:
    """Find the meshes of devices that a model fits on and can serve requests on: tensor, expert, pipeline, replicas.

    The best first: fewest devices, least cost per million tokens at a price, or least time per output token. All
    numbers of a row are of the whole mesh, but for the memory, which is the fullest device's.
    """
    if asked.price is not None and asked.prices:
        raise InputError("give price or prices, not both")
    if len(asked.where) > MOST_WHERE:
        raise InputError(f"at most {MOST_WHERE} conditions, not {len(asked.where)}")
    model, config = shelf.subject(asked)
    bits = {
        name: value for name in ("w_bit", "a_bit", "kv_bit", "quant") if (value := getattr(asked, name)) is not None
    }
    changes = {"set": asked.set} if asked.set else {}
    found = fit(
        model,
        hardware=[card_of(name) for name in asked.hardware] or None,
        prompt_len=asked.prompt_len,
        output_len=asked.output_len,
        batch_size=asked.batch_size,
        minimize=asked.minimize,
        where=tuple(asked.where),
        max_devices=asked.max_devices,
        price={card_of(name).name: price for name, price in asked.prices.items()} or asked.price,
        profile=profile_of(asked.profile),
        memory_fraction=asked.memory_fraction,
        config=config,
        **bits,
        **changes,
    )
    rows, place = page([_place(one) for one in found.placements], asked.limit, asked.offset)
    return Placed(
        model=found.title,
        asked=found.asked,
        minimize=found.goal,
        estimate=_estimate(found),
        rows=rows,
        without=dict([*found.without.items()][:MOST_WITHOUT]),
        without_total=len(found.without),
        warnings=remarks(model),
        **place,
    )


def _estimate(found: Search) -> dict[str, Any] | str | None:
    if not found.placements:
        return None
    estimate = found.estimate(found.best)
    return estimate if isinstance(estimate, str) else asdict(estimate)


def _place(one: Placement) -> Place:
    fields: dict[str, Any] = asdict(one)
    fields |= {name: finite(value) for name, value in fields.items() if isinstance(value, float)}
    return Place(**fields)


def _line(one: Place) -> str:
    axes = [f"{name}={size}" for name in ("tp", "ep", "pp", "dp") if (size := getattr(one, name)) > 1]
    mesh = f"{one.devices} devices, {' '.join(axes)}" if axes else "one device"
    token = "unknown" if one.time_per_output_token is None else seconds(one.time_per_output_token)
    cost = "" if one.cost_per_million_tokens is None else f", ${one.cost_per_million_tokens:.3g} per million tokens"
    return f"{one.hardware}: {mesh}, {si(one.free_bytes, 'B')} left, at least {token} a token{cost}"
