"""Which kernel reads what another one wrote: told from sizes and order, since templates do not say it.

Every size is put in as a number of its own, so that two amounts of bytes are equal only if their formulas are. A kernel
then reads those earlier tensors whose bytes add up to what it reads: the ones that nobody has read yet before others,
the latest first. Weights and cache do not count: they come from memory in any case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import and_

from nbanalyzer.errors import ConfigError
from nbanalyzer.formulas.evaluation import compiled, run
from nbanalyzer.formulas.formula import Formula, constant
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.templates.config import extract_model_params
from nbanalyzer.templates.media import evaluated, names_of, some, variables_of
from nbanalyzer.templates.template import Basic

from .regions import Region, basics_of, has_weights, is_linear, is_product
from .run import MESH
from .tensors import A_BYTES, Size, Tensor, adding_up_to, adds_to_stream, is_sum, sum_of, two_of
from .terms import MEMORY, NOTHING, is_kept, kept_terms, outputs_of, without
from .tree import Node, Tree

__all__ = ["Flow", "Tensor", "flow_of"]

# Several new tokens after several cached ones: every case of a formula that some pass needs is on.
RUN: Mapping[str, Number] = {
    "batch_size": 11, "seq_len": 5, "cache_len": 1009, "encoder_len": 211, "num_logits": 5, "causal": 0,
    "w_bytes": 0, "a_bytes": A_BYTES, "kv_bytes": 0, **dict.fromkeys(MESH, 1), "tp_rank": 0, "imbalance": 1,
}  # fmt: skip
OTHER_RUN: Mapping[str, Number] = {**RUN, "batch_size": 13, "seq_len": 17, "cache_len": 2003, "encoder_len": 223}
PASSES: Sequence[Mapping[str, Number]] = tuple(
    {**RUN, "batch_size": batch, "seq_len": new, "cache_len": cached, "encoder_len": cached or new, "a_bytes": 2}
    for batch in (1, 64)
    for new, cached in ((2048, 0), (1, 0), (1, 2048), (64, 1000))
)
SMALL = 48  # sizes below are kept: numbers of heads, layers, experts of a token, which others are multiples of
ONCE = constant(1)
RECENT = 40  # tensors that a kernel is expected to read from, beside those made before the first block


@dataclass
class Flow:
    """What every kernel reads.

    Attributes:
        sources: kernel → the tensors that it reads, as far as they are known.
        readers: kernel → the kernels that read what it wrote.
        written: kernel → bytes that it writes beside the cache.
        residual: the kernels that add to the residual stream.
        unknown: the kernels that read something besides, which no kernel before them wrote.
        preparations: the kernels whose results follow from positions, or from weights, alone, with those among them
            that read weights.
        states: the kernels that compute what is kept between passes beside the cache, as of state-space models, and
            those that only copy it.
        passes: the values of all variables in a few passes.

    """

    sources: dict[Node, list[Tensor]] = field(default_factory=dict)
    readers: dict[Node, list[Node]] = field(default_factory=lambda: defaultdict(list))
    written: dict[Node, Size] = field(default_factory=dict)
    residual: set[Node] = field(default_factory=set)
    unknown: set[Node] = field(default_factory=set)
    preparations: dict[Node, list[Node]] = field(default_factory=dict)
    states: set[Node] = field(default_factory=set)
    passes: list[dict[str, Number]] = field(default_factory=list)

    def never_more(self, first: Formula, second: Formula) -> bool:
        """Return whether a number of bytes is at most another one, in all `passes`."""
        if first == second:
            return True
        functions = compiled(first), compiled(second)
        return all(run(functions[0], first, values) <= run(functions[1], second, values) for values in self.passes)


def flow_of(tree: Tree, regions: Mapping[Node, Region]) -> Flow:
    """Return what every basic kernel of a tree reads, in the order of the pass."""
    return _Tracing(tree, regions).flow


class _Tracing:
    """Goes through the kernels of a tree in order, and notes which reads which."""

    def __init__(self, tree: Tree, regions: Mapping[Node, Region]) -> None:
        self.regions = regions
        self.values = _values(tree)
        self.flow = Flow(passes=[{**self.values[1], **values} for values in PASSES])
        self.kept = list(kept_terms(tree.template))
        self.active: dict[Node, tuple[bool, ...]] = {}  # in which passes a module or a kernel runs
        self.hidden = {node: _hidden_from(node, region) for node, region in regions.items()}
        self.tensors: list[Tensor] = []  # made so far
        self.outer: list[Tensor] = []  # of these, made outside all blocks
        self.prepared: dict[Size, Tensor] = {}  # the last of each size that follows from positions or weights alone
        self.neighbour: Node | None = None  # the last linear, with no region since
        self.between: list[Node] = []  # the vector kernels since, each on what the one before it wrote
        self.media = names_of(tree.template.reads)
        # What depends on images or sound: it is of a tower, or what leads from it.
        basics = (node for node in tree.nodes if node.is_basic and self.media)
        self.of_media = {node for node in basics if any(map(self.grows, (*node.parts, node.times)))}
        self.has_begun = False  # whether a product of the part that runs was seen: of the text, or of what it is given
        self.has_layers = False  # whether a block was seen
        block: Node | None = None
        begun: set[bool] = set()  # of the text, and of what it is given, which has positions of its own
        for node in tree.nodes:
            self.active[node] = self.activity(node)
            if node.is_basic and not node.is_link:
                begun |= {node in self.of_media} if is_product(node) else set()
                self.has_begun = (node in self.of_media) in begun
                begins, block = node.block is not block, node.block
                self.add(node, begins=begins)
        states = self.flow.states  # what is a product of fewer sizes is not the state
        largest = max((self.flow.written[node] for node in states), default=None)
        self.flow.states = {node for node in states if self.flow.written[node] == largest}

    def grows(self, formula: Formula) -> bool:
        """Return whether a formula depends on images or sound."""
        return not self.media.isdisjoint(formula.variables)

    def activity(self, node: Node) -> tuple[bool, ...]:
        """Return in which passes a module or a kernel runs; where the values say nothing against it, it does."""
        around = self.active[node.parent] if node.parent else (True,) * len(self.flow.passes)
        if node.is_basic or node.calls == ONCE:
            return around
        function = compiled(node.calls)
        passes = zip(around, self.flow.passes, strict=True)
        return tuple(runs and bool(run(function, node.calls, values)) for runs, values in passes)

    def size(self, formula: Formula) -> Size:
        """Return the bytes that a formula says."""
        first, second = (run(compiled(formula), formula, values) for values in self.values)
        return first, second

    def add(self, node: Node, *, begins: bool) -> None:
        """Note what a kernel reads and writes; `begins` says whether it is the first of its block."""
        flow = self.flow
        outputs = [(formula, self.size(formula)) for formula in outputs_of(node)]
        outputs = [(formula, size) for formula, size in outputs if any(size)]
        written = sum_of(size for _, size in outputs)
        # Operations element by element, one after the other: each reads what the last one wrote.
        reads = self.size(node.parts[1]) if node.steps == 1 else written
        found = self.sources(node, reads, written)
        if node.block and not self.has_layers:
            self.has_layers = True
            found = self.received(node, reads) if any(reads) and all(map(self.is_prepared, found)) else found
        flow.sources[node], flow.written[node] = found, written
        is_prepared = self.is_preparation(node, reads, found)
        if is_prepared:
            before = [one for source in found for one in flow.preparations[source.writer]]
            flow.preparations[node] = [*before, node] if has_weights(node) else before
        elif node.parts[0] != NOTHING and adds_to_stream(found, written):
            flow.residual.add(node)
        if isinstance(node.kernel, Basic) and node.kernel.unit == "vector" and not node.kernel.fused:
            self.between.append(node)
        for tensor in found:
            tensor.is_fresh = False
            tensor.is_stream |= begins and not is_prepared
            flow.readers[tensor.writer].append(node)
        if any(is_kept(formula, term) for formula, _ in outputs for term in self.kept):
            flow.states.add(node)
        if self.is_attention(node) and node is self.regions[node].nodes[-1]:
            inside = _beside(node)  # queries, keys and values are made for it alone
            for tensor in self.tensors:
                tensor.is_fresh &= tensor.writer not in inside
        for formula, size in outputs:
            made = Tensor(node, size, formula, size, is_stream=node in flow.residual)
            self.tensors.append(made)
            if is_prepared:
                self.prepared[size] = made
            elif node.block is None:
                self.outer.append(made)

    def received(self, node: Node, reads: Size) -> list[Tensor]:
        """Return what the first layer of a later stage of a pipeline begins with: the stage before has sent it."""
        self.flow.unknown.discard(node)
        stage = next(iter(self.active))  # no kernel wrote it: it comes from outside all launches
        stream = Tensor(stage, reads, without(node.parts[1], MEMORY), reads, is_stream=True)
        self.tensors.append(stream)
        self.outer.append(stream)
        return [stream]

    def is_preparation(self, node: Node, reads: Size, found: list[Tensor]) -> bool:
        """Return whether a kernel follows from positions or from weights alone, so that it need not run again."""
        kernel = node.kernel
        if not isinstance(kernel, Basic) or kernel.unit == "matmul" or kernel.fused or node in self.regions:
            return False
        if "kv_bytes" in node.sizes or any(source.writer not in self.flow.preparations for source in found):
            return False
        first, second = (
            [run(function, formula, values) for function, formula in zip(node.functions, node.parts, strict=True)]
            for values in ({**self.values[0], "w_bytes": 7}, {**self.values[0], **OTHER_RUN, "w_bytes": 7})
        )
        if first == second and any(first):
            return has_weights(node) or bool(found)
        if has_weights(node) or (node in self.flow.unknown and self.has_begun):
            return False
        return not self.has_begun or (node.parts[0] == NOTHING and (bool(found) or not any(reads)))

    def sources(self, node: Node, reads: Size, written: Size) -> list[Tensor]:
        """Return what a kernel reads, as far as it is known; a tensor of which it reads a part is split."""
        if not any(reads):
            return []
        recent = [one for one in self.tensors[-RECENT:] if not self.is_prepared(one)]
        recent = [tensor for tensor in self.outer if tensor not in recent] + recent
        hidden = self.hidden.get(node, frozenset())
        recent = [one for one in recent if one.writer not in hidden and self.is_seen(one, node)]
        if node in self.regions:
            self.neighbour = None
        elif is_linear(node):
            # No layer is linear in what a layer of its kind beside it gives, nor in what routed experts give.
            beside, self.neighbour = self.neighbour, node
            is_apart, self.between = _is_transform(self.between), []
            if beside and beside.module_around is node.module_around and not is_apart:
                shared = self.flow.sources[beside]
                if sum_of(one.size for one in shared) == reads:
                    return shared
            nonlinear = [one for one in recent if not self.is_linear_in(one)]
            recent = nonlinear if self.exactly(reads, nonlinear, 0, most=1) else recent
        if is_sum(reads, written) and (added := two_of(written, recent)):
            return added
        fresh = [one for one in recent if one.is_fresh]
        if self.is_attention(node):
            found = (
                adding_up_to(reads[0], fresh, 0, most=2)
                or self.of_attention(node, reads, recent)
                or adding_up_to(reads[1], fresh, 1, most=2)
                or self.part_of(node, reads, self.tensors, is_fresh=True)
                or self.exactly(reads, recent, 0)
            )
        else:
            found = (
                self.exactly(reads, fresh, 0)
                or (is_product(node) and self.exactly(reads, fresh, 1))
                or self.latest_preparation()
                or self.latest_product(node, reads)
                or self.exactly(reads, recent, 0)
                or self.exactly(reads, fresh, 1)
            )
        found = found or self.part_of(node, reads, self.tensors, is_fresh=True) or self.exactly(reads, recent, 1)
        if found:
            return found
        self.flow.unknown.add(node)
        last = self.tensors[-1:]
        if (
            last
            and last[0].is_fresh
            and last[0].size[1] < reads[1]
            and (last[0].writer in self.of_media) is (node in self.of_media)
        ):
            return last
        return self.part_of(node, reads, self.tensors, is_fresh=False)

    def of_attention(self, node: Node, reads: Size, recent: list[Tensor]) -> list[Tensor]:
        """Return what a kernel of attention reads, if vector kernels of the module around made it."""
        inside = _beside(node)
        made = [one for one in recent if one.writer in inside and not is_product(one.writer)]
        return (
            self.part_of(node, reads, made, is_fresh=True)
            or self.exactly(reads, made, 0)
            or self.exactly(reads, made, 1)
        )

    def latest_product(self, node: Node, reads: Size) -> list[Tensor]:
        """Return a part of what the product before gave, if it is of the same module and nobody has read it."""
        last = self.tensors[-1:]
        is_own = last and is_product(last[0].writer) and last[0].writer.parent is node.parent
        return self.part_of(node, reads, last, is_fresh=True) if is_own else []

    def is_there(self, tensor: Tensor, reader: Node) -> bool:
        """Return whether both run in some pass; what is read as often without images was not made of any."""
        runs = any(map(and_, self.active[tensor.writer], self.active[reader]))
        return runs and (
            tensor.writer not in self.of_media or reader in self.of_media or not self.grows(tensor.formula)
        )

    def is_seen(self, tensor: Tensor, reader: Node) -> bool:
        """Return whether a kernel may read another's result: of a region only the last one leaves it."""
        if not self.is_there(tensor, reader):
            return False
        writer = tensor.writer
        region = self.regions.get(writer)
        return region is None or region is self.regions.get(reader) or writer is region.nodes[-1]

    def latest_preparation(self) -> list[Tensor]:
        """Return what was prepared last, if nobody has read it and no product has run: what follows continues it."""
        return [one for one in self.tensors[-1:] if one.is_fresh and self.is_prepared(one) and not self.has_begun]

    def is_linear_in(self, tensor: Tensor) -> bool:
        """Return whether a linear, or routed experts, gave a tensor: two in a row would be one."""
        writer = tensor.writer
        return self.kind(writer) == "experts" if writer in self.regions else is_linear(writer)

    def exactly(self, reads: Size, tensors: Sequence[Tensor], view: int, most: int = 3) -> list[Tensor]:
        """Return the tensors that have this size together, at most two tables made beforehand among them."""
        found = adding_up_to(reads[view], tensors, view, most=most)
        if found:
            return found
        for table in self.prepared.values():
            for tables in ([table], [table, table]):
                rest = reads[view] - sum(one.size[view] for one in tables)
                if rest == 0:
                    return tables
                found = adding_up_to(rest, tensors, view, most=2) if rest > 0 else []
                if found:
                    return [*found, *tables]
        return []

    def is_prepared(self, tensor: Tensor) -> bool:
        """Return whether a tensor follows from positions or weights alone."""
        return tensor.writer in self.flow.preparations

    def is_attention(self, node: Node) -> bool:
        """Return whether a kernel is of attention: queries, keys and values are made for it alone."""
        return node in self.regions and self.kind(node) == "attention"

    def kind(self, node: Node) -> str:
        """Return the kind of a kernel's region."""
        return self.regions[node].kind

    def part_of(self, node: Node, size: Size, among: list[Tensor], *, is_fresh: bool) -> list[Tensor]:
        """Return a part of the latest tensor that is larger; the rest of one that nobody has read stays unread."""
        tensors = self.tensors
        for place in range(len(tensors) - 1, max(len(tensors) - RECENT, 0) - 1, -1):
            tensor = tensors[place]
            if among is not tensors and tensor not in among:
                continue
            if not self.is_there(tensor, node):
                continue
            if tensor.size[1] <= size[1] or self.is_prepared(tensor) or (is_fresh and not tensor.is_fresh):
                continue
            left = (tensor.size[0] - size[0], tensor.size[1] - size[1])
            part = tensor.part(size)
            if is_fresh:
                tensors[place : place + 1] = [tensor.part(left), part]
            return [part]
        return []


def _is_transform(kernels: Sequence[Node]) -> bool:
    """Return whether an activation and a norm stand between two linears: a gate or a query has one of them only."""
    norms = {node.parent for node in kernels if has_weights(node)}
    return bool(norms) and any(node.parent not in norms and node.parts[0] != NOTHING for node in kernels)


def _beside(node: Node) -> frozenset[Node]:
    """Return the kernels of the innermost module around attention that has linears, e.g. of the projections."""
    inside = (frozenset(basics_of(module)) for module in node.around)
    return next((kernels for kernels in inside if any(map(is_linear, kernels))), frozenset())


def _hidden_from(node: Node, region: Region) -> frozenset[Node]:
    """Return the kernels of its region that a kernel surely does not read."""
    copies = region.copies
    if not copies or not is_product(node):
        return frozenset()
    # The copy of the cached keys goes into the first product of attention, that of the values into the second.
    before = [one for one in region.nodes[: region.nodes.index(node)] if is_product(one)]
    return frozenset(copies) - frozenset(copies[len(before) :][:1])


def _values(tree: Tree) -> tuple[dict[str, Number], dict[str, Number]]:
    """Return a number for every variable: near the template's own such that no two products are equal, and its own."""
    try:
        own: Mapping[str, int] = extract_model_params(tree.template.config, {}, ())
    except ConfigError:  # a template by hand may have no config
        own = {}
    apart: dict[str, Number] = {}
    reads = tree.template.reads
    names = {*tree.variables, *(variables_of(reads) if reads else ())}
    for place, name in enumerate(sorted(names), 1):
        size = own.get(name, 1000 + 10 * place)
        apart[name] = size if size < SMALL else size + place
    found = ({**apart, **RUN}, {**apart, **own, **RUN})
    if reads is None:
        return found
    first, second = ({**values, **evaluated(reads, values, some(reads, values))} for values in found)  # type: ignore[arg-type]
    return first, second
