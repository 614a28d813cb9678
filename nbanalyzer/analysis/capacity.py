"""What fits into an accelerator's memory while an engine serves: the most sequences, and the longest context.

An engine takes a share of the memory for itself. What weights, the activations of its largest step, and its own needs
leave of it is the cache, in blocks of tokens. The figures are those of vLLM, each with its source; other engines take
a little more or less.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.run import MAX_SIZE
from nbanalyzer.errors import InputError, quote
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.quantities import si

from .memory import memory_size

__all__ = ["BLOCK", "COMMUNICATION", "CONTEXT", "GRAPHS", "MEMORY_FRACTION", "STEP_TOKENS", "Capacity"]

GIB = 2**30
MEMORY_FRACTION = 0.9
"""Share of the memory that the engine takes: vLLM's ``gpu_memory_utilization``, 0.9 for years (0.92 in 2026)."""
BLOCK = 16
"""Tokens of a block of the cache, of which a sequence takes whole ones: vLLM's ``DEFAULT_BLOCK_SIZE``."""
STEP_TOKENS = 8192
"""Tokens of the largest step, for whose activations room is kept: vLLM's ``max_num_batched_tokens`` on large cards."""
CONTEXT = int(1.79 * GIB)
"""Bytes of the device's context and libraries: ``non_torch_memory`` of Llama-3-8B on one H100, vLLM pull 10511."""
COMMUNICATION = int(1.79 * GIB)
"""Bytes of the buffers of all-reduces, with several devices: what ``-tp 2`` adds in the same table."""
GRAPHS = int(0.73 * GIB)
"""Bytes of CUDA graphs at vLLM's default sizes, "estimated CUDA graph memory" in vLLM pull 39559."""


@dataclass(frozen=True)
class Capacity:
    """The memory of one rank while an engine serves.

    Args:
        costs: any pass of the rank, of an engine's list.
        accelerator: whose memory it is.
        tp: ranks.
        memory_fraction: share of the memory that the engine takes.

    Raises:
        InputError: the size of the memory is not known, or the share cannot be.

    """

    costs: Costs
    accelerator: Accelerator
    tp: int = 1
    memory_fraction: float = MEMORY_FRACTION

    def __post_init__(self) -> None:
        share = self.memory_fraction
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise InputError(f"memory_fraction is a share above 0 and at most 1, not {quote(share)}")
        memory_size(self.accelerator)

    @cached_property
    def parts(self) -> Mapping[str, int]:
        """What the engine's share of the memory goes to before the cache: name → bytes."""
        found = {
            "weights": math.ceil(self.costs.weight_bytes),
            "activations": math.ceil(self._activations),
            "context": CONTEXT,
            "graphs": GRAPHS,
        }
        return found if self.tp == 1 else {**found, "communication": COMMUNICATION}

    @property
    def _activations(self) -> Number:
        """Return the bytes of the largest working set of a step of `STEP_TOKENS` tokens."""
        run = replace(self.costs.run, batch_size=1, seq_len=STEP_TOKENS, cache_len=0)
        launches = Costs(self.costs.kernel_tree, self.costs.params, run).launches
        return max((launch.activations for launch in launches if launch.times), default=0)

    @property
    def taken(self) -> int:
        """Bytes that the engine takes for all it does."""
        return int(Fraction(self.memory_fraction) * memory_size(self.accelerator))

    @property
    def cache(self) -> int:
        """Bytes that are left for the cache; negative if already the weights do not fit."""
        return self.taken - sum(self.parts.values())

    def sequence(self, tokens: int) -> Number:
        """Return the bytes of the cache of one sequence of so many tokens, and of drafts, in whole blocks."""
        ahead = self.costs.run.mtp
        blocks = -(-(tokens + ahead) // BLOCK)
        run = replace(self.costs.run, batch_size=1, seq_len=1, cache_len=blocks * BLOCK - 1 - ahead)
        tree = self.costs.kernel_tree
        return normalize(sum(tree.state({**self.costs.params, **run.values()}).values()))

    def need(self, tokens: int) -> Fraction:
        """Return the bytes that a memory needs for one sequence of so many tokens, whatever the accelerator's has."""
        return Fraction(sum(self.parts.values()) + math.ceil(self.sequence(tokens))) / Fraction(self.memory_fraction)

    def sequences(self, tokens: int) -> int:
        """Return the most sequences of so many tokens that fit at a time: 0 if not even one does."""
        each = self.sequence(tokens)
        if self.cache < 0:
            return 0
        return min(int(self.cache // each), MAX_SIZE) if each else MAX_SIZE

    @cached_property
    def longest_context(self) -> int:
        """The most tokens of a single sequence that fit, at most what the model has positions for; 0 if none do."""
        most = self.costs.params.get("max_position_embeddings") or MAX_SIZE
        counts = range(1, -(-most // BLOCK) + 1)
        blocks = bisect_left(counts, 0, key=lambda count: -self.sequences(count * BLOCK))
        return min(blocks * BLOCK, most)

    @property
    def words(self) -> str:
        """Where the memory goes, in a line."""
        parts = " + ".join(f"{name} {si(size, 'B')}" for name, size in self.parts.items())
        whole = si(memory_size(self.accelerator), "B")
        return f"{self.memory_fraction:g} of {whole}: {parts}, cache {si(self.cache, 'B')}"
