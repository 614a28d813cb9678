"""Module and model templates: what they are made of.

A kernel is one node of cost. A `Basic` kernel carries formulas. A `Composite` kernel holds
`sub_kernels`, or names the module template they come from, or (once expanded) both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from nbanalyzer.errors import FormulaError, TemplateError, shorten
from nbanalyzer.formulas.formula import Formula, parse

from .config_files import TEXT_PARTS, with_floats

__all__ = ["Basic", "Composite", "Kernel", "MemoryAccess", "ModelTemplate", "ModuleTemplate", "Validity"]

MAX_STEPS = 1_000  # operations that one kernel stands for


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all parts of a template share: immutable, strict about fields, silent about defaults."""


class MemoryAccess(_Struct, frozen=True):
    """Traffic of one execution, in bytes: two formulas."""

    read: str
    write: str


class Basic(_Struct, tag_field="kernel_type", tag="basic", frozen=True, kw_only=True):
    """A kernel with formulas; all of them count one execution.

    Attributes:
        operation: what is computed, in a few words, e.g. ``"matmul"``.
        unit: the hardware that does it: ``"matmul"`` (what FlopCounterMode counts) or ``"vector"``.
        fused: whether the device runs it as one with the kernel that stands before it, beside it.
        steps: how many operations it stands for, run one after the other; each is started of its own.
        flops: floating-point operations, 2 per multiply-add.
        memory_access: bytes read and written.

    """

    operation: str
    unit: Literal["matmul", "vector"]
    fused: bool = False
    steps: Annotated[int, msgspec.Meta(ge=1, le=MAX_STEPS)] = 1
    flops: str
    memory_access: MemoryAccess

    @property
    def name(self) -> str:
        """The last part of the kernel's path."""
        return self.operation

    @property
    def label(self) -> str:
        """The operation, and how the device runs it if that is not alone and at once."""
        said = (["fused"] if self.fused else []) + ([f"{self.steps} steps"] if self.steps > 1 else [])
        return f"{self.operation} ({', '.join(said)})" if said else self.operation


class Composite(_Struct, tag_field="kernel_type", tag="composite", frozen=True, kw_only=True):
    """A kernel made of others.

    Attributes:
        name: the attribute's name in PyTorch, e.g. ``"c_attn"``.
        description: why it is here, where the name does not say.
        module: class name of the module template that it is expanded from.
        bindings: context variable of that template → formula at this place of use.
        variants: name of a variant, e.g. ``"eager"`` → class name of the module template to use instead;
            it takes the same bindings.
        repeat: how many copies there are, one after the other, each with parameters of its own.
        calls: how often each copy runs in this pass: 0 where a step leaves it out, such as an encoder after the
            first one, more where one module is called again and again. Its parameters are there all the same.
        parameters: parameters of one copy, without those of `sub_kernels`.
        sub_kernels: what it is made of.

    """

    name: str
    description: str = ""
    module: str = ""
    bindings: dict[str, str] = {}
    variants: dict[str, str] = {}
    repeat: str = "1"
    calls: str = "1"
    parameters: str = ""
    sub_kernels: tuple[Basic | Composite, ...] = ()

    @property
    def label(self) -> str:
        """The name."""
        return self.name


Kernel = Basic | Composite


class ModuleTemplate(_Struct, frozen=True, kw_only=True):
    """What a module or function costs, in context variables.

    Attributes:
        class_name: qualified name, e.g. ``"torch.nn.modules.linear.Linear"``.
        description: what it computes, and where a cost rule comes from.
        variables: context variable → what to bind it to.
        parameters: its own parameters, without those of the modules it refers to.
        state: name → formula in bytes of what it keeps between steps, e.g. ``"kv_cache"``.
        kernels: what it is made of; a composite kernel may refer to another module template.

    """

    class_name: str
    description: str
    variables: dict[str, str]
    parameters: str = "0"
    state: dict[str, str] = {}
    kernels: tuple[Kernel, ...]


class Validity(_Struct, frozen=True, kw_only=True):
    """The configs that a template is right for, see `nbanalyzer.templates.validity`: all fields of the text part.

    Attributes:
        varied: config fields that the probes varied: any other number will do.
        indifferent: numbers, or null, that were varied too, and that nothing follows from.
        together: pairs of sizes ``"a=b"`` that may only be varied by the same factor.
        apart: pairs of sizes ``"a=b"`` that differ here; with equal ones, other operations are run.
        derived: fields that follow from others where a config does not state them.
        defaults: what transformers takes for every other field that a config does not state.
        aliases: other names of fields that the config's class knows.

    """

    varied: tuple[str, ...] = ()
    indifferent: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    defaults: dict[str, Any] = {}
    aliases: dict[str, str] = {}

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "defaults", with_floats(self.defaults))


class ModelTemplate(_Struct, frozen=True, kw_only=True, dict=True):
    """The kernel tree of one model, in global variables only, with its config values beside it.

    Attributes:
        model_id: ``"org/name"`` on the Hugging Face hub, or any name of one's own.
        architecture: the transformers class, e.g. ``"GPT2LMHeadModel"``.
        extends: id of a shipped model whose kernels and state are this one's too; then `kernels` is empty.
        module: class name of the module template that the kernels are expanded from; may be empty.
        bindings: what was bound there.
        config: the architecture fields under Hugging Face's names.
        attention: ``"eager"`` if transformers has no other implementation of this model's; "" if the run chooses.
        valid_for: which other configs the kernels are right for; None if nothing is known of that.
        state: name → formula in bytes of what is kept between steps.
        kernels: the tree.
        provenance: where it comes from, what was checked, with which result.

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
    kernels: tuple[Kernel, ...] = ()
    provenance: dict[str, Any] = {}

    def __post_init__(self) -> None:
        # Infinite numbers, which JSON does not have, are written in files as transformers writes them.
        msgspec.structs.force_setattr(self, "config", with_floats(self.config))

    @cached_property
    def variables(self) -> frozenset[str]:
        """The variables that the formulas use."""
        return frozenset(name for formula in self._formulas() for name in formula.variables)

    @cached_property
    def divisions(self) -> frozenset[Formula]:
        """The floor divisions of one size by another in the formulas."""
        found = (part for formula in self._formulas() for part in formula.walk())
        return frozenset(part for part in found if part.operation == "//" and part.arguments[1].variables)

    def _formulas(self) -> Iterator[Formula]:
        places = [Field("", f"state.{name}", text) for name, text in self.state.items()]
        return (place.parse() for place in (*places, *fields(self.kernels)))

    @property
    def part(self) -> str:
        """What the kernels are of the model that the config names, in a few words; empty for the whole of it."""
        stated = self.config.get("architectures")
        names = [shorten(str(name)) for name in stated] if isinstance(stated, list | tuple) else []
        whole = " or ".join(names) or shorten(str(self.config.get("model_type", "a multimodal model")))
        if not self.architecture or self.architecture.casefold() in map(str.casefold, names):
            return ""
        if self.provenance.get("part") == "text" or any(
            isinstance(self.config.get(key), Mapping) for key in TEXT_PARTS
        ):
            return f"the text part of {whole}"
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
        """Return the formula; what is wrong with it is reported with its place."""
        try:
            return parse(self.text)
        except FormulaError as error:
            raise TemplateError(str(error), f"{self.path}, {self.field}" if self.path else self.field) from None


def fields(kernels: tuple[Kernel, ...], path: str = "") -> Iterator[Field]:
    """Yield every formula of a kernel tree, outermost first."""
    for kernel in kernels:
        here = f"{path}.{kernel.name}" if path else kernel.name
        if isinstance(kernel, Basic):
            yield Field(here, "flops", kernel.flops)
            yield Field(here, "memory_access.read", kernel.memory_access.read)
            yield Field(here, "memory_access.write", kernel.memory_access.write)
            continue
        for variable, text in kernel.bindings.items():
            yield Field(here, f"bindings.{variable}", text)
        yield Field(here, "repeat", kernel.repeat)
        yield Field(here, "calls", kernel.calls)
        if kernel.parameters:
            yield Field(here, "parameters", kernel.parameters)
        yield from fields(kernel.sub_kernels, here)
