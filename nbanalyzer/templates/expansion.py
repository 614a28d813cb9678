"""Module templates + bindings → a model template in global variables only.

A module template does not know where it is used, so it says ``{output_size}``; the place of use knows,
and binds ``output_size → 3 * {hidden_size}``. Expanding puts the one into the other, all the way down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nbanalyzer.errors import FormulaError, TemplateError, UnresolvedVariablesError, near
from nbanalyzer.files import convert
from nbanalyzer.formulas.formula import Formula, build, constant, extent, parse
from nbanalyzer.formulas.grammar import MAX_DEPTH, MAX_OPERATIONS

from .library import MODULES
from .template import Basic, Composite, Kernel, MemoryAccess, ModelTemplate, ModuleTemplate
from .validation import MAX_LEVELS, check_module, check_names, require_size, require_valid

__all__ = ["expand", "with_variants"]

MOST_PUT_IN = 10 * MAX_OPERATIONS  # before what comes to nothing is left out

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
        modules: where the modules that it refers to are looked up.
        model_id: the name of the result.
        config: the config beside the result; its integer fields count as global variables.

    Raises:
        UnresolvedVariablesError: a context variable that nothing binds.
        TemplateError: a binding that is not used, a cycle of modules, an unknown module, each with its path.

    """
    if isinstance(template, str):
        template = _module(template, modules, "")
    elif isinstance(template, Mapping):
        is_module = "class_name" in template
        template = (
            convert(template, ModuleTemplate, "template") if is_module else convert(template, ModelTemplate, "template")
        )
    if isinstance(template, ModelTemplate):
        return _complete(template, modules)

    root = check_module(template)
    work = _Expansion(modules)
    given = work.parsed({name: str(value) for name, value in (bindings or {}).items()}, root.class_name)
    whole = work.module_node(
        Composite(name=_snake(root.class_name), module=root.class_name), root, given, constant(1), ()
    )
    # A container's children stand at the top, under their PyTorch paths; a lone layer keeps a node of its own.
    container = not whole.parameters and all(isinstance(kernel, Composite) for kernel in whole.sub_kernels)
    result = ModelTemplate(
        model_id=model_id,
        architecture=root.class_name.rpartition(".")[2],
        module=root.class_name,
        bindings={name: str(formula) for name, formula in given.items()},
        config=dict(config or {}),
        state={name: str(formula) for name, formula in work.state.items()},
        kernels=whole.sub_kernels if container else (whole,),
    )
    return require_valid(result, root.class_name)


def with_variants(
    template: ModelTemplate, chosen: frozenset[str], modules: Mapping[str, ModuleTemplate] = MODULES
) -> tuple[ModelTemplate, frozenset[str]]:
    """Return the template with the kernels that have one of the `chosen` variants expanded anew from it.

    The second result are the variants that some kernel has.
    """
    work = _Expansion(modules)
    found: set[str] = set()

    def changed(kernel: Kernel, path: tuple[str, ...]) -> Kernel:
        if isinstance(kernel, Basic):
            return kernel
        found.update(kernel.variants)
        if mine := [name for variant, name in kernel.variants.items() if variant in chosen]:
            here = ".".join((*path, kernel.name))
            return work.module_node(
                kernel, _module(mine[0], modules, here), work.parsed(kernel.bindings, here), constant(1), path
            )
        subs = tuple(changed(sub, (*path, kernel.name)) for sub in kernel.sub_kernels)
        return msgspec.structs.replace(kernel, sub_kernels=subs)

    kernels = tuple(changed(kernel, ()) for kernel in template.kernels)
    return msgspec.structs.replace(template, kernels=kernels), frozenset(found)


def _complete(template: ModelTemplate, modules: Mapping[str, ModuleTemplate]) -> ModelTemplate:
    """Return a model template whose references to modules are expanded, its own state kept if it states one."""
    check_names(template)
    work = _Expansion(modules)
    kernels = work.kernels(template.kernels, {}, constant(1), ())
    state = template.state or {name: str(formula) for name, formula in work.state.items()}
    return require_valid(
        msgspec.structs.replace(template, kernels=kernels, state=state), template.model_id or "template"
    )


@dataclass
class _Expansion:
    """One run of expand: where modules come from, which are being expanded, what has been made so far."""

    modules: Mapping[str, ModuleTemplate]
    made: int = 0  # kernels
    operations: int = 0  # of formulas
    open: list[str] = field(default_factory=list)
    state: dict[str, Formula] = field(default_factory=dict)

    def kernels(
        self, kernels: tuple[Kernel, ...], bindings: Bindings, times: Formula, path: tuple[str, ...]
    ) -> tuple[Kernel, ...]:
        """Return the kernels with `bindings` put in; `times` is how often they run in the whole model."""
        expanded = (self._kernel(kernel, bindings, times, path) for kernel in kernels)
        return tuple(kernel for kernel in expanded if kernel is not None)

    def _kernel(self, kernel: Kernel, bindings: Bindings, times: Formula, path: tuple[str, ...]) -> Kernel | None:
        self.made += 1
        require_size(self.made, 0)
        if isinstance(kernel, Basic):
            return self._basic(kernel, bindings, path)
        here = ".".join((*path, kernel.name))
        repeat = self.substituted(kernel.repeat, bindings, f"{here}, repeat")
        if repeat == constant(0):
            return None  # e.g. the q/k norms of a model without them
        calls = self.substituted(kernel.calls, bindings, f"{here}, calls")
        if calls == constant(0) and not kernel.parameters and not kernel.module:
            return None
        once = constant(1)
        node = msgspec.structs.replace(
            kernel,
            repeat="1" if repeat == once else str(repeat),  # the very default is not written to files
            calls="1" if calls == once else str(calls),
        )
        if kernel.parameters:
            node = msgspec.structs.replace(
                node, parameters=str(self.substituted(kernel.parameters, bindings, f"{here}, parameters"))
            )
        if kernel.sub_kernels or not kernel.module:
            subs = self.kernels(kernel.sub_kernels, bindings, build("*", repeat, times), (*path, kernel.name))
            own = {
                name: str(self.substituted(text, bindings, f"{here}, bindings.{name}"))
                for name, text in kernel.bindings.items()
            }
            return msgspec.structs.replace(node, sub_kernels=subs, bindings=own)
        own_bindings = {
            name: self.substituted(text, bindings, f"{here}, bindings.{name}") for name, text in kernel.bindings.items()
        }
        for variant in kernel.variants.values():  # they must take the same bindings: say so now, not when chosen
            _checked(_module(variant, self.modules, here), own_bindings, here)
        module = _module(kernel.module, self.modules, here)
        expanded = self.module_node(node, module, own_bindings, build("*", repeat, times), path)
        empty = not (expanded.sub_kernels or expanded.parameters or expanded.variants)
        return None if empty else expanded

    def _basic(self, kernel: Basic, bindings: Bindings, path: tuple[str, ...]) -> Basic | None:
        here = ".".join((*path, kernel.operation))
        flops, read, write = (
            str(self.substituted(text, bindings, f"{here}, {name}"))
            for text, name in (
                (kernel.flops, "flops"),
                (kernel.memory_access.read, "memory_access.read"),
                (kernel.memory_access.write, "memory_access.write"),
            )
        )
        if flops == read == write == "0":
            return None  # e.g. the bias of a layer without one
        return msgspec.structs.replace(kernel, flops=flops, memory_access=MemoryAccess(read, write))

    def parsed(self, bindings: Mapping[str, str], where: str) -> dict[str, Formula]:
        """Return bindings as formulas."""
        return {name: self.substituted(text, {}, f"{where}, bindings.{name}") for name, text in bindings.items()}

    def substituted(self, text: str, bindings: Bindings, where: str) -> Formula:
        """Return a formula with `bindings` put in, if that is one that could have been written."""
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
        require_size(self.made, self.operations)  # an operation is a character at least
        return formula

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
        _checked(module, bindings, here)
        for name, text in module.state.items():
            more = build("*", times, self.substituted(text, bindings, f"{here}, state.{name}"))
            self.state[name] = build("+", self.state[name], more) if name in self.state else more
        self.open.append(module.class_name)
        # The root of an expansion is a container: its name is not part of its children's paths.
        inside = (*path, node.name) if len(self.open) > 1 or path else path
        subs = self.kernels(module.kernels, bindings, times, inside)
        self.open.pop()
        parameters = node.parameters or str(self.substituted(module.parameters, bindings, f"{here}, parameters"))
        return msgspec.structs.replace(
            node,
            module=module.class_name,
            bindings={name: str(formula) for name, formula in bindings.items()},
            parameters="" if parameters == "0" and not node.parameters else parameters,
            sub_kernels=subs,
        )


def _checked(module: ModuleTemplate, bindings: Bindings, where: str) -> None:
    """Raise unless `bindings` bind exactly the variables of `module`."""
    short = module.class_name.rpartition(".")[2]
    if missing := [name for name in module.variables if name not in bindings]:
        meanings = "; ".join(f"{{{name}}} is {module.variables[name]}" for name in missing)
        raise UnresolvedVariablesError(
            f"unresolved template variables: {missing}. {short} needs a binding for each: {meanings}",
            where,
            tuple(missing),
        )
    if unused := [name for name in bindings if name not in module.variables]:
        close = near(unused[0], module.variables)
        known = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(module.variables) or 'none'}"
        raise TemplateError(f"unused binding {unused[0]!r}: {short} has no such variable, {known}", where)


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


def _snake(class_name: str) -> str:
    """Return a kernel's name for a class: ``torch.nn.modules.linear.Linear`` → ``linear``."""
    return class_name.rpartition(".")[2].lower()
