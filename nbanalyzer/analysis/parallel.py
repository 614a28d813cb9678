"""One rank of a tensor-parallel group: the sizes that are left to it, and what it sums with the others.

Shoeybi et al.: *Megatron-LM*, arXiv:1909.08053: heads, the width of the feed-forward layer and the vocabulary are
divided, the hidden size is not; after the attention and after the feed-forward layer of every layer, all ranks sum
what they have. Experts are divided like any feed-forward layer: every rank has a part of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.tree import Node
from nbanalyzer.errors import InputError, quote
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.templates.config import ModelParams
from nbanalyzer.templates.template import Composite

from .analysis import Analysis

__all__ = ["AllReduce", "rank_of", "read_tp", "require_divided", "sizes_of"]

MOST = 1024  # ranks
WIDTHS = (
    "intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size",
    "moe_shared_expert_intermediate_size", "shared_intermediate_size", "intermediate_size_mlp",
)  # fmt: skip
"""The widths of feed-forward layers and experts, of those that a model has."""
PER_LAYER = 2  # all-reduces: after the attention, and after the feed-forward layer
ELEMENT = 2  # bytes: activations are summed in 16 bits, whatever the weights are
MICRO = 1_000_000  # microseconds a second


def read_tp(value: object) -> int:
    """Return a number of ranks.

    Raises:
        InputError: it is none.

    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        raise InputError(f"tp is a whole number from 1 to {MOST:,}, not {quote(value)}")
    return value


def sizes_of(costs: Costs, tp: int) -> dict[str, int]:
    """Return name → size on one of `tp` ranks, of the sizes that are divided.

    Key heads that are fewer than the ranks are kept by several, one each. The vocabulary is rounded up.

    Raises:
        InputError: a size that does not divide, or a model that is not divided so.

    """
    params, used = costs.params, costs.variables
    if "encoder_len" in used:
        raise InputError("not modelled: an encoder-decoder model on several devices")
    if costs.is_latent:
        raise InputError("not modelled: latent attention on several devices, which all keep the whole latent")
    if "num_heads" not in used or not params.get("num_heads"):
        raise InputError("not modelled: this model has no attention heads to divide over several devices")
    found = {}
    for name in ("num_heads", *(width for width in WIDTHS if width in used and params.get(width))):
        found[name] = _divided(name, params[name], tp)
    if heads := params.get("num_kv_heads"):
        found["num_kv_heads"] = 1 if tp % heads == 0 else _divided("num_kv_heads", heads, tp)
    found["vocab_size"] = -(-params["vocab_size"] // tp)
    return found


def _divided(name: str, value: int, tp: int) -> int:
    if value % tp:
        raise InputError(f"not modelled: {name} {value:,} does not divide into {tp} equal parts, as tp={tp} needs")
    return value // tp


def rank_of(analysis: Analysis, tp: int) -> Analysis:
    """Return a pass as it is on one of `tp` ranks.

    The formulas of its template are evaluated for the rank's sizes, in which a head keeps its own.

    Raises:
        InputError: as for `sizes_of`, or the formulas do not follow these sizes.

    """
    if tp == 1:
        return analysis
    whole = analysis.params
    params = ModelParams({**whole, **sizes_of(analysis, tp)}, whole.model_type, whole.unknown, whole.defaults)
    notes = (*analysis.notes, f"one of {tp} devices")
    rank = Analysis(analysis.kernel_tree, params, analysis.run, notes, analysis.warnings)
    require_divided(analysis, rank, tp)
    return rank


def require_divided(whole: Costs, rank: Costs, tp: int) -> None:
    """Raise an `InputError` unless a rank has its part of the products of every layer, and no other.

    A template whose formulas say hidden_size where they mean heads times their size is found so.
    """
    for node in rank.nodes:
        if not node.is_basic or node.block is None or not (ours := _matmul(rank, node)):
            continue
        theirs = _matmul(whole, node)
        if ours * tp == theirs or _is_kept(node, ours, theirs, whole.params, tp):
            continue
        raise InputError(
            f"not modelled: tp={tp} would not divide {node.path}: its formula does not follow the heads or the width"
        )


def _matmul(costs: Costs, node: Node) -> Number:
    return costs.costs[node].matmul_flops


def _is_kept(node: Node, ours: Number, theirs: Number, params: Mapping[str, int], tp: int) -> bool:
    """Return whether all ranks do a product alike: of key heads that are fewer than they, or of a router."""
    if "num_kv_heads" in node.uses[0]:
        return tp > params["num_kv_heads"] and ours * tp >= theirs >= ours
    bindings = node.parent.kernel.bindings if node.parent and isinstance(node.parent.kernel, Composite) else {}
    return ours == theirs and ("num_experts" in node.uses[0] or bindings.get("output_size") == "1")


@dataclass(frozen=True)
class AllReduce:
    """What the ranks sum in one pass.

    Attributes:
        num_ranks: that take part.
        times: sums in a pass.
        token_bytes: of each of them, a token.
        accelerator: whose links carry them.
        profile: whose law says how long they take.

    Raises:
        InputError: the link's bandwidth is not known.

    """

    num_ranks: int
    times: int
    token_bytes: int
    accelerator: Accelerator
    profile: Profile

    @classmethod
    def of(cls, params: Mapping[str, int], tp: int, accelerator: Accelerator, profile: Profile) -> AllReduce:
        """Return the sums of a model's layers."""
        if tp > 1 and accelerator.link_bandwidth is None:
            raise InputError(
                f"not modelled: the link bandwidth of {accelerator.name} is not known, and tp={tp} needs it"
            )
        if tp == 1:
            return cls(1, 0, 0, accelerator, profile)
        return cls(tp, PER_LAYER * params["num_layers"], ELEMENT * params["hidden_size"], accelerator, profile)

    def time(self, tokens: int) -> float:
        """Return the seconds that the sums of a pass of so many tokens are expected to take.

        Raises:
            InputError: nobody measured them: they are not modelled.

        """
        if self.num_ranks == 1:
            return 0.0
        law = self.profile.parameters("all_reduce", in_model=True)
        ranks = {"num_ranks": self.num_ranks, "rank_doublings": math.log2(self.num_ranks)}
        each = law.time_us({"message_us": MICRO * self._message(tokens), **ranks})
        return self.times * each / MICRO

    def bound(self, tokens: int) -> float:
        """Return the seconds that they take at least: 2 (n - 1) / n of each message over the link."""
        return self.times * 2 * (self.num_ranks - 1) / self.num_ranks * self._message(tokens)

    def _message(self, tokens: int) -> float:
        return tokens * self.token_bytes / (self.accelerator.link_bandwidth or 1.0)
