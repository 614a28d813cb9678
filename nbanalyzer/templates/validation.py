"""Checks of templates: their size, their names, their variables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from nbanalyzer.errors import TemplateError, UnresolvedVariablesError, quote, shorten
from nbanalyzer.files import convert
from nbanalyzer.formulas.variables import ALLOWED_VARIABLES

from .config import integer_fields
from .template import Basic, Kernel, ModelTemplate, ModuleTemplate, fields_of, walk

__all__ = [
    "DisallowedVariable", "check_module", "check_names", "name_errors", "require_size", "require_valid", "uses_of",
    "validate_template",
]  # fmt: skip

MAX_LEVELS = 30  # of kernels inside kernels
MAX_KERNELS = 3_000  # of one template; the largest shipped one has 404
MAX_CHARACTERS = 300_000  # of all its formulas; the largest shipped template has 220,000
NAME = re.compile(r"[A-Za-z_][\w-]{0,99}", re.ASCII)


class DisallowedVariable(NamedTuple):
    """A variable that a model template must not use, and the formula that uses it."""

    variable: str
    path: str  # of the kernel, e.g. "transformer.h.attn.c_attn.matmul"; "" for the model itself
    field: str  # e.g. "flops", "memory_access.read", "bindings.output_size", "state.kv_cache"
    formula: str


def validate_template(template: ModelTemplate | Mapping[str, Any]) -> list[DisallowedVariable]:
    """Return every use of a variable that is not global, with kernel path and field; ``[]`` is a valid template.

    Allowed are `ALLOWED_VARIABLES` and the integer fields of the template's own config.

    Raises:
        TemplateError: a formula that cannot be read, or a name that is not allowed.

    """
    if not isinstance(template, ModelTemplate):
        template = convert(template, ModelTemplate, "template")
    check_names(template)
    found = []
    for use in uses_of(template):
        if isinstance(use, TemplateError):
            raise use
        found.append(use)
    return found


def uses_of(template: ModelTemplate) -> Iterator[DisallowedVariable | TemplateError]:
    """Yield every use of a variable that is not global, and the error of every formula that cannot be read."""
    allowed = ALLOWED_VARIABLES | integer_fields(template.config)
    allowed |= template.reads.variables.keys() if template.reads else set()
    for field in fields_of(template):
        try:
            variables = field.parse().variables
        except TemplateError as error:
            yield error
            continue
        yield from (DisallowedVariable(variable, *field) for variable in variables if variable not in allowed)


def require_valid(template: ModelTemplate, where: str = "") -> ModelTemplate:
    """Return the template if it uses global variables only.

    Raises:
        UnresolvedVariablesError: it does not; the message names the first ones with their places.

    """
    try:
        uses = validate_template(template)
    except TemplateError as error:
        raise TemplateError(error.problem, ", ".join(filter(None, (where, error.where)))) from None
    if not uses:
        return template
    places = [f"{{{use.variable}}} in {use.path or 'the model'}, {use.field}" for use in uses[:3]]
    more = f" and {len(uses) - 3} more" if len(uses) > 3 else ""
    raise UnresolvedVariablesError(
        f"unresolved template variables: {'; '.join(places)}{more}. A model template uses global variables only: "
        'bind these where the module is used, with "bindings"',
        where or template.model_id,
        tuple(use.variable for use in uses),
    )


def check_size(template: ModelTemplate | ModuleTemplate) -> None:
    """Raise if a template has too many kernels, or too long formulas, to be processed at once."""
    kernels = sum(1 for _ in walk(template.kernels))
    require_size(kernels, sum(len(field.text) for field in fields_of(template)))


def require_size(kernels: int, characters: int) -> None:
    """Raise if the kernels, or the characters of their formulas, are too many for one template."""
    if kernels > MAX_KERNELS:
        raise TemplateError(f"more than {MAX_KERNELS:,} kernels: what repeats is one kernel with a repeat")
    if characters > MAX_CHARACTERS:
        raise TemplateError(f"more than {MAX_CHARACTERS:,} characters of formulas: what repeats is one kernel")


def check_names(template: ModelTemplate) -> None:
    """Raise if a name cannot be shown or be part of a path, or if kernels are too many or too deep."""
    for error in name_errors(template):
        raise error
    check_size(template)


def name_errors(template: ModelTemplate) -> Iterator[TemplateError]:
    """Yield what is wrong with the names of a template and its kernels, and with how deep they are nested."""
    for label in (template.model_id, template.architecture):
        if len(label) > 200 or not label.isprintable():
            yield TemplateError(f"a model's name is at most 200 printable characters, not {quote(label)}")
    yield from _name_errors(template.kernels)


def _name_errors(kernels: tuple[Kernel, ...], path: str = "", level: int = 1) -> Iterator[TemplateError]:
    if level > MAX_LEVELS:
        yield TemplateError(f"kernels are nested more than {MAX_LEVELS} deep", path)
        return
    names: set[str] = set()
    for kernel in kernels:
        name = kernel.name
        if isinstance(kernel, Basic):
            if not name.isprintable() or not 0 < len(name) <= 100:
                yield TemplateError(f"an operation is 1 to 100 printable characters, not {shorten(name)!r}", path)
            said = (kernel.collective, kernel.group, kernel.payload != "0")
            if not (all(said) if kernel.unit == "link" else not any(said)):
                needs = "needs a collective, its group and the payload" if kernel.unit == "link" else "sends nothing"
                yield TemplateError(f"a kernel of unit {quote(kernel.unit)} {needs}: {shorten(name)!r}", path)
            continue
        if name in names:
            yield TemplateError(f"two kernels are called {quote(name)}: nobody could tell which is meant", path)
        names.add(name)
        if not NAME.fullmatch(name):
            yield TemplateError(f"a kernel's name is letters, digits, '_' and '-', not {shorten(name)!r}", path)
        yield from _name_errors(kernel.sub_kernels, f"{path}.{name}" if path else name, level + 1)


def check_module(template: ModuleTemplate, where: str = "") -> ModuleTemplate:
    """Return the module template if its formulas use only its declared variables and global ones."""
    where = where or template.class_name
    for error in _name_errors(template.kernels):
        raise error
    check_size(template)
    used: set[str] = set()
    for field in fields_of(template):
        try:
            names = field.parse().variables
        except TemplateError as error:
            raise TemplateError(error.problem, f"{where}, {error.where}") from None
        for variable in names:
            if variable not in template.variables and variable not in ALLOWED_VARIABLES:
                place = ", ".join(filter(None, (where, field.path, field.field)))
                raise TemplateError(f'{{{variable}}} is neither declared in "variables" nor a global variable', place)
        used.update(names)
    # A module without kernels declares the variables of the modules that it can be exchanged with.
    unused = [variable for variable in template.variables if variable not in used] if template.kernels else []
    if unused:
        raise TemplateError(f'{{{unused[0]}}} is declared in "variables" and never used', where)
    return template
