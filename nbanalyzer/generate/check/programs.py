"""The operations of a rank beside those of one device: the same program, but for what being divided takes.

That is named here, by transformers' styles: a bias is added after the sum over the ranks, a rank copies its own part
of an input that all have, a latent is put side by side again, and where experts stay whole, what is not a rank's own
is masked. How an embedding with a part of the vocabulary masks other tokens is left out of a rank's trace already.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from nbanalyzer.generate.hf import quiet
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.trace.recorder import trace
from nbanalyzer.generate.trace.scope import Operation, Scope
from nbanalyzer.generate.trace.stand_ins import recording
from nbanalyzer.generate.write.plans import plans_of

from .runs import Run

__all__ = ["Difference", "Program", "Steps", "operations", "program_of"]

Steps = Sequence[tuple[str, str]]
"""Path of the module and name of every operation, in order."""

_NUMBER = re.compile(r"\.\d+(?=\.|$)")
_SPLIT = frozenset({"rowwise_split_input", "rowwise_rep"})
_SUMMED = _SPLIT | {"rowwise", "packed_rowwise"}
_WHOLE_EXPERTS = "ep_dispatch_experts"
_MASKS = frozenset(
    {"floor_divide", "ne", "remainder", "scalar_tensor", "where", "masked_fill", "masked_fill_", "ge", "clamp_"}
)
"""How whole experts find out which tokens are theirs, and leave out what comes of the others."""


class Difference(NamedTuple):
    """How often a module runs an operation.

    Attributes:
        path: of the module.
        what: the operation's name; or that all are as often, but in another order.
        expected: by the program of one device; of another order, all operations.
        found: on the rank; of another order, the operations before it.

    """

    path: str
    what: str
    expected: int
    found: int


def operations(root: Scope, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield path of the module and name of every operation of a trace, in order."""
    for child in root.children:
        if isinstance(child, Operation):
            yield path, child.name
        else:
            yield from operations(child, f"{path}.{child.name}".strip("."))


@dataclass(frozen=True)
class Program:
    """What one device runs, and how transformers divides it.

    Attributes:
        alone: the operations of one device.
        plan: module, with ``*`` for a layer's number → style.

    """

    alone: Steps
    plan: Mapping[str, str]

    def style_of(self, path: str) -> str:
        """Return the style of a module, "" if it has none."""
        return self.plan.get(_NUMBER.sub(".*", path), "")

    def divided(self) -> list[tuple[str, str]]:
        """Return what a rank runs, but for the masks of whole experts."""
        found: list[tuple[str, str]] = []
        for path, group in groupby(self._without_masks(self.alone), lambda one: one[0]):
            style = self.style_of(path)
            names = [name for _, name in group]
            if style in _SUMMED:
                names = [part for name in names for part in (("mm", "add") if name == "addmm" else (name,))]
            if style in _SPLIT:
                names = ["clone", *names]
            if style == "mla_kv_a_proj":
                names = [*names, "cat"]
            found += [(path, name) for name in names]
        return found

    def differences(self, rank: Steps) -> list[Difference]:
        """Return what a rank runs more or less often; if that is nothing, where its order is another one."""
        wanted, found = self.divided(), [*self._without_masks(rank)]
        one, two = Counter(wanted), Counter(found)
        if one != two:
            return [Difference(*place, one[place], two[place]) for place in one | two if one[place] != two[place]]
        pairs = enumerate(zip(wanted, found, strict=True))
        first = next((number for number, (here, there) in pairs if here != there), None)
        if first is None:
            return []
        return [Difference(wanted[first][0], "operations until their order differs", len(wanted), first)]

    def _without_masks(self, steps: Steps) -> Iterator[tuple[str, str]]:
        for path, name in steps:
            if name not in _MASKS or self.style_of(path) != _WHOLE_EXPERTS:
                yield path, name


def program_of(subject: Subject, run: Run, ep: int = 1) -> Program:
    """Return the program of one device in a run.

    Args:
        subject: the model.
        run: ``batch_size``, ``seq_len`` and ``cache_len``.
        ep: ranks that share the experts: 1, where all tensors are divided, or more.

    """
    with quiet():
        model = subject.build()
        plans = plans_of(model)
        lengths = [length for length in (run.get("cache_len", 0), run["seq_len"]) if length]
        with recording(model):
            *_, root = map(trace, subject.steps(model, run["batch_size"], lengths))
    return Program([*operations(root)], plans.experts if ep > 1 else plans.tensors)
