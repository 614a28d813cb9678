"""Which kernel reads what another one wrote: told from sizes and order, since templates do not say it.

Every size is put in as a number of its own, so that two amounts of bytes are equal only if their formulas are. A kernel
then reads those earlier tensors whose bytes add up to what it reads: the ones that nobody has read yet before others,
the latest first. Weights and cache do not count: they come from memory in any case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations

from nbanalyzer.errors import ConfigError
from nbanalyzer.formulas.evaluation import run
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.templates.config import extract_model_params

from .regions import Region, is_linear
from .tree import Node, Tree

__all__ = ["Flow", "Tensor", "flow_of"]

# Several new tokens after several cached ones: every case of a formula that some pass needs is on.
RUN: Mapping[str, Number] = {
    "batch_size": 3, "seq_len": 5, "cache_len": 1009, "encoder_len": 211, "num_logits": 5, "causal": 0,
    "w_bytes": 0, "a_bytes": 7, "kv_bytes": 0,
}  # fmt: skip
SMALL = 48  # sizes below are kept: numbers of heads, layers, experts of a token, which others are multiples of
RECENT = 40  # tensors that a kernel is expected to read from, beside those made before the first block


@dataclass(eq=False)
class Tensor:
    """What a kernel wrote, or a part of it.

    Attributes:
        writer: the kernel.
        size: bytes.
        is_whole: whether it is all that the kernel wrote.
        is_fresh: whether nobody has read it yet.
        is_stream: whether it is what residuals are added to.

    """

    writer: Node
    size: Number
    is_whole: bool = True
    is_fresh: bool = True
    is_stream: bool = False


@dataclass
class Flow:
    """What every kernel reads.

    Attributes:
        sources: kernel → the tensors that it reads, as far as they are known.
        readers: kernel → the kernels that read what it wrote.
        written: kernel → bytes that it writes beside the cache.
        residual: the kernels that add to the residual stream.
        unknown: the kernels that read something besides, which no kernel before them wrote.

    """

    sources: dict[Node, list[Tensor]] = field(default_factory=dict)
    readers: dict[Node, list[Node]] = field(default_factory=lambda: defaultdict(list))
    written: dict[Node, Number] = field(default_factory=dict)
    residual: set[Node] = field(default_factory=set)
    unknown: set[Node] = field(default_factory=set)


def flow_of(tree: Tree, regions: Mapping[Node, Region]) -> Flow:
    """Return what every basic kernel of a tree reads, in the order of the pass."""
    values = _generic(tree)
    flow = Flow()
    outer, tensors = list[Tensor](), list[Tensor]()  # made outside all blocks; made so far
    block: Node | None = None
    neighbour: Node | None = None  # the last linear, with no region since
    for node in tree.nodes:
        if not node.is_basic:
            continue
        begins, block = node.block is not block, node.block
        reads, written = (run(node.functions[part], node.parts[part], values) for part in (1, 2))
        if node.steps > 1:  # operations element by element, one after the other: each reads what the last one wrote
            reads = written = normalize(Fraction(written, node.steps))
        is_sum = written > 0 and reads == 2 * written
        recent = [tensor for tensor in outer if tensor not in tensors[-RECENT:]] + tensors[-RECENT:]
        recent = [tensor for tensor in recent if _is_seen(tensor.writer, node, regions)]
        if is_linear(node) and node not in regions:
            # No layer is linear in what a layer of its kind beside it gives, nor in what routed experts give.
            beside = neighbour if neighbour and neighbour.module_around is node.module_around else None
            found = flow.sources[beside] if beside and reads == sum(one.size for one in flow.sources[beside]) else []
            recent = [one for one in recent if one.writer not in regions or regions[one.writer].kind != "experts"]
            neighbour = node
        elif node in regions:
            found, neighbour = [], None
        else:
            found = []
        found = found or _adding_up_to(reads, recent, is_sum=is_sum)
        if is_sum and [tensor.is_stream for tensor in found].count(True) == 1:
            flow.residual.add(node)
        if reads and not found and node in regions:
            found = _inside(reads, tensors, regions[node], regions)
        if reads and not found:
            found = _part_of(reads, tensors)
            if sum(tensor.size for tensor in found) < reads:
                flow.unknown.add(node)
        flow.sources[node], flow.written[node] = found, written
        for tensor in found:
            tensor.is_fresh = False
            tensor.is_stream |= begins
            flow.readers[tensor.writer].append(node)
        if written:
            tensors.append(Tensor(node, written, is_stream=node in flow.residual))
            if block is None:
                outer.append(tensors[-1])
    return flow


def _is_seen(writer: Node, reader: Node, regions: Mapping[Node, Region]) -> bool:
    """Return whether a kernel may read another's result: of a region only the last one leaves it."""
    region = regions.get(writer)
    return region is None or region is regions.get(reader) or writer is region.nodes[-1]


def _generic(tree: Tree) -> dict[str, Number]:
    """Return a number for every variable, near the template's own sizes, such that no two products are equal."""
    try:
        own: Mapping[str, int] = extract_model_params(tree.template.config, {}, ())
    except ConfigError:  # a template by hand may have no config
        own = {}
    values: dict[str, Number] = {}
    for place, name in enumerate(sorted(tree.variables), 1):
        size = own.get(name, 1000 + 10 * place)
        values[name] = size if size < SMALL else size + place
    return {**values, **RUN}


def _adding_up_to(size: Number, tensors: Sequence[Tensor], *, is_sum: bool) -> list[Tensor]:
    """Return at most three tensors that together have this size."""
    # Stable: the latest first among equals. A residual is added to the stream, not to what was made from it.
    latest = tensors[::-1]
    order = sorted(latest, key=lambda one: (not one.is_fresh, is_sum and not one.is_stream))
    of_size: dict[Number, list[Tensor]] = defaultdict(list)
    for tensor in order:
        of_size[tensor.size].append(tensor)
    smaller = [tensor for tensor in order if tensor.size < size]  # anything else is no part of a sum
    for count in range(3):
        for group in combinations(smaller, count):
            rest = size
            for tensor in group:
                rest -= tensor.size
            for tensor in of_size.get(rest, ()):
                if tensor not in group:
                    return [*group, tensor]
    return []


def _inside(size: Number, tensors: Sequence[Tensor], region: Region, regions: Mapping[Node, Region]) -> list[Tensor]:
    """Return the latest tensors of a region that are this much together: slices of what it made, as of its scores."""
    found: list[Tensor] = []
    for tensor in reversed(tensors):
        if regions.get(tensor.writer) is region:
            found.append(tensor)
            if sum(one.size for one in found) >= size:
                return found
    return []


def _part_of(size: Number, tensors: list[Tensor]) -> list[Tensor]:
    """Return the latest tensor that nobody has read, or a part of it: its rest stays unread.

    Without an unread one it is the latest that is large enough, and nothing if there is none.
    """
    recent = range(len(tensors) - 1, max(len(tensors) - RECENT, 0) - 1, -1)
    for place in recent:
        tensor = tensors[place]
        if tensor.is_fresh and tensor.size > size:
            part, rest = (Tensor(tensor.writer, one, is_whole=False) for one in (size, tensor.size - size))
            tensors[place : place + 1] = [rest, part]
            return [part]
        if tensor.is_fresh:
            return [tensor]
    large = (tensors[place] for place in recent if tensors[place].size > size)
    return [Tensor(tensor.writer, size, is_whole=False, is_stream=tensor.is_stream) for tensor in large][:1]
