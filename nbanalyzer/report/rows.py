"""The rows of an analysis' table, as people read it: named by meaning, what is small folded, the total at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbanalyzer.analysis.timing import Timing
from nbanalyzer.costs.names import called
from nbanalyzer.costs.roles import REST, ROLES, leaves, roles_of
from nbanalyzer.costs.tree import Cost, Node
from nbanalyzer.formulas.formula import constant
from nbanalyzer.formulas.grammar import normalize
from nbanalyzer.text import short_paths

if TYPE_CHECKING:
    from nbanalyzer.analysis.roofline import Roofline
    from nbanalyzer.costs.costs import Costs

__all__ = ["SMALL", "Row", "rows_of"]

SMALL = 0.001  # of the FLOPs, bytes, parameters, time and payload: what is below all of them is folded


@dataclass(frozen=True, eq=False)
class Row:
    """A row of the table.

    Attributes:
        label: what it is called.
        depth: how far it stands to the right.
        cost: of all its kernels, in the whole pass.
        timing: of the same, with a roofline.
        node: the kernel that it is of; None where it is of several.
        parts: the rows of these.

    """

    label: str
    depth: int
    cost: Cost
    timing: Timing | None = None
    node: Node | None = None
    parts: tuple[Row, ...] = ()


@dataclass(frozen=True)
class _View:
    """What rows are made of."""

    analysis: Costs
    roofline: Roofline | None
    names: dict[Node, str]

    def row(self, node: Node, depth: int, label: str = "") -> Row:
        """Return the row of one kernel."""
        timing = self.roofline.timings[node] if self.roofline else None
        return Row(label or self.names[node], depth, self.analysis.cost(node), timing, node)

    def together(self, label: str, depth: int, parts: Iterable[Row]) -> Row:
        """Return the row of several rows."""
        rows = tuple(parts)
        cost, timing = Cost(), Timing() if self.roofline else None
        for one in rows:
            cost.include(one.cost)
            if timing and one.timing:
                timing.include(one.timing)
        return Row(label, depth, cost, timing, None, rows)

    def share(self, row: Row) -> float:
        """Return the largest of a row's shares of the whole pass."""
        whole = self.analysis.cost_of_all
        pairs = [
            (row.cost.flops, whole.flops), (row.cost.bytes, whole.bytes), (row.cost.parameters, whole.parameters),
            (row.cost.payload_bytes, whole.payload_bytes),
        ]  # fmt: skip
        shares = [float(part / all_of_them) for part, all_of_them in pairs if all_of_them]
        if self.roofline and row.timing and self.roofline.time:
            shares.append(row.timing.time / self.roofline.time)
        return max(shares, default=0.0)

    def weight(self, row: Row) -> float:
        """Return what the largest rows have most of: time, else the larger share of FLOPs and bytes."""
        if self.roofline and row.timing:
            return row.timing.time
        whole = self.analysis.cost_of_all
        pairs = ((row.cost.flops, whole.flops), (row.cost.bytes, whole.bytes))
        return max(float(part / all_of_them) if all_of_them else 0.0 for part, all_of_them in pairs)

    def modules(self, nodes: Iterable[Node], depth: int, most: int | None) -> Iterator[Row]:
        """Yield the rows of kernels and of what is inside them, down to a depth; the small ones last, as one."""
        small = []
        for node in nodes:
            row = self.row(node, depth)
            if row.cost.is_empty:
                continue
            if self.share(row) < SMALL:
                small.append(row)
                continue
            yield row
            if not node.is_last and (most is None or depth + 1 < most):
                yield from self.modules(node.children, depth + 1, most)
        if len(small) == 1:
            yield from small
        elif small:
            yield self.together(f"{len(small)} small operations", depth, small)

    def largest(self, rows: list[Row], top: int | None) -> Iterator[Row]:
        """Yield the largest rows, the largest first, and one of all others."""
        if top is None or top >= len(rows):
            yield from rows if top is None else sorted(rows, key=lambda row: -self.weight(row))
            return
        ranked = sorted(rows, key=lambda row: -self.weight(row))
        yield from ranked[:top]
        yield self.together(f"{len(rows) - top} others", 0, ranked[top:])

    def roles(self) -> list[Row]:
        """Return a row per role, in the order of a pass."""
        roles = roles_of(self.analysis.kernel_tree)
        found: dict[str, list[Node]] = {role: [] for role in ROLES}
        for node, role in roles.items():
            if not self.analysis.cost(node).is_empty:
                found[role].append(node)
        held: dict[str, list[Row]] = {}
        for node, row in self.held().items():
            inside = next((one for one in leaves(_below(node)) if one in roles), None)
            held.setdefault(roles[inside] if inside else REST, []).append(row)
        return [
            self.together(role, 0, [*self.flat(nodes), *held.get(role, ())])
            for role, nodes in found.items()
            if nodes or role in held
        ]

    def flat(self, nodes: list[Node]) -> Iterator[Row]:
        """Yield the rows of leaves, each called by as much of its path as tells it from the others."""
        paths = [f"{node.parent.path}." if node.parent else "" for node in nodes]
        names = [self.names[node].partition(" × ")[0] if node.is_basic else node.kernel.name for node in nodes]
        labels = short_paths([f"{path}{name}" for path, name in zip(paths, names, strict=True)])
        for node, label in zip(nodes, labels, strict=True):
            yield self.row(node, 0, label)

    def held(self) -> dict[Node, Row]:
        """Return the modules with parts that hold parameters themselves, as experts do, with a row of only these."""
        found = {}
        for node in self.analysis.nodes:
            if not node.is_basic and not node.is_last and node.own_parameters != constant(0):
                number = normalize(self.analysis.cost(node).copies * self.analysis.value_of(node.own_parameters))
                if number:
                    label = f"parameters of {self.names[node]}"
                    found[node] = Row(label, 0, Cost(parameters=number), Timing() if self.roofline else None)
        return found


def rows_of(analysis: Costs, roofline: Roofline | None = None) -> list[Row]:
    """Return the rows that the analysis' own ``by``, ``top`` and ``depth`` ask for, and the total."""
    view = _View(analysis, roofline, called(analysis))
    roots = [node for node in analysis.nodes if node.parent is None]
    if analysis.by == "role":
        rows = [*view.largest(view.roles(), analysis.top)]
    elif analysis.top is not None:
        nodes = [node for node in leaves(analysis.nodes) if not analysis.cost(node).is_empty]
        rows = [*view.largest([*view.flat(nodes), *view.held().values()], analysis.top)]
    else:
        rows = [*view.modules(roots, 0, analysis.depth)]
    total = Row("total", 0, analysis.cost_of_all, roofline.total if roofline else None)
    return [*rows, total]


def _below(node: Node) -> Iterator[Node]:
    for child in node.children:
        yield child
        yield from _below(child)
