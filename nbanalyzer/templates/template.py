"""Module and model templates.

A kernel is one node of cost. A `Basic` kernel carries formulas. A `Composite` kernel holds
`sub_kernels`, or names the module template they come from, or (once expanded) both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec

from nbanalyzer.errors import FormulaError, TemplateError, shorten
from nbanalyzer.formulas.formula import Formula, parse
from nbanalyzer.text import printable

from .config_files import text_part, with_floats

__all__ = [
    "COLLECTIVES", "DRAFTED", "NOT_CHECKED", "Basic", "Collective", "Composite", "Kernel", "MemoryAccess",
    "ModelTemplate", "ModuleTemplate", "Reads", "Tensor", "Validity",
]  # fmt: skip

DRAFTED = "drafted"
"""Key in the provenance of a template that was drafted, by whomever: what it was checked against, number by number."""
NOT_CHECKED = "drafted, not checked"

MAX_STEPS = 1_000  # operations of one kernel

Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send"]
"""What devices do together, by PyTorch's names."""
COLLECTIVES: tuple[str, ...] = get_args(Collective)


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a template: immutable, strict about fields, written without defaults."""


class MemoryAccess(_Struct, frozen=True):
    """Traffic of one execution, in bytes: two formulas."""

    read: str
    write: str


class Tensor(_Struct, frozen=True):
    """A tensor that a scheme stores of a weight, see `nbanalyzer.templates.schemes`.

    Attributes:
        name: e.g. ``"weight_scale"``.
        dtype: a name of `nbanalyzer.templates.schemes.DTYPES`, or ``"model"``: the run's bits of a weight.
        elements: how many it has; of llama.cpp's dtypes, how many blocks.
        is_read: whether a pass reads it.
        rows: its first size, by which ranks shard it; "" if nobody looked, or if no scheme narrows it.

    """

    name: str
    dtype: str
    elements: str
    is_read: bool = True
    rows: str = ""


class Basic(_Struct, tag_field="kernel_type", tag="basic", frozen=True, kw_only=True):
    """A kernel with formulas, each for one execution.

    Attributes:
        operation: what is computed, in a few words, e.g. ``"matmul"``.
        unit: the hardware that runs it: ``"matmul"`` (what FlopCounterMode counts), ``"vector"``, or ``"link"``: the
            devices of a group communicate.
        fused: whether it is one launch with the kernel before it.
        steps: operations that it stands for, run and started one after the other.
        flops: floating-point operations, 2 per multiply-add.
        memory_access: bytes read and written.
        weights: of the bytes read, those of weights in a scheme that are not ``… * {w_bytes}``, as all others are.
        collective: what the devices do together, of unit ``"link"``; "" of all others.
        group: the axis of the mesh along which they do, e.g. ``"tp"``.
        payload: bytes of the whole tensor: of an all-gather what is there after it, of a reduce-scatter before it.

    """

    operation: str
    unit: Literal["matmul", "vector", "link"]
    fused: bool = False
    steps: Annotated[int, msgspec.Meta(ge=1, le=MAX_STEPS)] = 1
    flops: str
    memory_access: MemoryAccess
    weights: str = ""
    collective: Literal["", "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send"] = ""
    group: Literal["", "tp", "ep", "pp", "dp", "fsdp", "cp"] = ""
    payload: str = "0"

    @property
    def name(self) -> str:
        """The last part of the kernel's path."""
        return self.operation

    @property
    def label(self) -> str:
        """The operation, with the launches that it shares or takes: ``bias add (fused)``, ``scan (8 steps)``."""
        notes = (["fused"] if self.fused else []) + ([f"{self.steps} steps"] if self.steps > 1 else [])
        return f"{self.operation} ({', '.join(notes)})" if notes else self.operation


class Composite(_Struct, tag_field="kernel_type", tag="composite", frozen=True, kw_only=True):
    """A kernel made of others.

    Attributes:
        name: the attribute's name in PyTorch, e.g. ``"c_attn"``.
        description: its purpose, if the name does not tell.
        module: class name of the module template that it is expanded from.
        bindings: context variable of that template → formula at this place of use.
        variants: name of a variant, e.g. ``"eager"`` → class name of the module template to use instead;
            it takes the same bindings.
        repeat: copies, run one after the other, each with parameters of its own.
        calls: how often each copy runs in this pass: 0 if the pass skips it (an encoder in decoding), more if one
            module is called repeatedly. The parameters do not depend on it.
        parameters: of one copy, without those of `sub_kernels`.
        shared: whether its parameters, and those inside, are another kernel's: no memory holds them a second time.
        scheme: the name of the scheme that its weights are stored in; "" if the run's bits say it.
        weights: the tensors that one copy's parameters are stored in, by that scheme.
        sub_kernels: the kernels inside.

    """

    name: str
    description: str = ""
    module: str = ""
    bindings: dict[str, str] = {}
    variants: dict[str, str] = {}
    repeat: str = "1"
    calls: str = "1"
    parameters: str = ""
    shared: bool = False
    scheme: str = ""
    weights: tuple[Tensor, ...] = ()
    sub_kernels: tuple[Basic | Composite, ...] = ()

    @property
    def label(self) -> str:
        """The name."""
        return self.name


Kernel = Basic | Composite


class ModuleTemplate(_Struct, frozen=True, kw_only=True):
    """The cost of a module or function, in context variables.

    Attributes:
        class_name: qualified name, e.g. ``"torch.nn.modules.linear.Linear"``.
        description: what it computes, and where a cost rule comes from.
        variables: context variable → its meaning, for the binding.
        parameters: its own parameters, without those of the modules it refers to.
        state: name, e.g. ``"kv_cache"`` → formula of the bytes that it keeps between passes.
        kernels: the kernels inside; a composite kernel may refer to another module template.

    """

    class_name: str
    description: str
    variables: dict[str, str]
    parameters: str = "0"
    state: dict[str, str] = {}
    kernels: tuple[Kernel, ...]


class Validity(_Struct, frozen=True, kw_only=True):
    """The configs that a template is valid for, see `nbanalyzer.templates.validity`: fields of the text part.

    Of a whole that reads images or sound, they are fields of all its parts, see
    `nbanalyzer.templates.config_fields.of_whole`.

    Attributes:
        varied: config fields that the probes varied: they may have any other number.
        indifferent: varied fields, of numbers or null, without any effect.
        together: pairs of sizes ``"a=b"`` that may only change by the same factor.
        apart: pairs of sizes ``"a=b"`` that must differ; equal ones run other operations.
        derived: fields that follow from others if a config does not state them.
        defaults: transformers' value of every other field that a config does not state.
        aliases: other names of fields that the config's class knows.
        least: fields that may have no smaller value than this: with it, other layers are run.

    """

    varied: tuple[str, ...] = ()
    indifferent: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    defaults: dict[str, Any] = {}
    aliases: dict[str, str] = {}
    least: dict[str, int] = {}

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "defaults", with_floats(self.defaults))


class Reads(_Struct, frozen=True, kw_only=True):
    """What a model reads besides tokens, and the sizes that follow from it, see `nbanalyzer.templates.media`.

    Attributes:
        what: images, videos of so many frames (`video_frames`), or sound.
        rule: how a processor fits an image's size to the model, one of `nbanalyzer.templates.media.RULES`; "" if the
            model takes images of one size only, or sound.
        sizes: what the rule needs: name → formula of the model's variables.
        variables: variable → formula of those of the model and of the run, each after those that it uses.
        positions: how many positions of the prompt one image takes, or the sound of a sequence: a formula.
        audio_positions: how many the sound of a sequence takes where images may be read beside it; "" if none is read.
        each: whether every sequence is an image or a sound, and nothing else: the model reads no text.
        usual: how many images there are in a pass, or how many seconds of sound, where the run does not say.
        most: how many seconds of sound the model takes; 0 for any.
        encoded: whether the prompt is an encoder's, of `encoder_len` positions, and what is counted anew beside it.
        written: how many tokens that were written are kept beside a prompt, itself included: a formula; "" for all.

    """

    what: Literal["images", "videos", "sound"]
    rule: str = ""
    sizes: dict[str, str] = {}
    variables: dict[str, str] = {}
    positions: str = "0"
    audio_positions: str = ""
    each: bool = False
    usual: int = 0
    most: int = 0
    encoded: bool = False
    written: str = ""


class ModelTemplate(_Struct, frozen=True, kw_only=True, dict=True):
    """The kernel tree of one model, in global variables only, with its config values beside it.

    Attributes:
        model_id: ``"org/name"`` on the Hugging Face hub, or the user's own name.
        architecture: the transformers class, e.g. ``"GPT2LMHeadModel"``.
        extends: id of a shipped model with the same kernels and state; then `kernels` is empty.
        module: class name of the module template that the kernels are expanded from; may be empty.
        bindings: of its context variables.
        config: the architecture fields under Hugging Face's names.
        attention: ``"eager"`` if transformers has no other implementation for this model; "" if the run chooses.
        valid_for: the other configs that the kernels are valid for; None if not known.
        state: name → formula of the bytes kept between passes.
        sharding: how transformers divides the model over the devices of a tensor-parallel group: path of modules,
            with ``*`` in a name → style, see `nbanalyzer.costs.sharding`; empty if it does not.
        expert_sharding: the same where every device keeps experts whole, but not all of them.
        reads: what the model reads besides tokens; None if nothing, or if its text part alone is counted.
        kernels: the tree.
        provenance: origin, checks and their results.

    """

    model_id: str = ""
    architecture: str = ""
    extends: str = ""
    module: str = ""
    bindings: dict[str, str] = {}
    config: dict[str, Any] = {}
    attention: Literal["", "eager"] = ""
    valid_for: Validity | None = None
    state: dict[str, str] = {}
    sharding: dict[str, str] = {}
    expert_sharding: dict[str, str] = {}
    reads: Reads | None = None
    kernels: tuple[Kernel, ...] = ()
    provenance: dict[str, Any] = {}

    def __post_init__(self) -> None:
        # Infinite numbers, which JSON lacks, are in files as transformers writes them.
        msgspec.structs.force_setattr(self, "config", with_floats(self.config))

    @cached_property
    def variables(self) -> frozenset[str]:
        """The variables that the formulas use."""
        return frozenset(name for field in fields_of(self) for name in field.parse().variables)

    @cached_property
    def divisions(self) -> frozenset[Formula]:
        """The floor divisions of one size by another in the formulas."""
        parts = (part for field in fields_of(self) for part in field.parse().walk())
        return frozenset(part for part in parts if part.operation == "//" and part.arguments[1].variables)

    @property
    def drafted(self) -> str:
        """What a template that was drafted was checked against, in a few words; "" for any other."""
        if DRAFTED not in self.provenance:
            return ""
        result = self.provenance.get("result")
        return shorten(printable(result), 200) if isinstance(result, str) and result else NOT_CHECKED

    @property
    def part(self) -> str:
        """The part of the config's model that the kernels are, in a few words; "" for the whole model."""
        if isinstance(within := self.provenance.get("within"), str):
            return f"a part of {shorten(printable(within))}"
        stated = self.config.get("architectures")
        names = [shorten(str(name)) for name in stated] if isinstance(stated, list | tuple) else []
        whole = " or ".join(names) or shorten(str(self.config.get("model_type", "a multimodal model")))
        if not self.architecture or self.architecture.casefold() in map(str.casefold, names):
            return ""
        if self.provenance.get("part") == "text" or (text_part(self.config) and self.reads is None):
            missing = shorten(printable(str(self.provenance.get("missing", ""))))
            return f"the text part of {whole}" + (f" ({missing})" if missing else "")
        if not names:
            return ""
        half = self.config.get("is_encoder_decoder") is True and self.architecture.endswith("ForCausalLM")
        return f"the decoder of {whole}" if half else f"in place of {whole}"


class Field(NamedTuple):
    """A formula in a template, with its place."""

    path: str
    field: str
    text: str

    def parse(self) -> Formula:
        """Return the formula; an error names its place."""
        try:
            return parse(self.text)
        except FormulaError as error:
            raise TemplateError(str(error), f"{self.path}, {self.field}" if self.path else self.field) from None


def fields_of(template: ModuleTemplate | ModelTemplate) -> Iterator[Field]:
    """Yield every formula of a template."""
    if isinstance(template, ModuleTemplate):
        yield Field("", "parameters", template.parameters)
    yield from (Field("", f"state.{name}", text) for name, text in template.state.items())
    if isinstance(template, ModelTemplate) and template.reads:
        yield from (Field("", f"reads.{name}", text) for name, text in template.reads.variables.items())
        yield from (Field("", f"reads.{name}", text) for name, text in template.reads.sizes.items())
        yield Field("", "reads.positions", template.reads.positions)
        if template.reads.audio_positions:
            yield Field("", "reads.audio_positions", template.reads.audio_positions)
        if template.reads.written:
            yield Field("", "reads.written", template.reads.written)
    yield from fields(template.kernels)


def walk(kernels: Iterable[Kernel], path: str = "") -> Iterator[tuple[str, Kernel]]:
    """Yield path and kernel of everything in a kernel tree, outermost first."""
    for kernel in kernels:
        here = f"{path}.{kernel.name}" if path else kernel.name
        yield here, kernel
        if isinstance(kernel, Composite):
            yield from walk(kernel.sub_kernels, here)


def fields(kernels: Iterable[Kernel]) -> Iterator[Field]:
    """Yield every formula of a kernel tree, outermost first."""
    for here, kernel in walk(kernels):
        if isinstance(kernel, Basic):
            yield Field(here, "flops", kernel.flops)
            yield Field(here, "memory_access.read", kernel.memory_access.read)
            yield Field(here, "memory_access.write", kernel.memory_access.write)
            if kernel.weights:
                yield Field(here, "weights", kernel.weights)
            if kernel.unit == "link":
                yield Field(here, "payload", kernel.payload)
            continue
        for variable, text in kernel.bindings.items():
            yield Field(here, f"bindings.{variable}", text)
        yield Field(here, "repeat", kernel.repeat)
        yield Field(here, "calls", kernel.calls)
        if kernel.parameters:
            yield Field(here, "parameters", kernel.parameters)
        for tensor in kernel.weights:
            yield Field(here, f"weights.{tensor.name}", tensor.elements)
