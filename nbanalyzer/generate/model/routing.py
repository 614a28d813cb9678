"""Loops over experts in a model's own code, on the meta device: which tokens go to which expert, nobody knows there.

All experts that are hit are run as one, with as many rows as they have together: what they cost does not depend on who
gets which. Otherwise routing is uniform: experts without weights, which give back what they get, have their share, and
where an expert takes so many tokens of a sequence at most, none is full before all are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch

__all__ = ["Routed", "Routing", "expert_names", "experts_in"]

_CHOICES = (torch.ops.aten.topk.default, torch.ops.aten.argmax.default)
_LIMITS = (torch.ops.aten.le.Scalar, torch.ops.aten.lt.Scalar)


class Routed(NamedTuple):
    """What is sent to the experts of a layer.

    Attributes:
        tokens: how many are routed.
        choices: experts of all tokens together.
        among: how many experts a token chooses from.

    """

    tokens: int
    choices: int
    among: int


class Routing:
    """A model's loops over experts while it runs.

    Attributes:
        current: that of the model that runs just now; None if it has no such loop.
        sent: module → what was sent to its experts.

    """

    current: Routing | None = None

    def __init__(self) -> None:
        self.sent: dict[torch.nn.Module, Routed] = {}
        self._among, self._room = 0, -1
        self._inside: torch.nn.Module | None = None
        self._tokens, self._turns = 0, list[bool]()

    @classmethod
    @contextmanager
    def open(cls, model: torch.nn.Module) -> Iterator[Routing | None]:
        """Answer what the loops of a model ask."""
        loops = [module for module in model.modules() if experts_in(module)]
        outer, cls.current = cls.current, cls() if loops else None
        hooks = []
        if cls.current is not None:
            for module in loops:
                hooks += [
                    module.register_forward_pre_hook(cls.current.enter),
                    module.register_forward_hook(cls.current.leave, always_call=True),
                ]
        try:
            yield cls.current
        finally:
            cls.current = outer
            for hook in hooks:
                hook.remove()

    def answer(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
        """Return what an operation of a loop gives; None if that is no question of data.

        Of a list of experts, those that are hit: the first, and the first without weights. Of who chose an expert, as
        many as all of them together.
        """
        if func in _CHOICES:
            place = kwargs.get("dim", args[-1] if func is _CHOICES[1] and len(args) > 1 else -1)
            self._among, self._room = args[0].shape[place if isinstance(place, int) else -1], -1
        if func in _LIMITS and args[0].dim() > 1 and args[0].shape[-1] == self._among and self._inside is None:
            self._room = args[0].shape[:-2].numel() * self._among * int(args[1])  # in all sequences together
        if func is not torch.ops.aten.nonzero.default or self._inside is None or not args[0].is_meta:
            return None
        mask, computing = args[0], experts_in(self._inside)
        if mask.dim() == 1:
            idle = 0 < computing < self._among
            self._turns = [True, False] if idle else [True]
            return torch.tensor([[0], [computing]] if idle else [[0]])
        choices, among = mask.numel(), max(self._among, computing)
        rows = choices * computing // among
        rows = min(rows, self._room) if self._room >= 0 else rows
        computes = self._turns.pop(0) if self._turns else True
        self.sent[self._inside] = Routed(self._tokens, choices, among)
        return torch.empty((rows if computes else choices - rows, mask.dim()), dtype=torch.long, device="meta")

    def enter(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        """Note that a loop begins, over experts for so many tokens."""
        first = next((value for value in args if isinstance(value, torch.Tensor)), None)
        self._inside, self._tokens = module, 0 if first is None else first.numel() // first.shape[-1]

    def leave(self, *_call: Any) -> None:
        """Note that it ends."""
        self._inside = None


def experts_in(module: torch.nn.Module) -> int:
    """Return how many experts with weights a module goes through in a loop of its own, 0 if it has no such loop.

    They are modules that are alike, or the slices of its stacked weights, the fewest if some have slices that are idle.
    """
    if not _loops(type(module).forward):
        return 0
    if names := expert_names(module):
        return len(names)
    stacked = [parameter.shape[0] for parameter in module.parameters() if parameter.dim() == 3]
    return min(stacked) if stacked else int(getattr(module, "num_experts", 0))


def expert_names(module: torch.nn.Module) -> list[str]:
    """Return the names of the experts in a module that are modules, all alike; none if they are not."""
    if not isinstance(module, torch.nn.ModuleDict | torch.nn.ModuleList) or len(module) < 2:
        return []
    shapes = [[(name, one.shape) for name, one in expert.named_parameters()] for expert in module.children()]
    return [name for name, _ in module.named_children()] if all(shape == shapes[0] for shape in shapes) else []


@cache
def _loops(forward: Callable[..., Any]) -> bool:
    """Return whether a forward pass looks for the experts that are hit, and there is no other way to run them."""
    code = getattr(forward, "__code__", None)  # what is wrapped may be run by kernels for all experts at once
    return code is not None and not hasattr(forward, "__wrapped__") and {"nonzero", "index_add_"} <= {*code.co_names}
