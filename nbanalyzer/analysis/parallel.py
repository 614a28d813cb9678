"""One rank of a tensor-parallel group: the sizes that are left to it, and what it sums with the others.

Shoeybi et al.: *Megatron-LM*, arXiv:1909.08053: heads, the width of the feed-forward layer and the vocabulary are
divided, the hidden size is not; after the attention and after the feed-forward layer of every layer, all ranks sum
what they have. Experts are divided like any feed-forward layer: every rank has a part of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nbanalyzer.errors import InputError
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.profiles import Profile

__all__ = ["AllReduce"]

PER_LAYER = 2  # all-reduces: after the attention, and after the feed-forward layer
ELEMENT = 2  # bytes: activations are summed in 16 bits, whatever the weights are
MICRO = 1_000_000  # microseconds a second


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
