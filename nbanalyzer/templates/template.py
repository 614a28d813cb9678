"""Module and model templates: their types, how they are read and written, and which variables they may use.

A kernel is one node of cost. A `Basic` kernel carries formulas. A `Composite` kernel holds
`sub_kernels`, or names the module template they come from, or (once expanded) both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from nbanalyzer.errors import FormulaError, TemplateError, UnresolvedVariablesError, quote, shorten
from nbanalyzer.files import convert, decode, read_file, write_whole
from nbanalyzer.formulas.formula import Formula, parse
from nbanalyzer.formulas.variables import ALLOWED_VARIABLES

from .config import integer_fields
from .config_files import TEXT_PARTS, with_floats, without_floats

__all__ = [
    "Basic",
    "Composite",
    "DisallowedVariable",
    "Kernel",
    "MemoryAccess",
    "ModelTemplate",
    "ModuleTemplate",
    "Validity",
    "load_model_template",
    "load_module_template",
    "load_template",
    "save_template",
    "validate_template",
]

MAX_LEVELS = 30  # of kernels inside kernels
MAX_KERNELS = 3_000  # of one template; the largest shipped one has 404
MAX_STEPS = 1_000  # operations that one kernel stands for
MAX_CHARACTERS = 200_000  # of all its formulas; the largest shipped template has 63 thousand
NAME = re.compile(r"[A-Za-z_][\w-]{0,99}", re.ASCII)


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


class DisallowedVariable(NamedTuple):
    """A variable that a model template must not use, and where it does."""

    variable: str
    path: str  # of the kernel, e.g. "transformer.h.attn.c_attn.matmul"; "" for the model itself
    field: str  # e.g. "flops", "memory_access.read", "bindings.output_size", "state.kv_cache"
    formula: str


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


def validate_template(template: ModelTemplate | Mapping[str, Any]) -> list[DisallowedVariable]:
    """Return every use of a variable that is not global, with kernel path and field; ``[]`` is a valid template.

    Allowed are `ALLOWED_VARIABLES` and the integer fields of the template's own config.

    Raises:
        TemplateError: a formula that cannot be read, or a name that cannot be.

    """
    if not isinstance(template, ModelTemplate):
        template = convert(template, ModelTemplate, "template")
    check_names(template)
    allowed = ALLOWED_VARIABLES | integer_fields(template.config)
    places = [Field("", f"state.{name}", text) for name, text in template.state.items()]
    return [
        DisallowedVariable(variable, place.path, place.field, place.text)
        for place in (*places, *fields(template.kernels))
        for variable in place.parse().variables
        if variable not in allowed
    ]


def require_valid(template: ModelTemplate, where: str = "") -> ModelTemplate:
    """Return the template if it uses global variables only.

    Raises:
        UnresolvedVariablesError: it does not; the message names the first ones with their places.

    """
    try:
        found = validate_template(template)
    except TemplateError as error:
        raise TemplateError(error.problem, ", ".join(filter(None, (where, error.where)))) from None
    if not found:
        return template
    places = [f"{{{use.variable}}} in {use.path or 'the model'}, {use.field}" for use in found[:3]]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    raise UnresolvedVariablesError(
        f"unresolved template variables: {'; '.join(places)}{more}. A model template uses global variables only: "
        'bind these where the module is used, with "bindings"',
        where or template.model_id,
        tuple(use.variable for use in found),
    )


def check_size(template: ModelTemplate | ModuleTemplate) -> None:
    """Raise if there are more kernels, or more of formulas, than can be gone through in a moment."""
    kernels, characters = 0, sum(map(len, template.state.values()))
    waiting: list[Kernel] = [*template.kernels]
    while waiting:
        kernel = waiting.pop()
        kernels += 1
        if isinstance(kernel, Basic):
            characters += len(kernel.flops) + len(kernel.memory_access.read) + len(kernel.memory_access.write)
            continue
        characters += len(kernel.repeat) + len(kernel.calls) + len(kernel.parameters)
        characters += sum(map(len, kernel.bindings.values()))
        waiting += kernel.sub_kernels
    require_size(kernels, characters)


def require_size(kernels: int, characters: int) -> None:
    """Raise if so many kernels with formulas of so many characters are too much for one template."""
    if kernels > MAX_KERNELS:
        raise TemplateError(f"more than {MAX_KERNELS:,} kernels: what repeats is one kernel with a repeat")
    if characters > MAX_CHARACTERS:
        raise TemplateError(f"more than {MAX_CHARACTERS:,} characters of formulas: what repeats is one kernel")


def check_names(template: ModelTemplate) -> None:
    """Raise if a name cannot be shown or be part of a path, or if kernels are too many or nested too deep."""
    check_size(template)
    for label in (template.model_id, template.architecture):
        if len(label) > 200 or not label.isprintable():
            raise TemplateError(f"a model's name is at most 200 printable characters, not {quote(label)}")
    _check_names(template.kernels)


def _check_names(kernels: tuple[Kernel, ...], path: str = "", level: int = 1) -> None:
    if level > MAX_LEVELS:
        raise TemplateError(f"kernels are nested more than {MAX_LEVELS} deep", path)
    names: set[str] = set()
    for kernel in kernels:
        if isinstance(kernel, Composite):
            if kernel.name in names:
                raise TemplateError(
                    f"two kernels are called {quote(kernel.name)}: nobody could tell which is meant", path
                )
            names.add(kernel.name)
        here = f"{path}.{kernel.name}" if path else kernel.name
        if isinstance(kernel, Basic):
            if not kernel.operation.isprintable() or not 0 < len(kernel.operation) <= 100:
                raise TemplateError(
                    f"an operation is 1 to 100 printable characters, not {shorten(kernel.operation)!r}", path
                )
            continue
        if not NAME.fullmatch(kernel.name):
            raise TemplateError(f"a kernel's name is letters, digits, '_' and '-', not {shorten(kernel.name)!r}", path)
        _check_names(kernel.sub_kernels, here, level + 1)


def load_model_template(source: str | os.PathLike[str] | bytes, where: str = "") -> ModelTemplate:
    """Return the model template in a file, or in the bytes of one; it is always validated.

    Raises:
        TemplateError: not readable, malformed JSON (with line and column), a wrong or unknown field (with its
            path in the file), a formula that cannot be read.
        UnresolvedVariablesError: it uses variables that are not global.

    """
    where = where or _label(source)
    content = source if isinstance(source, bytes) else read_file(source)
    return require_valid(decode(content, ModelTemplate, where), where)


def load_template(source: str | os.PathLike[str] | bytes, where: str = "") -> ModuleTemplate | ModelTemplate:
    """Return the template of either kind in a file, or in the bytes of one, as the two functions beside this do."""
    where = where or _label(source)
    content = source if isinstance(source, bytes) else read_file(source)
    data = decode(content, Any, where)
    if isinstance(data, dict) and "class_name" in data:
        return load_module_template(content, where)
    return load_model_template(content, where)


def load_module_template(source: str | os.PathLike[str] | bytes, where: str = "") -> ModuleTemplate:
    """Return the module template in a file, or in the bytes of one; its formulas and variables are checked.

    Raises:
        TemplateError: as for `load_model_template`, or a variable that is neither declared nor global, or one
            that is declared and never used.

    """
    where = where or _label(source)
    content = source if isinstance(source, bytes) else read_file(source)
    return check_module(decode(content, ModuleTemplate, where), where)


def check_module(template: ModuleTemplate, where: str = "") -> ModuleTemplate:
    """Return the module template if its formulas use just the variables that it declares, and global ones."""
    where = where or template.class_name
    check_size(template)
    _check_names(template.kernels)
    places = [Field("", "parameters", template.parameters)]
    places += [Field("", f"state.{name}", text) for name, text in template.state.items()]
    used: set[str] = set()
    for place in (*places, *fields(template.kernels)):
        try:
            found = place.parse().variables
        except TemplateError as error:
            raise TemplateError(error.problem, f"{where}, {error.where}") from None
        for variable in found:
            if variable not in template.variables and variable not in ALLOWED_VARIABLES:
                spot = f"{where}, {place.path}, {place.field}" if place.path else f"{where}, {place.field}"
                raise TemplateError(f'{{{variable}}} is neither declared in "variables" nor a global variable', spot)
        used.update(found)
    # One that costs nothing keeps the variables of those it can be exchanged with.
    unused = [variable for variable in template.variables if variable not in used] if template.kernels else []
    if unused:
        raise TemplateError(f'{{{unused[0]}}} is declared in "variables" and never used', where)
    return template


def save_template(template: ModelTemplate | ModuleTemplate, path: str | os.PathLike[str]) -> None:
    """Write the template as readable JSON, whole or not at all; missing folders are made.

    Raises:
        OSError: the file cannot be written.

    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, encode(template))


def encode(template: msgspec.Struct) -> bytes:
    """Return the template as the JSON text of its file."""
    return msgspec.json.format(as_json(template), indent=2) + b"\n"


def as_json(template: msgspec.Struct) -> bytes:
    """Return the template as JSON text in one line."""
    if isinstance(template, ModelTemplate):
        written = msgspec.structs.replace(template)
        msgspec.structs.force_setattr(written, "config", without_floats(template.config))
        if template.valid_for:
            validity = msgspec.structs.replace(template.valid_for)
            msgspec.structs.force_setattr(validity, "defaults", without_floats(validity.defaults))
            msgspec.structs.force_setattr(written, "valid_for", validity)
        return msgspec.json.encode(written)
    return msgspec.json.encode(template)


def _label(source: str | os.PathLike[str] | bytes) -> str:
    return "template" if isinstance(source, bytes) else str(source)
