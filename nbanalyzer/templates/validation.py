"""What a template must not be: too large, with names that cannot be shown, with variables that nobody gives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from nbanalyzer.errors import TemplateError, UnresolvedVariablesError, quote, shorten
from nbanalyzer.files import convert
from nbanalyzer.formulas.variables import ALLOWED_VARIABLES

from .config import integer_fields
from .template import Basic, Composite, Field, Kernel, ModelTemplate, ModuleTemplate, fields

__all__ = ["DisallowedVariable", "check_module", "check_names", "require_size", "require_valid", "validate_template"]

MAX_LEVELS = 30  # of kernels inside kernels
MAX_KERNELS = 3_000  # of one template; the largest shipped one has 404
MAX_CHARACTERS = 200_000  # of all its formulas; the largest shipped template has 63 thousand
NAME = re.compile(r"[A-Za-z_][\w-]{0,99}", re.ASCII)


class DisallowedVariable(NamedTuple):
    """A variable that a model template must not use, and where it does."""

    variable: str
    path: str  # of the kernel, e.g. "transformer.h.attn.c_attn.matmul"; "" for the model itself
    field: str  # e.g. "flops", "memory_access.read", "bindings.output_size", "state.kv_cache"
    formula: str


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
