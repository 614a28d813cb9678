"""Module templates + bindings → a model template in global variables only.

A module template does not know where it is used, so it is written with ``{output_size}``; the place of use binds
``output_size → 3 * {hidden_size}``. Expanding substitutes bindings at every level.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nbanalyzer.errors import FormulaError, TemplateError, UnresolvedVariablesError, near
from nbanalyzer.files import convert
from nbanalyzer.formulas.formula import Formula, build, constant, extent, parse
from nbanalyzer.formulas.grammar import MAX_DEPTH, MAX_OPERATIONS

from .library import MODULES
from .styles import sharding_errors
from .template import Basic, Composite, Kernel, MemoryAccess, ModelTemplate, ModuleTemplate, fields
from .validation import (
    MAX_LEVELS,
    DisallowedVariable,
    check_module,
    check_names,
    name_errors,
    require_size,
    require_valid,
    uses_of,
)  # fmt: skip

__all__ = ["expand", "findings", "rebound", "with_variants"]

MOST_PUT_IN = 10 * MAX_OPERATIONS  # before simplification

Bindings = Mapping[str, Formula]


def expand(
    template: str | ModuleTemplate | ModelTemplate | Mapping[str, Any],
    bindings: Mapping[str, str | int] | None = None,
    *,
    modules: Mapping[str, ModuleTemplate] = MODULES,
    model_id: str = "",
    config: Mapping[str, Any] | None = None,
) -> ModelTemplate:
    """Return the model template that a module template becomes with `bindings`.

    Args:
        template: a module template, the class name of one, or either kind as plain data. A model template
            whose kernels refer to module templates is completed.
        bindings: context variable → formula in global variables, for each of the template's ``variables``.
        modules: the module templates that it may refer to.
        model_id: the name of the result.
        config: the config beside the result; its integer fields count as global variables.

    Raises:
        UnresolvedVariablesError: a context variable that nothing binds.
        TemplateError: a binding that is not used, a cycle of modules, an unknown module, each with its path.

    """
    if isinstance(template, str):
        template = _module(template, modules, "")
    elif isinstance(template, Mapping):
        kind: type[ModuleTemplate | ModelTemplate] = ModuleTemplate if "class_name" in template else ModelTemplate
        template = convert(template, kind, "template")
    if isinstance(template, ModelTemplate):
        return _complete(template, modules)

    root = check_module(template)
    work = _Expansion(modules)
    given = work.parsed({name: str(value) for name, value in (bindings or {}).items()}, root.class_name)
    short = root.class_name.rpartition(".")[2]
    whole = work.module_node(Composite(name=short.lower(), module=root.class_name), root, given, constant(1), ())
    # A container's children stand at the top, under their PyTorch paths; a lone layer keeps a node of its own.
    container = not whole.parameters and all(isinstance(kernel, Composite) for kernel in whole.sub_kernels)
    result = ModelTemplate(
        model_id=model_id,
        architecture=short,
        module=root.class_name,
        bindings=_texts(given),
        config=dict(config or {}),
        state=_texts(work.state),
        kernels=whole.sub_kernels if container else (whole,),
    )
    return require_valid(result, root.class_name)


def with_variants(
    template: ModelTemplate, chosen: frozenset[str], modules: Mapping[str, ModuleTemplate] = MODULES
) -> tuple[ModelTemplate, frozenset[str]]:
    """Return the template in the `chosen` variants, and the names of all the variants that it has.

    A kernel with a chosen variant is expanded anew from that variant's module template.
    """
    work = _Expansion(modules)
    variants: set[str] = set()

    def changed(kernel: Kernel, path: tuple[str, ...]) -> Kernel:
        if isinstance(kernel, Basic):
            return kernel
        variants.update(kernel.variants)
        if names := [name for variant, name in kernel.variants.items() if variant in chosen]:
            here = ".".join((*path, kernel.name))
            bindings = work.parsed(kernel.bindings, here)
            return work.module_node(kernel, _module(names[0], modules, here), bindings, constant(1), path)
        subs = tuple(changed(sub, (*path, kernel.name)) for sub in kernel.sub_kernels)
        return msgspec.structs.replace(kernel, sub_kernels=subs)

    kernels = tuple(changed(kernel, ()) for kernel in template.kernels)
    return msgspec.structs.replace(template, kernels=kernels), frozenset(variants)


def rebound(kernel: Composite, bindings: Bindings) -> Composite:
    """Return a kernel of a module template with other bindings: its kernels and parameters follow."""
    bare = msgspec.structs.replace(kernel, parameters="", sub_kernels=())
    work = _Expansion(MODULES)
    return work.module_node(bare, _module(kernel.module, MODULES, kernel.name), bindings, constant(1), ())


def findings(template: ModelTemplate) -> list[TemplateError | DisallowedVariable]:
    """Return all that keeps a model template's references to modules from being expanded, not the first thing only.

    Args:
        template: as it is written; one that `expand` takes has none.

    """
    found: dict[tuple[Any, ...], TemplateError | DisallowedVariable] = {}
    work = _Expansion(MODULES, refused=[])
    # Its own formulas are looked at as they are written: a binding that is wrong is one finding, wherever it goes to.
    for one in (*name_errors(template), *uses_of(template)):
        found[one.args if isinstance(one, TemplateError) else one] = one
    kernels = work.kernels(template.kernels, {}, constant(1), ())
    for error in (*(work.refused or ()), *sharding_errors(msgspec.structs.replace(template, kernels=kernels))):
        found.setdefault(error.args, error)
    return [*found.values()]


def _complete(template: ModelTemplate, modules: Mapping[str, ModuleTemplate]) -> ModelTemplate:
    """Return a model template with its references to modules expanded; a state that it states is kept."""
    check_names(template)
    work = _Expansion(modules)
    kernels = work.kernels(template.kernels, {}, constant(1), ())
    state = template.state or _texts(work.state)
    result = msgspec.structs.replace(template, kernels=kernels, state=state)
    for error in sharding_errors(result):
        raise TemplateError(error.problem, f"{template.model_id or 'template'}, {error.where}")
    return require_valid(result, template.model_id or "template")


@dataclass
class _Expansion:
    """One expansion.

    Attributes:
        modules: the module templates that may be referred to.
        made: kernels so far.
        operations: in all formulas so far.
        open: the class names of the modules being expanded, outermost first.
        state: name → bytes kept between passes, of the modules expanded so far.
        refused: what is wrong, to go on and find the rest; None if the first thing is to be raised.

    """

    modules: Mapping[str, ModuleTemplate]
    made: int = 0
    operations: int = 0
    open: list[str] = field(default_factory=list)
    state: dict[str, Formula] = field(default_factory=dict)
    refused: list[TemplateError] | None = None

    def refuse(self, error: TemplateError) -> None:
        """Raise the error, or keep it and let the work go on."""
        if self.refused is None:
            raise error from None
        self.refused.append(error)

    def kernels(
        self, kernels: tuple[Kernel, ...], bindings: Bindings, times: Formula, path: tuple[str, ...]
    ) -> tuple[Kernel, ...]:
        """Return the kernels with `bindings` substituted; `times` is how often they run in the pass."""
        expanded = (self._kernel(kernel, bindings, times, path) for kernel in kernels)
        return tuple(kernel for kernel in expanded if kernel is not None)

    def _kernel(self, kernel: Kernel, bindings: Bindings, times: Formula, path: tuple[str, ...]) -> Kernel | None:
        try:
            return self._expanded(kernel, bindings, times, path)
        except TemplateError as error:
            self.refuse(error)
            return None

    def _expanded(self, kernel: Kernel, bindings: Bindings, times: Formula, path: tuple[str, ...]) -> Kernel | None:
        self.made += 1
        require_size(self.made, 0)
        if isinstance(kernel, Basic):
            return self._basic(kernel, bindings, path)
        here = ".".join((*path, kernel.name))
        repeat = self.substituted(kernel.repeat, bindings, f"{here}, repeat")
        if repeat == constant(0):
            return None  # e.g. the q/k norms of a model without them
        calls = self.substituted(kernel.calls, bindings, f"{here}, calls")
        once = constant(1)
        parameters = self.substituted(kernel.parameters, bindings, f"{here}, parameters") if kernel.parameters else ""
        node = msgspec.structs.replace(
            kernel,
            repeat="1" if repeat == once else str(repeat),  # the very default is not written to files
            calls="1" if calls == once else str(calls),
            parameters=str(parameters),
        )
        own_bindings = self.parsed(kernel.bindings, here, bindings)
        times = build("*", repeat, times)
        if kernel.sub_kernels or not kernel.module:
            subs = self.kernels(kernel.sub_kernels, bindings, times, (*path, kernel.name))
            if (
                calls == constant(0)
                and not parameters
                and not any(place.field == "parameters" for place in fields(subs))
            ):
                return None
            return msgspec.structs.replace(node, sub_kernels=subs, bindings=_texts(own_bindings))
        for variant in kernel.variants.values():  # they take the same bindings: an error now, not when one is chosen
            self.checked(_module(variant, self.modules, here), own_bindings, here)
        expanded = self.module_node(node, _module(kernel.module, self.modules, here), own_bindings, times, path)
        empty = not (expanded.sub_kernels or expanded.parameters or expanded.variants)
        return None if empty else expanded

    def _basic(self, kernel: Basic, bindings: Bindings, path: tuple[str, ...]) -> Basic | None:
        here = ".".join((*path, kernel.operation))
        texts = {
            place.field: str(self.substituted(place.text, bindings, f"{here}, {place.field}"))
            for place in fields((kernel,))
        }
        if set(texts.values()) == {"0"}:
            return None  # e.g. the bias of a layer without one
        access = MemoryAccess(texts["memory_access.read"], texts["memory_access.write"])
        payload = texts.get("payload", "0")
        return msgspec.structs.replace(kernel, flops=texts["flops"], memory_access=access, payload=payload)

    def parsed(self, bindings: Mapping[str, str], where: str, outer: Bindings | None = None) -> dict[str, Formula]:
        """Return bindings as formulas, with those of the level above substituted."""
        texts = bindings.items()
        return {name: self.substituted(text, outer or {}, f"{where}, bindings.{name}") for name, text in texts}

    def substituted(self, text: str, bindings: Bindings, where: str) -> Formula:
        """Return a formula with `bindings` substituted; the result keeps the bounds of a formula."""
        try:
            return self._substituted(text, bindings, where)
        except TemplateError as error:
            self.refuse(error)
            return constant(1)

    def _substituted(self, text: str, bindings: Bindings, where: str) -> Formula:
        try:
            formula = parse(text)
            names = Counter(str(node.value) for node in formula.walk() if node.operation == "variable")
            # Bindings that use a variable twice, level after level, would double a formula each time.
            put_in = sum(count * extent(bindings[name])[0] for name, count in names.items() if name in bindings)
            if put_in > MOST_PUT_IN:
                raise FormulaError(f"the bindings put {put_in:,} operations into this formula", text)
            formula = formula.substitute(bindings)
        except FormulaError as error:
            raise TemplateError(str(error), where) from None
        operations, depth = extent(formula)
        if operations > MAX_OPERATIONS or depth > MAX_DEPTH:
            raise TemplateError(
                f"the bindings make '{text}' a formula of {operations:,} operations, {depth} deep", where
            )
        self.operations += operations
        require_size(self.made, self.operations)  # an operation is at least one character
        return formula

    def checked(self, module: ModuleTemplate, bindings: Bindings, where: str) -> Bindings:
        """Return bindings of exactly the variables of `module`: these, if they are right."""
        wrong = False
        for error in _misfits(module, bindings, where):
            self.refuse(error)
            wrong = True
        return {name: bindings.get(name, constant(1)) for name in module.variables} if wrong else bindings

    def module_node(
        self, node: Composite, module: ModuleTemplate, bindings: Bindings, times: Formula, path: tuple[str, ...]
    ) -> Composite:
        """Return `node` with the kernels, parameters and bindings that `module` gives it."""
        here = ".".join((*path, node.name))
        if module.class_name in self.open:
            cycle = " → ".join((*self.open[self.open.index(module.class_name) :], module.class_name))
            raise TemplateError(f"modules refer to each other in a cycle: {cycle}", here)
        if len(self.open) >= MAX_LEVELS:
            raise TemplateError(f"modules refer to each other more than {MAX_LEVELS} deep", here)
        bindings = self.checked(module, bindings, here)
        for name, text in module.state.items():
            more = build("*", times, self.substituted(text, bindings, f"{here}, state.{name}"))
            self.state[name] = build("+", self.state[name], more) if name in self.state else more
        self.open.append(module.class_name)
        # The root's name is not part of its children's paths.
        inside = (*path, node.name) if len(self.open) > 1 or path else path
        try:
            subs = self.kernels(module.kernels, bindings, times, inside)
        finally:
            self.open.pop()
        parameters = node.parameters or str(self.substituted(module.parameters, bindings, f"{here}, parameters"))
        return msgspec.structs.replace(
            node,
            module=module.class_name,
            bindings=_texts(bindings),
            parameters="" if parameters == "0" and not node.parameters else parameters,
            sub_kernels=subs,
        )


def _misfits(module: ModuleTemplate, bindings: Bindings, where: str) -> Iterator[TemplateError]:
    """Yield what `bindings` lack of the variables of `module`, and what they have too much."""
    short = module.class_name.rpartition(".")[2]
    if missing := [name for name in module.variables if name not in bindings]:
        meanings = "; ".join(f"{{{name}}} is {module.variables[name]}" for name in missing)
        yield UnresolvedVariablesError(
            f"unresolved template variables: {missing}. {short} needs a binding for each: {meanings}",
            where,
            tuple(missing),
            module.class_name,
        )
    for name in bindings:
        if name not in module.variables:
            close = near(name, module.variables)
            known = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(module.variables) or 'none'}"
            yield TemplateError(f"unused binding {name!r}: {short} has no such variable, {known}", where)


def _module(class_name: str, modules: Mapping[str, ModuleTemplate], where: str) -> ModuleTemplate:
    """Return the module template of that name, also by an unambiguous last part such as ``Linear``."""
    if class_name in modules:
        return modules[class_name]
    short = [name for name in modules if name.rpartition(".")[2] == class_name]
    if len(short) == 1:
        return modules[short[0]]
    close = short or near(class_name, modules) or near(class_name, {name.rpartition(".")[2] for name in modules})
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise TemplateError(f"no module template named {class_name!r}.{hint}", where)


def _texts(formulas: Bindings) -> dict[str, str]:
    return {name: str(formula) for name, formula in formulas.items()}
