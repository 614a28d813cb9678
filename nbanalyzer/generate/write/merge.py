"""Many traces of one model as one tree: what is the same call or operation in each of them lies together.

Traces differ: a step after a cache leaves out the encoder, one token needs fewer copies, a loop runs once a token.
Calls are the same if they have the same name in the same place; operations, if the same line of the model's
code asked for them in the same place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from nbanalyzer.generate.trace.scope import Operation, Scope

__all__ = ["Node", "Slot", "merged"]

MOST_REPEATS = 16  # of one operation on one line; more are a loop, whose turns are added up
FEW_CALLS = 4  # of one module; if what they do differs, they are different calls, of which a step may leave some out


@dataclass(slots=True)
class Slot:
    """One operation; in a loop, all its turns.

    Attributes:
        name: PyTorch's name.
        line: of the model's code.
        seen: observation → the operation, several in a loop.

    """

    name: str
    line: str
    seen: dict[int, list[Operation]] = field(default_factory=dict)


@dataclass(slots=True)
class Node:
    """One call of a module or function; in a loop, all its turns.

    Attributes:
        name, target: as in its scopes.
        seen: observation → its scope.
        turns: observation → how often a loop calls it.
        alike: whether all turns do the same.
        children: what is inside, in order.
        calls: observation → the scopes of all turns, if they do not do the same.

    """

    name: str
    target: str
    seen: dict[int, Scope] = field(default_factory=dict)
    turns: dict[int, int] = field(default_factory=dict)
    alike: bool = True
    children: list[Node | Slot] = field(default_factory=list)
    calls: dict[int, list[Scope]] = field(default_factory=dict)

    @property
    def is_module(self) -> bool:
        """Whether a module is called, not a function."""
        return next(iter(self.seen.values())).module is not None


def merged(scopes: Mapping[int, Scope], real: Collection[int]) -> Node:
    """Return the tree of the same call at several observations; the `real` ones say what is a loop."""
    first = next(iter(scopes.values()))
    node = Node(first.name, first.target, dict(scopes), dict.fromkeys(scopes, 1))
    seen = [scope for index, scope in scopes.items() if index in real] or list(scopes.values())
    loops = _loops(seen)
    backwards = _from_the_end(seen, loops)
    keyed = {index: _keyed(scope, loops, backwards) for index, scope in scopes.items()}
    for key in _order([list(children) for children in keyed.values()]):
        found = {index: children[key] for index, children in keyed.items() if key in children}
        first_child = next(iter(found.values()))[0]
        if isinstance(first_child, Operation):
            slot = Slot(first_child.name, first_child.line)
            slot.seen = {
                index: [turn for turn in turns if isinstance(turn, Operation)] for index, turns in found.items()
            }
            node.children.append(slot)
        else:
            child = merged({index: turns[0] for index, turns in found.items() if isinstance(turns[0], Scope)}, real)
            child.turns = {index: len(turns) for index, turns in found.items()}
            child.alike = all(map(_alike, found.values()))
            if not child.alike:
                child.calls = {
                    index: [turn for turn in turns if isinstance(turn, Scope)] for index, turns in found.items()
                }
            node.children.append(child)
    return node


def _identity(child: Scope | Operation) -> Hashable:
    return (child.line, child.name) if isinstance(child, Operation) else (child.name, child.target)


def _loops(scopes: Sequence[Scope]) -> set[Hashable]:
    """Return what is called or run another number of times in one trace than in another: in a loop."""
    counts = [Counter(map(_identity, scope.children)) for scope in scopes]
    found: set[Hashable] = set()
    for identity in {identity for count in counts for identity in count}:
        times = {count[identity] for count in counts if identity in count}
        if len(times) > 1 or max(times) > MOST_REPEATS:
            found.add(identity)
    for identity in list(found):
        turns = [[child for child in scope.children if _identity(child) == identity] for scope in scopes]
        if max(map(len, turns)) <= FEW_CALLS and not all(map(_alike, turns)):
            found.remove(identity)
    return found


def _alike(turns: Sequence[Scope | Operation]) -> bool:
    """Return whether calls of the same module or function do the same; operations have their own sums."""
    if len(turns) < 2 or isinstance(turns[0], Operation):
        return True
    calls = (turn for turn in turns if isinstance(turn, Scope))
    return len({tuple(operation.done for operation in call.operations()) for call in calls}) == 1


def _from_the_end(scopes: Sequence[Scope], loops: set[Hashable]) -> set[Hashable]:
    """Return which calls some traces leave the first of out, not the last: what follows the last one says so."""
    found: set[Hashable] = set()
    followers: dict[Hashable, list[list[Hashable]]] = {}
    for scope in scopes:
        after: dict[Hashable, list[Hashable]] = {}
        names = [_identity(child) for child in scope.children]
        for child, name, follower in zip_longest(scope.children, names, names[1:]):
            if isinstance(child, Scope) and name not in loops:
                after.setdefault(name, []).append(follower)
        for name, seen in after.items():
            followers.setdefault(name, []).append(seen)
    for name, each in followers.items():
        fewest, most = min(each, key=len), max(each, key=len)
        told = most[-1] is not None and name not in most  # of calls right behind each other it says nothing
        if told and len(fewest) < len(most) and fewest[0] != most[0] and fewest[-1] == most[-1]:
            found.add(name)
    return found


def _keyed(
    scope: Scope, loops: set[Hashable], from_the_end: Collection[Hashable]
) -> dict[Hashable, list[Scope | Operation]]:
    """Return the children by what they have in common with those of other traces, in order."""
    keyed: dict[Hashable, list[Scope | Operation]] = {}
    count: Counter[Hashable] = Counter()
    left = Counter(name for child in scope.children if (name := _identity(child)) in from_the_end)
    for child in scope.children:
        identity = _identity(child)
        if identity in loops:
            keyed.setdefault(identity, []).append(child)
        else:
            keyed[identity, count[identity] - left[identity]] = [child]
            count[identity] += 1
    return keyed


def _order(sequences: list[list[Hashable]]) -> list[Hashable]:
    """Return all keys once, in an order that agrees with the sequences as far as they agree."""
    result: list[Hashable] = []
    for sequence in sorted(sequences, key=len, reverse=True):
        place = 0
        known = {key: index for index, key in enumerate(result)}
        for key in sequence:
            if key in known:
                place = result.index(key, 0) + 1
            else:
                result.insert(place, key)
                place += 1
    return result
