"""What a call of any layer or function costs, counted as the oracle counts a model's steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from nbanalyzer.costs.tree import Cost
from nbanalyzer.generate.check import oracle
from nbanalyzer.generate.model.subject import Step, Subject
from nbanalyzer.generate.trace.recorder import trace
from nbanalyzer.generate.trace.stand_ins import recording

__all__ = ["watch"]


def watch(
    call: Callable[[], object],
    weights: Iterable[torch.Tensor] = (),
    cache: object = None,
    dtype: torch.dtype = torch.bfloat16,
) -> Cost:
    """Return what a call costs, see `oracle.traffic`.

    Args:
        call: what to run.
        weights: the tensors that count as weights; views of them do too.
        cache: what holds those that count as the cache, besides what a cache returns.
        dtype: the precision of weights, activations and cache; others count with the bytes they have.

    """
    holder = torch.nn.Module()
    for number, weight in enumerate((torch.empty(0, dtype=dtype, device="meta"), *weights)):
        holder.register_parameter(str(number), torch.nn.Parameter(weight, requires_grad=False))
    with recording(holder):
        root = trace(_Call(Subject({}, "causal"), holder, 1, 1, 0, cache=cache, call=call))
    return oracle.traffic(root, 1, dtype.itemsize).cost


@dataclass
class _Call(Step):
    """Something else than a model's step, to be traced like one."""

    call: Callable[[], object] = lambda: None

    def run(self, _logits: int = 0) -> None:
        with torch.no_grad():
            self.call()
