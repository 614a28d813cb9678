"""A template's kernels beside the modules that PyTorch called: which belongs to which, and where they differ.

A template shows layers that are alike once, and the functions that a module calls as kernels of their own. So a
`Position` is a place in both: the kernels that stand for it, and every call of a module there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from nbanalyzer.costs.tree import Cost, Node
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.templates.template import Composite

from .oracle import Seen

__all__ = ["Layers", "Position", "culprits", "parameters_of", "positions"]

_LAYER = re.compile(r"(.+)\.(\d+)$")
_NUMBERED = re.compile(r"(.+)_(\d+)$")


Layers = Mapping[str, Sequence[Sequence[str]]]
"""Path of a list of layers → what the kind of each may be called."""


@dataclass(eq=False)
class Position:
    """A place in a model.

    Attributes:
        path: of the first kernel; where the template has none, what PyTorch calls it. "" for the whole model.
        nodes: the kernels.
        seen: the calls of modules.
        children: the places inside, in order.

    """

    path: str
    nodes: list[Node] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    children: list[Position] = field(default_factory=list)

    def walk(self) -> Iterator[Position]:
        """Yield this place and all inside, outermost first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def by_template(self, costs: Mapping[Node, Cost], metric: str) -> Number:
        """Return what the kernels cost together."""
        return normalize(sum((getattr(costs[node], metric) for node in self.nodes), start=0))

    def by_pytorch(self, metric: str) -> Number:
        """Return what the calls cost together."""
        return normalize(sum((getattr(seen.cost, metric) for seen in self.seen), start=0))


def positions(roots: Sequence[Node], seen: Seen, layers: Layers) -> Position:
    """Return the places of a whole model.

    Args:
        roots: the template's outermost kernels.
        seen: PyTorch's call of the model.
        layers: path of a list of layers → what the kind of each may be called.

    """
    whole = Position("", list(roots), [seen])
    whole.children = _inside(whole, list(_modules(roots)), layers)
    return whole


def _inside(above: Position, nodes: Sequence[Node], layers: Layers) -> list[Position]:
    names = {node.kernel.name for node in nodes}
    calls: dict[str, list[Seen]] = {}
    for seen in above.seen:
        for call in seen.children:
            calls.setdefault(_slot(call, names, layers), []).append(call)
    found: dict[str, Position] = {}
    for node in nodes:
        name = node.kernel.name
        again = _NUMBERED.fullmatch(name)  # called a second time
        if name not in calls and again and again.group(1) in calls:
            name = again.group(1)
        found.setdefault(name, Position(node.path)).nodes.append(node)
    for name, group in calls.items():
        path = f"{above.path}.{name}" if above.path else name
        found.setdefault(name, Position(path)).seen += group
    for position in found.values():
        inner = [child for node in position.nodes for child in _modules(node.children)]
        position.children = _inside(position, inner, layers)
    return list(found.values())


def _modules(nodes: Sequence[Node]) -> Iterator[Node]:
    """Yield the kernels that stand for modules; functions are looked through."""
    for node in nodes:
        if isinstance(node.kernel, Composite):
            if node.kernel.module.rpartition(".")[2][:1].isupper():
                yield node
            else:
                yield from _modules(node.children)


def _slot(call: Seen, names: set[str], layers: Layers) -> str:
    """Return the name of the kernel that a call belongs to; of a layer, that of its kind."""
    plain = call.name.replace(".", "_")
    if not (match := _LAYER.match(call.name)):
        return plain
    base, number = match.group(1).replace(".", "_"), int(match.group(2))
    if base in names:
        return base
    kinds = layers.get((_LAYER.match(call.path) or match).group(1), ())
    labels = kinds[number] if number < len(kinds) else (str(number),)
    for label in labels:
        if f"{base}_{label}" in names:
            return f"{base}_{label}"
    # Layers that differ, but not in what they cost, are of the kind of the one before.
    first = int(labels[0])
    numbers = (found.group(2) for name in names if (found := _NUMBERED.match(name)) and found.group(1) == base)
    before = [number for number in map(int, numbers) if number <= first]
    return f"{base}_{max(before)}" if before else plain


def parameters_of(whole: Position, model: torch.nn.Module) -> dict[Position, int]:
    """Return how many parameters PyTorch has at each place, tied tensors once.

    Those of a module that is called from several places, or several times at one, belong to the place above them.
    """
    owners: dict[str, Position | None] = {}
    above: dict[Position, Position] = {}
    for position in whole.walk():
        above |= dict.fromkeys(position.children, position)
        is_one = len({node.kernel.name for node in position.nodes}) < 2
        for seen in position.seen:
            owners[seen.path] = position if is_one and owners.get(seen.path, position) is position else None
    count = dict.fromkeys(whole.walk(), 0)
    for name, parameter in model.named_parameters():
        path = name
        while path and not owners.get(path):
            path = path.rpartition(".")[0]
        place: Position | None = owners.get(path) or whole
        while place is not None:
            count[place] += parameter.numel()
            place = above.get(place)
    return count


def culprits(whole: Position, numbers: Callable[[Position], tuple[Number, Number]]) -> list[Position]:
    """Return the innermost places where the template's number is not PyTorch's.

    Where everything inside is wrong by the same factor, it is the place itself that is repeated wrongly.
    """
    ours, theirs = numbers(whole)
    wrong = [child for child in whole.children if (pair := numbers(child))[0] != pair[1]]
    if not wrong:
        return [whole] if ours != theirs else []
    pairs = [pair for child in whole.children if any(pair := numbers(child))]
    if len(pairs) > 1 and ours != theirs and all(one * theirs == two * ours for one, two in pairs):
        return [whole]
    return [place for child in wrong for place in culprits(child, numbers)]
