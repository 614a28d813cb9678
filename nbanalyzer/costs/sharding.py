"""One rank of a tensor- or expert-parallel group: the template with the sizes that are left to it.

A **plan** says module → style, by transformers' names. A linear that is ``colwise`` gives a part of its outputs, a
``rowwise`` one takes a part of its inputs and sums what it gives with the others; what stands between them works on
that part: on some of the heads, or on a part of the width. Sizes are divided in the formulas, so that they say so:
``{num_heads} / {tp}``, ``ceil({intermediate_size} / {tp})``. A part is rounded up, as `torch.chunk` splits: the first
rank is the busiest.

Shoeybi et al.: *Megatron-LM*, arXiv:1909.08053, for the parts and the sums; transformers' plans are its
`base_model_tp_plan` and `base_model_ep_plan`. Communication is a kernel of unit ``link`` after what causes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from nbanalyzer.errors import TemplateError
from nbanalyzer.formulas.formula import Formula, build, constant, parse, variable
from nbanalyzer.templates.expansion import rebound
from nbanalyzer.templates.template import Basic, Composite, Kernel, MemoryAccess, ModelTemplate

from .division import Division
from .plan import REPEATED, WHOLE_EXPERTS, Plan, heads_of
from .run import Layout

__all__ = ["link", "sharded"]


COLWISE = {"colwise", "packed_colwise", "colwise_gather_output", "colwise_rep"}
ROWWISE = {"rowwise", "packed_rowwise", "rowwise_split_input", "rowwise_rep"}
SPLIT = {"rowwise_split_input", "rowwise_rep"}
GATHERED = {"colwise_gather_output", "colwise_rep"}

UNKNOWN = {"embedding_colwise", "moe_identity_expert", "sequence_parallel"}
"""Styles that divide something, which is counted whole here; no shipped model has them."""

Sizes = Mapping[str, Formula]


def sharded(template: ModelTemplate, plan: Plan, layout: Layout) -> tuple[ModelTemplate, Division]:
    """Return a complete template as one rank of the plan's groups runs it, and what has to divide.

    Args:
        template: in the variants of the run.
        plan: the style of every module.
        layout: the axes of the mesh.

    Returns:
        The template with ``{tp}`` and ``{ep}`` in its formulas.

    """
    work = _Sharding(plan, layout)
    kernels = work.inside(template.kernels, "")
    state = {name: str(parse(text).substitute(work.heads)) for name, text in template.state.items()}
    division = Division(work.divided, (f"divided by {plan.source}", *work.undivided))
    return msgspec.structs.replace(template, kernels=kernels, state=state), division


def link(name: str, collective: str, group: str, payload: Formula) -> Composite:
    """Return a kernel that communicates, under a name of its own.

    Args:
        name: of the module that causes it, e.g. ``"o_proj"``.
        collective: what the ranks do together, see `nbanalyzer.templates.template.Collective`.
        group: the axis of the mesh.
        payload: bytes of the whole tensor.

    """
    kernel = Basic(
        operation=collective.replace("_", "-"), unit="link", flops="0", memory_access=MemoryAccess("0", "0"),
        collective=collective, group=group, payload=str(payload),  # type: ignore[arg-type]
    )  # fmt: skip
    return Composite(name=f"{name}_{collective}", sub_kernels=(kernel,))


@dataclass
class _Sharding:
    """One walk over a template's kernels, in the order of the pass.

    Attributes:
        plan: the style of every module.
        layout: the axes of the mesh.
        local: variable → its part, since the last linear that gives a part, until the next one that takes it.
        divided: size → axis by which it has to divide without rest.
        heads: variable → its part, of all heads that were divided so far: what is kept between passes is theirs.
        undivided: what the plan divides and this does not, a line each.

    """

    plan: Plan
    layout: Layout
    local: dict[str, Formula] = field(default_factory=dict)
    divided: dict[Formula, str] = field(default_factory=dict)
    heads: dict[str, Formula] = field(default_factory=dict)
    undivided: dict[str, None] = field(default_factory=dict)

    def inside(self, kernels: Iterable[Kernel], path: str) -> tuple[Kernel, ...]:
        """Return the kernels of a module, with those that communicate."""
        made: list[Kernel] = []
        for kernel in kernels:
            if isinstance(kernel, Basic):
                made.append(_substituted(kernel, self.local))
                continue
            here = f"{path}.{kernel.name}" if path else kernel.name
            style = self.plan.style_of(here)
            if style in COLWISE:
                made += self.colwise(kernel, style)
            elif style in ROWWISE:
                made += self.rowwise(kernel, style)
            elif style == "embedding_rowwise":
                made += self.embedding(kernel)
            elif style == "moe_tp_experts":
                made += self.experts(kernel)
            elif style == WHOLE_EXPERTS:
                made += self.whole_experts(kernel)
            elif style == "mla_kv_a_proj":
                made.append(self.rejoined(kernel))
            elif style == "all_reduce":
                made += [self.whole(kernel), link(kernel.name, "all_reduce", "tp", _stream())]
            elif style in UNKNOWN:
                self.undivided[f"{kernel.name} ({style}) is not"] = None
                made.append(self.whole(kernel))
            elif self.plan.speaks_of(here):
                made.append(self.around(kernel, here))
            else:
                made.append(self.whole(kernel))
        return tuple(made)

    def around(self, kernel: Composite, path: str) -> Composite:
        """Return a module around some that the plan names; of its own parameters, those of the heads are divided."""
        before = self.heads
        self.heads = {}
        subs = self.inside(kernel.sub_kernels, path)
        parameters = str(parse(kernel.parameters).substitute(self.heads)) if kernel.parameters else ""
        self.heads = before | self.heads
        return msgspec.structs.replace(kernel, parameters=parameters, sub_kernels=subs)

    def whole(self, kernel: Kernel) -> Kernel:
        """Return a module of which every size that is divided where it runs is divided."""
        return _substituted(kernel, self.local)

    def colwise(self, kernel: Composite, style: str) -> list[Kernel]:
        """Return a linear that gives a part of its outputs; what follows it works on that part."""
        output = _binding(kernel, "output_size")
        if output is None and style in GATHERED and "vocab_size" in parse(kernel.parameters or "0").variables:
            head = _substituted(kernel, {"vocab_size": self.part("vocab_size")})
            written = [sub.memory_access.write for sub in kernel.sub_kernels if isinstance(sub, Basic)]
            given = parse(written[-1] if written else "0").substitute({"vocab_size": _joined(variable("vocab_size"))})
            return [head, link(kernel.name, "all_gather", "tp", given)]
        if output is None:  # a module that says nothing of its sizes: they follow those of the part
            if not self.local:
                self.undivided[f"{kernel.name}, whose sizes are not told apart, is not"] = None
            return [self.whole(kernel)]
        if not output.variables:  # the heads of some layers only, such as Gemma-4's
            self.undivided[f"{kernel.name} with {output} outputs, which no size of the config says, is not"] = None
            return [self.whole(kernel)]
        sizes = {**self.local, **self.part_of(output)}
        made = self.split(kernel, "output_size", sizes)
        if style in GATHERED:
            return [made, link(kernel.name, "all_gather", "tp", _tensor(kernel, _joined(output)))]
        self.local = sizes
        self.heads = self.heads | {name: sizes[name] for name in heads_of(output) if name in sizes}
        return [made]

    def rowwise(self, kernel: Composite, style: str) -> list[Kernel]:
        """Return a linear that takes a part of its inputs, and the sum over the ranks, to which a bias is added."""
        taken, output = _binding(kernel, "input_size"), _binding(kernel, "output_size")
        if taken is None or output is None:
            raise TemplateError("a linear without sizes of its own cannot be divided", kernel.name)
        made = self.split(kernel, "input_size", {**self.local, **self.part_of(taken)})
        self.local = {}
        given = _tensor(kernel, output)
        if style in SPLIT:
            made = _before(made, _copied("own part of the input", _tensor(made, parse(made.bindings["input_size"]))))
        if self.layout.comm == "transformers":
            made = _with_bias_alone(made, given)
        return [made, link(kernel.name, "all_reduce", "tp", given)]

    def rejoined(self, kernel: Composite) -> Kernel:
        """Return a linear whose outputs are taken apart, as their gradients differ, and put side by side again."""
        made, output = self.whole(kernel), _binding(kernel, "output_size")
        if output is None or not isinstance(made, Composite):
            return made
        copy = _copied("latent and rotary part side by side", _tensor(kernel, output))
        return msgspec.structs.replace(made, sub_kernels=(*made.sub_kernels, copy))

    def split(self, kernel: Composite, name: str, sizes: Sizes) -> Composite:
        """Return a linear with a part of the size that a binding says."""
        bound = {variable: parse(text) for variable, text in kernel.bindings.items()}
        own = bound[name]
        divided = own.substitute(sizes)
        others = {used for variable, formula in bound.items() if variable != name for used in formula.variables}
        if not others.intersection(sizes.keys() & set(own.variables)):
            made = _substituted(kernel, {one: sizes[one] for one in sizes if one in own.variables})
            assert isinstance(made, Composite)
            return made
        return rebound(kernel, {**bound, name: divided})

    def part_of(self, size: Formula) -> dict[str, Formula]:
        """Return variable → its part, so that a size becomes the part of it that a rank has."""
        if heads := heads_of(size):  # some templates say hidden_size for heads times theirs
            exact = (name for name in (*heads, "hidden_size") if name in heads or name in size.variables)
            return {name: _most(name) if name in REPEATED else self.exactly(name) for name in exact}
        width = next((name for name in size.variables if name != "hidden_size"), "hidden_size")
        if size == variable(width):
            return {width: self.part(width)}
        self.divided[size] = "tp"
        return {width: build("/", variable(width), _TP)}

    def part(self, size: str) -> Formula:
        """Return the part of a size that the busiest rank has, rounded up; or the one that is stated, what is left."""
        most = _most(size)
        if not self.layout.is_stated:
            return most
        left = build("-", variable(size), build("*", variable("tp_rank"), most))
        return build("max", constant(0), build("min", most, left))

    def exactly(self, size: str) -> Formula:
        """Return a part of a size that has to divide."""
        self.divided[variable(size)] = "tp"
        return build("/", variable(size), _TP)

    def embedding(self, kernel: Composite) -> list[Kernel]:
        """Return an embedding with some of the rows: what a rank does not find, another one does."""
        rows = _binding(kernel, "num_embeddings") or variable("vocab_size")
        width = _binding(kernel, "embedding_dim") or variable("hidden_size")
        tokens = _binding(kernel, "num_tokens") or parse("{batch_size} * {seq_len}")
        payload = build("*", tokens, width, variable("a_bytes"))
        sizes = {name: self.part(name) for name in rows.variables}
        return [_substituted(kernel, sizes), link(kernel.name, "all_reduce", "tp", payload)]

    def experts(self, kernel: Composite) -> list[Kernel]:
        """Return experts of which every rank has a part of each."""
        used = parse(kernel.parameters or "0").variables
        widths = [name for name in used if name not in {"num_experts", "hidden_size"}]
        sizes = {name: self.part(name) for name in widths[:1]}
        given = _stream()
        if _gives_all(kernel):
            given = build("*", variable("num_experts"), given)
        return [_substituted(kernel, sizes), link(kernel.name, "all_reduce", "tp", given)]

    def whole_experts(self, kernel: Composite) -> list[Kernel]:
        """Return experts of which every rank has some, whole; tokens are spread over them evenly, but for `imbalance`.

        If all ranks have the same tokens, they sum what their experts give. Otherwise tokens go to the ranks that have
        their experts, and what these give comes back: the products see the tokens of all. What the busiest rank is sent
        is more than what it sends, and what it gives back is as much.
        """
        self.divided[variable("num_experts")] = "ep"
        experts = {"num_experts": parse("{num_experts} / {ep}")}
        if self.layout.shares_tokens:
            made = _substituted(kernel, {**experts, "experts_per_token": self.chosen("ep")})
            return [made, link(kernel.name, "all_reduce", "ep", _stream())]
        has_tp = "tp" in self.layout.axes
        own = build(
            "*", variable("batch_size"), build("/", variable("seq_len"), _TP) if has_tp else variable("seq_len")
        )
        rows = self.uneven(build("*", own, parse("{experts_per_token} * {hidden_size} * {a_bytes}")))
        others = {**experts, "experts_per_token": self.chosen("tp" if has_tp else "")}
        made = _substituted(kernel, others, is_product=False)
        copies = parse("{batch_size} * {ep} / {tp}" if has_tp else "{batch_size} * {ep}")
        products = {**experts, "batch_size": copies, "experts_per_token": self.chosen("ep")}
        name = kernel.name
        found: list[Kernel] = [
            link(f"{name}_counts", "all_to_all", "ep", parse("8 * {num_experts}")),
            link(f"{name}_dispatch", "all_to_all", "ep", rows),
            _substituted(made, products, is_product=True),
            link(f"{name}_combine", "all_to_all", "ep", rows),
        ]
        if has_tp:
            found.append(link(name, "all_gather", "tp", parse("4 * {batch_size} * {seq_len} * {hidden_size}")))
        return found

    def chosen(self, axis: str) -> Formula:
        """Return how many of a token's experts the busiest rank along an axis has, on average."""
        each = build("/", variable("experts_per_token"), variable(axis)) if axis else variable("experts_per_token")
        return self.uneven(each)

    def uneven(self, average: Formula) -> Formula:
        """Return what the busiest rank has of what is spread over the experts."""
        return build("*", variable("imbalance"), average) if self.layout.is_imbalanced else average


_TP = variable("tp")


def _most(size: str) -> Formula:
    """Return a part of a size, rounded up: heads that are fewer than the ranks are repeated, and all have one."""
    return build("ceil", build("/", variable(size), _TP))


def _joined(size: Formula) -> Formula:
    """Return what all ranks' parts of a size are together: each sends as much as the first, which may be rounded up."""
    return build("*", _TP, _most(str(size.variables[0]))) if size.operation == "variable" else size


def _binding(kernel: Composite, name: str) -> Formula | None:
    return parse(kernel.bindings[name]) if name in kernel.bindings else None


def _tensor(kernel: Composite, size: Formula) -> Formula:
    """Return the bytes of what a linear gives."""
    return build("*", parse(kernel.bindings["num_tokens"]), size, variable("a_bytes"))


def _copied(operation: str, size: Formula) -> Basic:
    return Basic(operation=operation, unit="vector", flops="0", memory_access=MemoryAccess(str(size), str(size)))


def _before(kernel: Composite, first: Basic) -> Composite:
    return msgspec.structs.replace(kernel, sub_kernels=(first, *kernel.sub_kernels))


def _with_bias_alone(kernel: Composite, given: Formula) -> Composite:
    """Return a linear whose bias is added to the sum of all ranks, in a launch of its own that reads and writes it."""

    def alone(sub: Kernel) -> Kernel:
        if not isinstance(sub, Basic) or not sub.fused:
            return sub
        read, write = (str(build("+", parse(text), given)) for text in msgspec.structs.astuple(sub.memory_access))
        return msgspec.structs.replace(sub, fused=False, memory_access=MemoryAccess(read, write))

    return msgspec.structs.replace(kernel, sub_kernels=tuple(map(alone, kernel.sub_kernels)))


def _gives_all(experts: Kernel) -> bool:
    """Return whether every expert is given every token: whether products are as many as experts."""
    if isinstance(experts, Composite):
        return any(map(_gives_all, experts.sub_kernels))
    return experts.unit == "matmul" and "num_experts" in parse(experts.flops).variables


def _stream() -> Formula:
    """Return the bytes of the residual stream."""
    return parse("{batch_size} * {seq_len} * {hidden_size} * {a_bytes}")


def _substituted(kernel: Kernel, sizes: Sizes, *, is_product: bool | None = None) -> Kernel:
    """Return a kernel, and all below it, with other sizes; only its products with weights, or only all else."""
    if not sizes:
        return kernel

    def text(formula: str) -> str:
        return str(parse(formula).substitute(sizes)) if formula and "{" in formula else formula

    if isinstance(kernel, Basic):
        if is_product is not None and is_product != (kernel.unit == "matmul"):
            return kernel
        access = MemoryAccess(text(kernel.memory_access.read), text(kernel.memory_access.write))
        return msgspec.structs.replace(kernel, flops=text(kernel.flops), memory_access=access)
    if is_product:
        subs = tuple(_substituted(sub, sizes, is_product=True) for sub in kernel.sub_kernels)
        return msgspec.structs.replace(kernel, sub_kernels=subs)
    return msgspec.structs.replace(
        kernel,
        bindings={name: text(formula) for name, formula in kernel.bindings.items()},
        repeat=text(kernel.repeat),
        calls=text(kernel.calls),
        parameters=text(kernel.parameters),
        sub_kernels=tuple(_substituted(sub, sizes, is_product=is_product) for sub in kernel.sub_kernels),
    )
