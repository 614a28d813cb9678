"""What the rows of a table are called, and what they do, in words a newcomer reads: by structure, not per model.

Modules keep the names that PyTorch gives them. A basic kernel beside modules is traced as PyTorch's operation, such as
``arange``, and is called by what it is there for: ``position ids``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from nbanalyzer.formulas.formula import Formula, constant, parse
from nbanalyzer.formulas.grammar import COMPARISONS, Number
from nbanalyzer.quantities import show
from nbanalyzer.templates.library import MODULES
from nbanalyzer.templates.template import Basic, Composite

from .regions import has_weights, is_linear, is_product
from .tree import Cost, Node

__all__ = ["Counted", "called", "help_of", "kernels_of", "tied_to"]


class Counted(Protocol):
    """The costs of a pass, as far as names follow from them: see `nbanalyzer.costs.costs.Costs`."""

    @property
    def nodes(self) -> Sequence[Node]:
        """The kernels in reading order."""

    @property
    def values(self) -> Mapping[str, Number]:
        """Every global variable's value."""

    def cost(self, node: Node) -> Cost:
        """Return a kernel's cost."""


ADD, TIMES, APPEND = "torch.add", "torch.mul", "transformers.cache_utils.Cache.update"
ATTENTION = "torch.nn.functional.scaled_dot_product_attention"
OPERATIONS: Mapping[str, str] = {
    "add": "sum", "arange": "indices", "bitwise and": "both masks", "bitwise not": "inverse of a mask",
    "convert": "change of type", "copy": "copy", "cumsum": "running sum", "div": "quotient", "floor divide": "quotient",
    "full like": "filled buffer", "histc": "histogram", "index put": "rows written by index", "join": "concatenation",
    "look up": "rows by index", "lt": "comparison", "ge": "comparison", "gt": "comparison", "minimum": "minimum",
    "mul": "product", "neg": "negation", "new ones": "buffer of ones", "ones": "buffer of ones", "pad": "padding",
    "repeat": "copies", "scatter": "rows written by index", "select": "choice by a mask", "sub": "difference",
    "topk": "largest values", "zeros": "buffer of zeros", "zeros like": "buffer of zeros",
}  # fmt: skip
"""PyTorch's operation → what it does, where nothing more is known; others keep their name."""
OF_EXPERTS: Mapping[str, str] = {
    "sort": "tokens sorted by expert", "floor divide": "the token of each row", "histc": "tokens of each expert",
    "cumsum": "where each expert's rows begin", "look up": "rows gathered for the experts",
    "index put": "order of the tokens back", "sum": "sum over a token's experts", "mul": "weighing by the router",
    "repeat": "tokens copied to the experts", "arange": "indices of the rows",
}  # fmt: skip
"""The same beside the products of experts."""


def called(costs: Counted) -> dict[Node, str]:
    """Return the name of every row: of a module its own and how often it repeats, of a basic kernel what it does."""
    found: dict[Node, str] = {}
    counts: Counter[tuple[Node | None, str]] = Counter()
    for node in costs.nodes:
        if isinstance(node.kernel, Composite):
            found[node] = _module_name(node) + _times(node, costs)
        elif not node.is_part:
            name = _operation_name(node, costs)
            counts[node.parent, name] += 1
            number = counts[node.parent, name]
            found[node] = f"{name} ({number})" if number > 1 else name
    return found


def _times(node: Node, costs: Counted) -> str:
    """Return how often a module repeats, and when it runs: `` × 12``, `` if cache_len == 0``."""
    text = ""
    for formula in (node.repeat, node.calls):
        if formula.operation in COMPARISONS or formula.operation == "if":
            text += f" if {_plain(formula)}"
        elif str(formula) != "1":
            text += f" × {show(formula.evaluate(costs.values))}"
    return text


def _module_name(node: Node) -> str:
    assert isinstance(node.kernel, Composite)
    return "append to the cache" if node.kernel.module == APPEND else node.kernel.label


def _operation_name(node: Node, costs: Counted) -> str:
    """Return what a basic kernel beside modules does."""
    kernel = node.kernel
    assert isinstance(kernel, Basic)
    operation = _base(kernel.operation)
    siblings = node.parent.children if node.parent else []
    if node.is_link:
        return kernel.label
    if is_linear(node) and (place := _place_of_expert(node, costs)):
        return place
    if "kv_bytes" in node.uses[1] and node.parts[0] == constant(0):
        return f"{OPERATIONS.get(operation, operation)} of what is cached"
    if any(_is_of_experts(child) for child in siblings) and not is_product(node):
        return OF_EXPERTS.get(operation, OPERATIONS.get(operation, kernel.label))
    if tables := [child for child in siblings if _is_table(child)]:
        return _of_embeddings(node, operation, siblings, tables)
    return OPERATIONS.get(operation, kernel.label if kernel.operation == operation else operation)


def _of_embeddings(node: Node, operation: str, siblings: list[Node], tables: list[Node]) -> str:
    """Return what a kernel beside the embedding tables does: ``position ids``, ``token + position embedding``."""
    is_index = not {"a_bytes", "w_bytes"} & node.sizes
    if operation == "arange":
        return "position ids"
    if is_index and operation == "add":
        return "position ids after the cache"
    before = [table for table in tables if siblings.index(table) < siblings.index(node)]
    if operation == "add" and len(before) > 1 and node.parts[0] != constant(0):
        return f"{' + '.join(_kind(table) for table in before)} embedding"
    return OPERATIONS.get(operation, operation)


def _place_of_expert(node: Node, costs: Counted) -> str:
    """Return which of the experts' products one is; "" if it is none of them."""
    if not _is_of_experts(node) or node.parent is None:
        return ""
    products = [child for child in node.parent.children if _is_of_experts(child)]
    sizes = [costs.cost(child).matmul_flops for child in products]
    is_joined = len(products) == 2 and sizes[0] == 2 * sizes[1]
    places = {1: ("product",), 2: ("gate and up projection" if is_joined else "up projection", "down projection")}
    known = places.get(len(products), ("gate projection", "up projection", "down projection"))
    if len(products) > 3:
        return ""
    return f"{known[products.index(node)]} of the experts"


def _is_of_experts(node: Node) -> bool:
    """Return whether a kernel multiplies by the weights of all experts, which its module holds."""
    parent = node.parent
    return parent is not None and is_linear(node) and "num_experts" in parent.own_parameters.variables


def _is_table(node: Node) -> bool:
    """Return whether a module is a table in which rows are looked up."""
    basics = node.children
    return bool(basics) and node.is_last and all(has_weights(one) and not is_product(one) for one in basics)


def _kind(table: Node) -> str:
    """Return what the rows of a table belong to."""
    names = set(table.own_parameters.variables)
    kinds = {"vocab_size": "token", "max_position_embeddings": "position", "type_vocab_size": "token type"}
    return next((kind for name, kind in kinds.items() if name in names), table.kernel.label)


def _base(operation: str) -> str:
    """Return an operation without the number that tells it from others."""
    name, bracket, number = operation.rpartition(" (")
    return name if bracket and number.removesuffix(")").isdigit() else operation


def _plain(formula: Formula) -> str:
    return str(formula).replace("{", "").replace("}", "")


def kernels_of(node: Node) -> int:
    """Return how many kernels PyTorch starts, one after the other, for one run of a leaf."""
    basics = [node] if node.is_basic else node.children
    return sum(one.steps for one in basics if isinstance(one.kernel, Basic) and not one.kernel.fused)


def tied_to(node: Node, costs: Counted) -> str:
    """Return the module whose weights a module without any of its own multiplies by; "" if it is no such module."""
    cost = costs.cost(node)
    if not node.is_last or node.is_part or cost.parameters or not cost.weight_bytes_read or not cost.matmul_flops:
        return ""
    if node.is_shared:  # by a head that drafts: the module of that name that has them
        named = (one for one in costs.nodes if one.kernel.name == node.kernel.name and not one.is_shared)
        return next((one.kernel.label for one in named if one.own_parameters == node.own_parameters), "")
    size = cost.weight_bytes_read / costs.values["w_bytes"]
    for one in costs.nodes:
        # Beside the table's rows, a bias that the module around it holds: an element for each.
        if _is_table(one) and 0 <= size - costs.cost(one).parameters <= costs.values.get("vocab_size", 0):
            return one.kernel.label
    return ""


def help_of(node: Node, costs: Counted) -> str:
    """Return one line about a row: what it does, with its sizes."""
    kernel = node.kernel
    if isinstance(kernel, Basic):
        return f"PyTorch's operation {_base(kernel.operation)!r}"
    if {"input_size", "output_size"} <= kernel.bindings.keys():
        sizes = (parse(kernel.bindings[name]).evaluate(costs.values) for name in ("input_size", "output_size"))
        inputs, outputs = map(show, sizes)
        tied = f", by the weights of {table}" if (table := tied_to(node, costs)) else ""
        return f"matrix product: a vector of {inputs} becomes one of {outputs}{tied}"
    if kernel.module == ATTENTION:
        return "queries times keys, softmax, times values: one kernel, which reads the cache"
    if kernel.module == APPEND:
        return "the new tokens' keys and values are written to the cache"
    if kernel.module == ADD:
        return "sum of two tensors, such as a layer's result and what went into it"
    if kernel.module == TIMES:
        return "product of two tensors, element by element, such as a gate and what it lets through"
    if (number := kernels_of(node) if node.is_last else 1) > 1:
        return f"{number} kernels one after the other: each reads and writes, where a fused one does so once"
    said = MODULES.get(kernel.module)
    return kernel.description or (said.description.partition(":")[0].partition(". ")[0] if said else "")
