"""Which parameters stand at which kernel: each once, as near to its use as its module is called in one place only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from .merge import Node

__all__ = ["Ownership"]


@dataclass
class Ownership:
    """The parameters of a model, being given to its kernels.

    Attributes:
        tree: the merged traces.
        real: observations of the model itself.
        names: all parameters.
        stacks: paths of the lists of layers.
        shared: parameters that several layers hold together.

    """

    tree: Node
    real: Collection[int]
    names: Sequence[str]
    stacks: Sequence[str]
    shared: Collection[str]

    def __post_init__(self) -> None:
        root = next(self.tree.seen[index] for index in self.real).module
        self._modules = frozenset(name for name, _ in root.named_modules()) if root is not None else frozenset()
        self._taken: set[str] = set()
        calls = Counter(self._called(self.tree, ""))
        self._called_once = frozenset(path for path, times in calls.items() if times == 1)

    @property
    def taken(self) -> float:
        """The part of the parameters that kernels have, from 0 to 1."""
        return len(self._taken) / max(len(self.names), 1)

    def take(self, names: Iterable[str]) -> None:
        """Give these to a kernel."""
        self._taken.update(names)

    def left(self, path: str = "") -> list[str]:
        """Return the parameters of a module that no kernel has; in a layer, only those that no other layer has too."""
        inside = any(path.startswith(f"{stack}.") for stack in self.stacks)
        return [
            name
            for name in self.names
            if (not path or name.startswith(f"{path}.")) and name not in self._taken
            if not (inside and name in self.shared)
        ]

    def may_stand(self, path: str) -> bool:
        """Return whether a module is called in one place only: its parameters can stand there."""
        return path in self._called_once

    def by_layer(self, names: Iterable[str], path: str) -> tuple[list[str], dict[str, list[str]]]:
        """Return what of these is a module's own at `path`, and what belongs to a layer below: by its name there.

        A layer's parameters are among them if it is called from several places, or not at all.
        """
        own: list[str] = []
        layers: dict[str, list[str]] = {}
        for name in names:
            above = (stack for stack in self.stacks if not path or stack.startswith(f"{path}."))
            stack = next((stack for stack in above if name.startswith(f"{stack}.")), "")
            number = name.removeprefix(f"{stack}.").partition(".")[0]
            if stack and number.isdigit() and name not in self.shared:
                layers.setdefault(f"{stack}.{number}".removeprefix(f"{path}." if path else ""), []).append(name)
            else:
                own.append(name)
        return own, layers

    def path(self, node: Node, above: str) -> str:
        """Return the path of the module that a node is a call of; of a function, where it was called."""
        if not node.is_module:
            return above
        inside = f"{above}.{node.name}" if above else node.name
        return node.name if node.name in self._modules and inside not in self._modules else inside

    def _called(self, node: Node, path: str) -> Iterator[str]:
        """Yield the path of each module at each of its calls; what only other configs call is left out."""
        for child in node.children:
            if isinstance(child, Node) and any(index in child.seen for index in self.real):
                inner = self.path(child, path)
                if child.is_module:
                    yield inner
                yield from self._called(child, inner)
