"""Weights as they are stored: the formulas of a tree with the tensors of a scheme in place of matrices.

It comes last, after a tree was divided over devices and fused, so that it sees the sizes that a rank has. What a module
keeps becomes the sum of its tensors, ``weights`` of its kernel; what a pass reads of them takes the place of the terms
with ``{w_bytes}`` in the traffic of its products. Where layers of one node differ, a matrix is their mean: so many of
them in one format, so many in another.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from nbanalyzer.errors import FormulaError, InputError
from nbanalyzer.formulas.formula import Formula, build, constant, parse, variable
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.quantities import show
from nbanalyzer.templates.choices import Quantisation
from nbanalyzer.templates.matching import JOINTS, TOWERS, Module
from nbanalyzer.templates.schemes import DTYPES, MODEL, Role, Rule, Scheme
from nbanalyzer.templates.template import Basic, Kernel, MemoryAccess, Tensor

from .division import Requirement, Stored
from .matrices import NOTHING, ONE, Matrix, factors_of, matrices_of
from .run import MESH
from .terms import replaced, share_of
from .tree import Node, Tree, bytes_of

__all__ = ["Layers", "require_storable", "stored"]

W_BYTES = variable("w_bytes")
HOLE = "stored"  # stands for what takes the place of a matrix, while a formula is taken apart
DEPTH = variable("num_layers")
CACHED = {"k_proj": "k_scale", "v_proj": "v_scale"}
"""What gives keys and values to the cache → its scale, by the names of checkpoints."""
_NUMBER = re.compile(r"_\d+$")


class Layers(NamedTuple):
    """Which layers the nodes of a list of layers are.

    Attributes:
        inside: the modules around the list, outermost first.
        kinds: the name of a node, and the numbers of its layers.
        is_whole: whether these are all of the model, and alike.

    """

    inside: tuple[str, ...]
    kinds: tuple[tuple[str, tuple[int, ...]], ...]
    is_whole: bool


class Form(NamedTuple):
    """The format of a matrix."""

    scheme: Scheme
    rule: Rule
    format: str


def stored(tree: Tree, quantisation: Quantisation, layers: tuple[Layers, ...], sizes: Mapping[str, Number]) -> Tree:
    """Return a tree whose weights are stored in schemes.

    Args:
        tree: as it runs.
        quantisation: which weights are in which scheme.
        layers: which layers its nodes are, of each list of layers.
        sizes: the model's, on which mixtures of formats depend, and 1 for the axes of the mesh: a checkpoint is whole.

    Raises:
        InputError: layers that differ in their schemes and are not told apart.

    """
    work = _Storing(quantisation, layers, sizes)
    kernels = tuple(work.inside(root) for root in tree.roots)
    template = msgspec.structs.replace(tree.template, kernels=kernels)
    found = Stored(quantisation, tuple(work.required), frozenset(work.used), frozenset(work.decided_by))
    return tree.with_kernels(template, found)


def require_storable(tree: Tree, values: Mapping[str, Number]) -> None:
    """Raise an `InputError` if a scheme cannot store a matrix of these sizes; a rank's part is filled up to a group."""
    if tree.stored is None:
        return
    values = {**values, **dict.fromkeys(MESH, 1)}
    for one in tree.stored.requires:
        try:
            holds = bool(one.condition.evaluate(values))
            rows, columns = one.output.evaluate(values), one.taken.evaluate(values)
        except FormulaError:
            continue  # sizes that there are not, as those of a variant
        if not holds:
            raise InputError(
                f"{one.scheme} cannot store {one.path}, {show(rows)} x {show(columns)} (outputs x inputs): it needs "
                f"{one.text}; another group, or quant=none, can"
            )


@dataclass
class _Storing:
    """A walk over a tree.

    Attributes:
        quantisation: which weights are in which scheme.
        layers: which layers the nodes are.
        sizes: the model's.
        required: what has to be true of sizes.
        used: the schemes that some matrix is in.
        decided_by: the sizes on which it depends which format a matrix has.

    """

    quantisation: Quantisation
    layers: tuple[Layers, ...]
    sizes: Mapping[str, Number]
    required: dict[Requirement, None] = field(default_factory=dict)
    used: set[Scheme] = field(default_factory=set)
    decided_by: set[str] = field(default_factory=set)

    def inside(self, node: Node) -> Kernel:
        """Return a kernel with all below it."""
        kernel = node.kernel
        if isinstance(kernel, Basic):
            return kernel
        subs = [self.inside(child) for child in node.children]
        reads = any(child.is_basic and "w_bytes" in child.sizes for child in node.children)
        if node.own_parameters == NOTHING and not reads:
            return msgspec.structs.replace(kernel, sub_kernels=tuple(subs))
        matrices, rest = matrices_of(node)
        mixed = [(matrix, self.mixture(node, matrix)) for matrix in matrices]
        narrow = [pair for pair in mixed if any(form for form, _ in pair[1])]
        around = self.quantisation.scheme.file.rest
        scale = self.cache_scale(node)
        if not narrow and not around and scale is None:
            return msgspec.structs.replace(kernel, sub_kernels=tuple(subs))
        tensors: list[Tensor] = []
        for matrix, mixture in mixed:
            tensors += self.tensors(node, matrix, mixture)
        if rest != NOTHING:
            tensors.append(Tensor("others", around or MODEL, str(rest)))
        if scale is not None:
            tensors.append(scale)
        for place, child in enumerate(node.children):
            if child.is_basic and "w_bytes" in child.sizes:
                subs[place] = self.read(child, [pair for pair in narrow if self.reads(node, child, pair[0])])
        main = next((form.scheme for _, mixture in narrow for form, _ in mixture if form), None)
        return msgspec.structs.replace(
            kernel, scheme=main.name if main else "", weights=_merged(tensors), sub_kernels=tuple(subs)
        )

    # ---- which format

    def mixture(self, node: Node, matrix: Matrix) -> list[tuple[Form | None, Formula]]:
        """Return the formats of a matrix in the copies of its module, and the share of each."""
        role: Role = matrix.role
        if role == "head" and self.is_tied(matrix):
            role = "embedding"
        numbers = self.numbers(node)
        if numbers is None:
            return [(self.form(self.module(node, matrix, role, None), matrix), ONE)]
        found = Counter(self.form(self.module(node, matrix, role, layer), matrix) for layer in numbers)
        if len(found) <= 1:
            return [(form, ONE) for form in found]
        place = self._place(node.path.split("."))
        assert place is not None
        counted = [form for form in found if form and form.rule.count]
        if len(found) == 2 and len(counted) == 1 and place[0].is_whole:
            count = parse(counted[0].rule.count)
            other = next(form for form in found if form != counted[0])
            return [(counted[0], build("/", count, DEPTH)), (other, build("/", build("-", DEPTH, count), DEPTH))]
        self.decided_by.add("num_layers")
        total = constant(len(numbers))
        return [(form, build("/", constant(count), total)) for form, count in found.items()]

    def form(self, module: Module, matrix: Matrix) -> Form | None:
        """Return the format of a matrix; None if it has the run's bits."""
        scheme = self.quantisation.scheme_of(module)
        if scheme is None:
            return None
        last = {name.rpartition(".")[2] for name in module.names}
        for rule in scheme.rules:
            if (rule.roles and module.role not in rule.roles) or (rule.modules and not last.intersection(rule.modules)):
                continue
            if rule.when and not self.holds(rule.when, module.layer if module.is_in_text else 0):
                continue
            return Form(scheme, rule, self.fitting(scheme, rule.format, matrix))
        return None

    def fitting(self, scheme: Scheme, name: str, matrix: Matrix) -> str:
        """Return a format, or the one to take in its place for these sizes."""
        while other := scheme.file.formats[name].otherwise:
            conditions = [one for _, one in scheme.requirements(name, matrix.output, matrix.taken)]
            self.decided_by.update(name for condition in conditions for name in condition.variables)
            if all(condition.evaluate(self.sizes) for condition in conditions):
                break
            name = other
        return name

    def holds(self, condition: str, layer: int | None) -> bool:
        """Return whether a rule's condition holds in a layer."""
        used = {*parse(condition).variables}
        self.decided_by |= used - {"layer", "num_layers"} if "layer" in used else used  # else layers are counted
        known = {"layer": layer or 0, "num_experts": 0, "tie_word_embeddings": 0, **self.sizes}
        return bool(parse(condition).evaluate(known))

    def is_tied(self, matrix: Matrix) -> bool:
        """Return whether the head is the embedding."""
        return matrix.copies == NOTHING or (matrix.copies != ONE and bool(self.sizes.get("tie_word_embeddings")))

    # ---- names

    def numbers(self, node: Node) -> tuple[int, ...] | None:
        """Return which layers a module is in; None if in none, or if they are not told apart."""
        place = self._place(node.path.split("."))
        return (place[1] or None) if place else None

    def _place(self, parts: Sequence[str]) -> tuple[Layers, tuple[int, ...]] | None:
        """Return the list of layers that a path leads into, and the numbers of those that are meant."""
        for layers in self.layers:
            depth = len(layers.inside)
            if len(parts) > depth and tuple(parts[:depth]) == layers.inside:
                for name, numbers in layers.kinds:
                    if name == parts[depth]:
                        return layers, numbers
        return None

    def module(self, node: Node, matrix: Matrix, role: Role, layer: int | None) -> Module:
        """Return what lists of modules call the module of a matrix in a layer."""
        around, parts = [], node.path.split(".")
        is_inside = node.block is not None or node.is_block
        if (place := self._place(parts)) is not None:
            depth = len(place[0].inside)
            around = [*parts[:depth], _NUMBER.sub("", parts[depth]), str(layer or 0)]
            parts = parts[depth + 1 :]
        path = ".".join([*around, *(one for part in parts for one in _numbered(part))])
        names = list(dict.fromkeys((path, ".".join([*around, *parts]))))  # ``linear_1`` may be what it is called
        if matrix.role == "expert":
            names += [f"{path}.0.{name}" for name in matrix.names] + [f"{path}.{name}" for name in matrix.names]
        elif matrix.names:
            names = [f"{path.rpartition('.')[0]}.{name}" for name in matrix.names]
        names += [spelling for name in names for spelling in self.spellings(name)]
        return Module(tuple(names), role, (layer or 0) if is_inside else None)

    def spellings(self, name: str) -> Iterator[str]:
        """Yield other names of a module of a model of several parts: checkpoints have older ones."""
        rest = name.removeprefix("model.")
        if name.startswith("mtp."):  # DeepSeek's and GLM's files number it as one layer more
            depth, inside = self.sizes.get("num_layers"), name.removeprefix("mtp.").removeprefix("layers.0.")
            yield f"model.layers.{depth}.{'shared_head.head' if inside == 'lm_head' else inside}"
        elif rest.startswith("language_model."):
            inside = rest.removeprefix("language_model.")
            yield from (f"model.{inside}", f"language_model.model.{inside}", rest)
        elif rest.startswith(TOWERS + JOINTS):
            around, _, inside = rest.partition(".")
            yield from (rest, f"{around}.vision_model.{inside}", f"model.{around}.vision_model.{inside}")
        elif name == "lm_head" and self.quantisation.prefixes:
            yield "language_model.lm_head"
        elif name.startswith(("model.", "lm_head")):
            yield from (prefix + rest for prefix in self.quantisation.prefixes)

    # ---- what is kept

    def tensors(self, node: Node, matrix: Matrix, mixture: Iterable[tuple[Form | None, Formula]]) -> Iterator[Tensor]:
        """Yield the tensors of a matrix, of all its copies."""
        elements = build("*", matrix.output, matrix.taken)
        start = f"{matrix.names[0]}." if matrix.names else ""
        for form, share in mixture:
            count = build("*", share, matrix.copies)
            if count == NOTHING:
                continue
            if form is None:
                dtype = self.quantisation.scheme.file.rest or MODEL
                rows = matrix.copies if matrix.role == "expert" else matrix.output
                yield Tensor(f"{start}weight", dtype, str(build("*", count, elements)), rows=str(rows))
                continue
            self.used.add(form.scheme)
            self.require(node, matrix, form)
            for tensor in form.scheme.tensors(form.format, matrix.output, matrix.taken):
                whole = build("*", count, parse(tensor.elements))
                first = str(matrix.copies) if matrix.role == "expert" and tensor.rows else tensor.rows
                yield msgspec.structs.replace(tensor, name=f"{start}{tensor.name}", elements=str(whole), rows=first)

    def cache_scale(self, node: Node) -> Tensor | None:
        """Return the scale of what a projection gives to the cache, which files keep beside its weight."""
        scale, parts = self.quantisation.kv_scale, node.path.split(".")
        if scale is None or node.kernel.name not in CACHED or any(part.startswith(TOWERS) for part in parts):
            return None
        return msgspec.structs.replace(scale, name=CACHED[node.kernel.name])

    def require(self, node: Node, matrix: Matrix, form: Form) -> None:
        """Note what has to be true of the sizes of a matrix."""
        for text, condition in form.scheme.requirements(form.format, matrix.output, matrix.taken):
            one = Requirement(condition, node.path, form.scheme.name, text, matrix.output, matrix.taken)
            self.required[one] = None

    # ---- what is read

    def reads(self, node: Node, child: Node, matrix: Matrix) -> bool:
        """Return whether a kernel reads a matrix."""
        if matrix.role == "embedding":
            return True
        products = [one for one in node.children if _is_product(one)]
        return _is_product(child) and products.index(child) == matrix.place

    def read(self, child: Node, mixed: Sequence[tuple[Matrix, list[tuple[Form | None, Formula]]]]) -> Basic:
        """Return a kernel that reads matrices, or parts of them, as they are stored."""
        assert isinstance(child.kernel, Basic)
        text = child.parts[1]
        weights: list[Formula] = []
        if mixed:
            first = mixed[0][0]
            is_lookup = first.role == "embedding" and not _is_product(child)
            rows = ONE if is_lookup else first.output
            sizes = (first.taken,) if is_lookup else (first.output, first.taken)
            term = _term_of(text, sizes)
            if term is not None:
                hole = build("*", _without(term, sizes, len(mixed)), variable(HOLE))
                size = build("+", *(self.bytes_read(matrix, mixture, rows) for matrix, mixture in mixed))
                text = replaced(text, term, hole)
                weights.append(share_of(text, HOLE, size))
                text = text.substitute({HOLE: size})
        rest = self.quantisation.scheme.file.rest
        if rest and "w_bytes" in text.variables:
            width = constant(DTYPES[rest])
            weights.append(share_of(text, "w_bytes", width))
            text = text.substitute({"w_bytes": width})
        if not weights:
            return child.kernel
        access = MemoryAccess(str(text), child.kernel.memory_access.write)
        beside = build("+", *weights).substitute({"w_bytes": 0})  # scales in the run's precision say so themselves
        return msgspec.structs.replace(child.kernel, memory_access=access, weights=str(beside))

    def bytes_read(self, matrix: Matrix, mixture: Iterable[tuple[Form | None, Formula]], rows: Formula) -> Formula:
        """Return the bytes that are read of so many rows of a matrix."""
        parts = []
        for form, share in mixture:
            if form is None:
                parts.append(build("*", share, rows, matrix.taken, W_BYTES))
                continue
            tensors = form.scheme.tensors(form.format, rows, matrix.taken)
            read = build("+", *(bytes_of(tensor) for tensor in tensors if tensor.is_read))
            parts.append(build("*", share, read))
        return build("+", *parts)


def _is_product(node: Node) -> bool:
    return isinstance(node.kernel, Basic) and node.kernel.unit == "matmul" and "w_bytes" in node.sizes


def _numbered(name: str) -> list[str]:
    """Return the names of a node of a list without repeats: ``layer_0`` is ``layer.0``, ``Linear_0`` is ``0``."""
    base, _, number = name.rpartition("_")
    if not base or not number.isdecimal():
        return [name]
    return [number] if base[0].isupper() else [base, number]  # one in a Sequential is called after its class


def _merged(tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Return tensors of which those of one name and dtype are one."""
    found: dict[tuple[str, str, bool], Tensor] = {}
    for tensor in tensors:
        key = (tensor.name, tensor.dtype, tensor.is_read)
        if key in found:
            elements = str(build("+", parse(found[key].elements), parse(tensor.elements)))
            tensor = msgspec.structs.replace(tensor, elements=elements)
        found[key] = tensor
    return tuple(found.values())


def _term_of(formula: Formula, sizes: Sequence[Formula]) -> Formula | None:
    """Return the product inside a formula that says the bytes of a matrix of these sizes, by ``{w_bytes}``."""
    wanted = Counter(factor for size in sizes for factor in factors_of(size))
    for part in formula.walk():
        if part.operation == "*" and W_BYTES in part.arguments and not wanted - Counter(part.arguments):
            return part
    return None


def _without(term: Formula, sizes: Sequence[Formula], matrices: int) -> Formula:
    """Return a product without a matrix's sizes, ``{w_bytes}``, and the number of matrices that are read as one."""
    left = Counter(factors_of(term)) - Counter(factor for size in sizes for factor in factors_of(size))
    left[W_BYTES] -= 1
    if matrices > 1:
        left[constant(matrices)] -= 1
    return build("*", *(+left).elements())
