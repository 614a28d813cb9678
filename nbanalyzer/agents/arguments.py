"""What tools take: structs whose fields are arguments, from which schemas follow.

Ranges stand in the schemas only: what is out of range is refused by who knows it, with its value in the message.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nbanalyzer.analysis.options import ACCEPTANCE, COMMUNICATION
from nbanalyzer.costs.run import MAX_DRAFTS, MAX_IMAGES, MAX_RANKS, MAX_SIZE, MEDIA, MESH, QUANT, SIZES, SWITCHES
from nbanalyzer.errors import InputError, quote

__all__ = [
    "Arguments", "Hardware", "Kinds", "Limit", "Model", "Names", "Nodes", "Offset", "Overlap", "Pass", "Values",
    "read_range",
]  # fmt: skip

Names = Annotated[list[str], Meta(extra_json_schema={"maxItems": 64})]
Values = Annotated[dict[str, list[int | str]], Meta(extra_json_schema={"maxProperties": 12})]
Kinds = Literal["models", "modules", "accelerators"]

Limit = Annotated[
    int,
    Meta(description="rows at most; fewer come if they are long", extra_json_schema={"minimum": 1, "maximum": 200}),
]
Offset = Annotated[
    int, Meta(description="rows to leave out: next_offset of the answer before", extra_json_schema={"minimum": 0})
]
Nodes = Annotated[int, Meta(description=COMMUNICATION["nodes"], extra_json_schema={"minimum": 1})]
Overlap = Annotated[float, Meta(description=COMMUNICATION["overlap"], extra_json_schema={"minimum": 0, "maximum": 1})]

_Images = {"minimum": 0, "maximum": MAX_IMAGES}
_Tokens = {"minimum": 1, "maximum": MAX_SIZE}
_Bits = {"minimum": 1, "maximum": 64}
_Ranks = {"minimum": 1, "maximum": MAX_RANKS}


class Arguments(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The arguments of a tool."""


class Model(Arguments, frozen=True, kw_only=True):
    """Which model."""

    model: Annotated[
        str,
        Meta(
            description="a name that nbanalyzer_list gives, org/name of a config in the local Hugging Face cache, or "
            "the name of a saved draft; never a path"
        ),
    ] = ""
    config: Annotated[
        dict[str, Any] | None,
        Meta(
            description="a config.json as data: gives the sizes for `model`, or is the model itself if `model` is left "
            "out (one that no shipped template fits is then traced, which needs torch and up to a minute)"
        ),
    ] = None
    set: Annotated[dict[str, int], Meta(description='config values to change, e.g. {"num_kv_heads": 4}')] = {}


class Pass(Model, frozen=True, kw_only=True):
    """A model, and a pass or several: what is left out has its default."""

    batch_size: Annotated[int | None, Meta(description=SIZES["batch_size"], extra_json_schema=_Tokens)] = None
    seq_len: Annotated[int | None, Meta(description=SIZES["seq_len"], extra_json_schema=_Tokens)] = None
    cache_len: Annotated[
        int | None, Meta(description=SIZES["cache_len"], extra_json_schema={"minimum": 0, "maximum": MAX_SIZE})
    ] = None
    encoder_len: Annotated[int | None, Meta(description=SIZES["encoder_len"], extra_json_schema=_Tokens)] = None
    images: Annotated[int | None, Meta(description=MEDIA["images"], extra_json_schema=_Images)] = None
    image_size: Annotated[str | None, Meta(description=MEDIA["image_size"])] = None
    audio_seconds: Annotated[float | None, Meta(description=MEDIA["audio_seconds"])] = None
    w_bit: Annotated[int | None, Meta(description=SIZES["w_bit"], extra_json_schema=_Bits)] = None
    a_bit: Annotated[int | None, Meta(description=SIZES["a_bit"], extra_json_schema=_Bits)] = None
    kv_bit: Annotated[int | None, Meta(description=SIZES["kv_bit"], extra_json_schema=_Bits)] = None
    quant: Annotated[str | None, Meta(description=QUANT)] = None
    fusion: Annotated[Literal["none", "engine"] | None, Meta(description=SWITCHES["fusion"].meaning)] = None
    attn: Annotated[Literal["sdpa", "eager"] | None, Meta(description=SWITCHES["attn"].meaning)] = None
    logits: Annotated[Literal["all", "last"] | None, Meta(description=SWITCHES["logits"].meaning)] = None
    mla: Annotated[Literal["expanded", "absorbed"] | None, Meta(description=SWITCHES["mla"].meaning)] = None
    causal: Annotated[Literal["off", "on"] | None, Meta(description=SWITCHES["causal"].meaning)] = None
    tp: Annotated[int | None, Meta(description=MESH["tp"], extra_json_schema=_Ranks)] = None
    ep: Annotated[int | None, Meta(description=MESH["ep"], extra_json_schema=_Ranks)] = None
    pp: Annotated[int | None, Meta(description=MESH["pp"], extra_json_schema=_Ranks)] = None
    dp: Annotated[int | None, Meta(description=MESH["dp"], extra_json_schema=_Ranks)] = None
    fsdp: Annotated[int | None, Meta(description=MESH["fsdp"], extra_json_schema=_Ranks)] = None
    cp: Annotated[int | None, Meta(description=MESH["cp"], extra_json_schema=_Ranks)] = None
    rank: Annotated[int | None, Meta(description=SIZES["rank"])] = None
    mtp: Annotated[
        int | None, Meta(description=SIZES["mtp"], extra_json_schema={"minimum": 0, "maximum": MAX_DRAFTS})
    ] = None
    acceptance: Annotated[
        float | None, Meta(description=ACCEPTANCE, extra_json_schema={"minimum": 0, "maximum": 1})
    ] = None
    comm: Annotated[Literal["transformers", "megatron"] | None, Meta(description=SWITCHES["comm"].meaning)] = None

    def run(self) -> dict[str, Any]:
        """Return the sizes and switches that were given, and what is set."""
        given = {name: getattr(self, name) for name in (*SIZES, "quant", "acceptance", *MEDIA, *SWITCHES)}
        changes = {"set": self.set} if self.set else {}
        return {name: value for name, value in given.items() if value is not None} | changes


class Hardware(Pass, frozen=True, kw_only=True):
    """A model, a pass, and perhaps what it runs on."""

    hardware: Annotated[
        str, Meta(description="an accelerator that nbanalyzer_list gives, for times and whether it fits")
    ] = ""
    profile: Annotated[
        str, Meta(description="the engine that estimates are of: vllm, sglang or trtllm; typical figures if left out")
    ] = ""
    compute_efficiency: Annotated[float, Meta(description="share of the peak FLOP/s that is reached (1)")] = 1.0
    bandwidth_efficiency: Annotated[float, Meta(description="share of the peak bandwidth that is reached (1)")] = 1.0
    launch_overhead: Annotated[float, Meta(description="seconds that each kernel takes beside its work (0)")] = 0.0
    nodes: Nodes = 1
    overlap: Overlap = 0.0

    def reached(self) -> dict[str, Any]:
        """Return what is reached of the accelerator's peaks and links, as far as it was given."""
        names = ("compute_efficiency", "bandwidth_efficiency", "launch_overhead", "nodes", "overlap")
        given = {name: getattr(self, name) for name in names}
        if not self.hardware and (self.profile or [*given.values()] != [1.0, 1.0, 0.0, 1, 0.0]):
            raise InputError(
                "profile, efficiencies, launch_overhead, nodes and overlap need hardware: "
                "nbanalyzer_list lists the names"
            )
        return given


def read_range(name: str, value: int, least: int, most: int) -> int:
    """Return a whole number within bounds; raise with its value if it is not."""
    if isinstance(value, bool) or not least <= value <= most:
        raise InputError(f"{name} is a whole number from {least} to {most:,}, not {quote(value)}")
    return value
