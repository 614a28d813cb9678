"""A model template from a config, by tracing the real model: the whole way from probes to a checked tree."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import msgspec
import torch

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.formulas.formula import Formula, build, parse
from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.generate import hf
from nbanalyzer.generate.fit.layer_counts import counts
from nbanalyzer.generate.fit.sizes import Gap
from nbanalyzer.generate.hf import quiet
from nbanalyzer.generate.model.data import on_one_thread
from nbanalyzer.generate.model.garbage import seldom_collected
from nbanalyzer.generate.model.subject import NeedsDataError, Subject
from nbanalyzer.generate.probe.observation import Observation, values_of
from nbanalyzer.generate.probe.sampling import PLAIN_RUNS, base_runs, cases_of, probes, varied
from nbanalyzer.generate.probe.tiny import require_determined, tiny
from nbanalyzer.generate.trace.layers import Stack, depth_of, seen_alike, stacks
from nbanalyzer.generate.trace.recorder import recording, trace
from nbanalyzer.progress import part_of, tell
from nbanalyzer.templates.config import extract_model_params
from nbanalyzer.templates.config_files import TEXT_PARTS, essential, with_labels
from nbanalyzer.templates.expansion import expand
from nbanalyzer.templates.template import Composite, Kernel, ModelTemplate
from nbanalyzer.templates.validity import DEFAULTS

from .assemble import Assembly
from .cache_state import added, by_layer, gap_of
from .variants import Eager, eager_of, with_absorbed, with_eager

__all__ = ["GapError", "build_template", "stated"]

PROBES = 8
PROBES_OF_TINY = 12  # models, which are quick to run, and whose code is likely to ask more questions


class GapError(NBAnalyzerError):
    """A size that no formula was found for: there is no template without it, and the others are not looked for.

    Attributes:
        model_id: the model's name.
        gap: path, what, and observed values.

    """

    def __init__(self, model_id: str, gap: Gap) -> None:
        super().__init__(model_id, gap)
        self.model_id, self.gap = model_id, gap

    def message(self) -> str:
        """Return the gap."""
        return f"{self.model_id}: {self.gap}"


@quiet()
@seldom_collected()
@on_one_thread()
def build_template(subject: Subject, model_id: str) -> ModelTemplate:
    """Return the model template of a subject, not yet checked.

    A model whose code needs data is traced with tiny sizes on the CPU instead: the formulas are those of any size.

    Raises:
        ConfigError: transformers refuses the config.
        UnrunnableError: the model does not run.
        DataDependentError: what it costs depends on the data.
        GapError: a size that no formula was found for.

    """
    try:
        return _built(subject, model_id)
    except NeedsDataError as problem:
        template = _built(tiny(subject, problem), model_id)
    return stated(msgspec.structs.replace(template, config=dict(subject.given or subject.config)), subject)


def _built(subject: Subject, model_id: str) -> ModelTemplate:
    """Return the template of a model, traced where its subject says."""
    tell("building the model", 0)
    model = subject.build()
    fields = subject.hf_config().to_dict()
    with recording(model):
        tell("tracing all its layers", 0.05)
        first = next(subject.steps(model, 2, (5,), 7))
        found = seen_alike(stacks(model, fields), trace(first))
        depth = depth_of(subject, found, fields)
        shallow = subject.with_fields(depth.config())
        if subject.device != "meta":
            require_determined(shallow, depth)
        cases = cases_of(shallow, depth, has_encoder=first.has_encoder)
        with part_of(0.1, 0.2):
            observations = base_runs(shallow, depth, cases)
        with part_of(0.2, 0.4):
            free = varied(shallow, depth, observations[0])
        deepen = _depth_matters(model, observations[0], found)
        count = PROBES if subject.device == "meta" else PROBES_OF_TINY
        count *= 1 + bool(cases.chunk) + bool(cases.kernels)  # every case has to be seen at several sizes
        drawn = probes(shallow, depth, free, 2 * count, tuple(observations), cases=cases, deepen=deepen)
        head = _head(model, shallow)
        for last in (False, True):  # the second time only for what the first left open
            for number, seen in enumerate(islice(drawn, count), 1):
                observations += seen
                tell(f"probing other sizes, {number} of {count}", 0.4 + 0.3 * number / count)
            try:
                with part_of(0.7, 0.9):
                    assembly = Assembly(
                        observations,
                        tied_head=head,
                        cases=cases,
                        stacks=tuple(stack.path for stack in found),
                        shared=_shared(model, found),
                    )
                    layered, states = assembly.kernels(), by_layer(assembly)
                break
            except Gap as gap:
                if last or gap.final:
                    raise GapError(model_id, gap) from None
    with recording(model):
        if eager := _eager(observations, lambda: base_runs(shallow, depth, cases, "eager", most=PLAIN_RUNS)):
            layered = with_eager(layered, eager)
    layered = with_absorbed(layered)
    with part_of(0.9, 1):
        kernels, state = _collapsed(layered, states, subject, found, fields)
    if missing := gap_of(first, state, values_of(subject)):
        raise GapError(model_id, missing)
    template = ModelTemplate(
        model_id=model_id,
        architecture=type(model).__name__,
        config=dict(subject.given or subject.config),
        kernels=kernels,
        attention="eager" if assembly.has_eager_attention else "",
        state={name: str(formula) for name, formula in state.items()},
        provenance={"part": "text"} if subject.given is not None else {},
    )
    template = stated(template, subject)
    return msgspec.structs.replace(expand(template), state=template.state)  # a cache may be thrown away


def _eager(observations: list[Observation], again: Callable[[], list[Observation]]) -> Eager | None:
    """Return the eager variant of a model that was traced with fused attention, None if it has none."""
    fused = [one for one in observations if one.real]
    if not any(operation.name == "scaled_dot_product_attention" for operation in fused[0].root.operations()):
        return None
    try:
        usual = again()
        return eager_of(fused[: len(usual)], usual)
    except NBAnalyzerError:
        return None


def _head(model: torch.nn.Module, subject: Subject) -> str:
    """Return the path of the output embedding if its weight can be that of the input's, by the config's choice.

    The `subject` may have fewer layers than the model.
    """
    output = getattr(model, "get_output_embeddings", lambda: None)()
    tied = hf.tied_weights(model)
    name = next((name for name, module in model.named_modules() if module is output), "")
    states = "tie_word_embeddings" in values_of(subject)
    plain = output is not None and getattr(output, "bias", None) is None
    chosen = name and plain and states and f"{name}.weight" in tied
    return name if chosen and _ties_as_stated(subject) else ""


def _ties_as_stated(subject: Subject) -> bool:
    """Return whether a model shares its embedding with its head exactly if the config says so: some always do."""
    for stated in (False, True):
        model: Any = subject.with_fields({"tie_word_embeddings": stated}).build()
        if (model.get_output_embeddings().weight is model.get_input_embeddings().weight) != stated:
            return False
    return True


def _shared(model: torch.nn.Module, found: list[Stack]) -> frozenset[str]:
    """Return the parameters that several layers of a model hold together, under their first names."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)

    def layers(held: list[str]) -> set[tuple[str, str]]:
        return {
            (stack.path, name.removeprefix(f"{stack.path}.").partition(".")[0])
            for stack in found
            for name in held
            if name.startswith(f"{stack.path}.")
        }

    return frozenset(held[0] for held in names.values() if len(held) > 1 and len(layers(held)) > 1)


def _depth_matters(model: torch.nn.Module, run: Observation, found: list[Stack]) -> bool:
    """Return whether a size outside the layers depends on how many there are."""
    outside = {
        name: tuple(parameter.shape)
        for name, parameter in model.named_parameters()
        if not any(name.startswith(f"{stack.path}.") for stack in found)
    }
    return any(run.parameters.get(name) != shape for name, shape in outside.items())


# ---- layers that are alike


_LAYER = re.compile(r"(.+)\.(\d+)$")
_AGAIN = re.compile(r"(.+)_\d+$")


def _collapsed(
    kernels: tuple[Kernel, ...],
    state: Mapping[tuple[str, int], Formula],
    subject: Subject,
    found: list[Stack],
    fields: Mapping[str, Any],
) -> tuple[tuple[Kernel, ...], dict[str, Formula]]:
    """Return the kernels with layers that are alike as one node, and the state of the whole model."""
    shapes: dict[str, dict[int, list[Kernel]]] = {}
    by_path = {stack.path: stack for stack in found}

    def module(path: str, name: str) -> str:
        """Return the path of a kernel's module, which may be called several times."""
        again = _AGAIN.match(name)
        plain = again is not None and any(one.startswith(f"{_join(path, again.group(1))}.") for one in by_path)
        return _join(path, again.group(1) if again and plain else name)

    def look(kernel: Kernel, path: str) -> None:
        if isinstance(kernel, Composite):
            if match := _LAYER.match(kernel.name):
                layers = shapes.setdefault(_join(path, match.group(1)), {})
                layers.setdefault(int(match.group(2)), []).append(msgspec.structs.replace(kernel, name="layer"))
            for sub in kernel.sub_kernels:
                look(sub, module(path, kernel.name))

    for kernel in kernels:
        look(kernel, "")
    kinds: dict[str, Callable[[int], int]] = {}
    for stack in found:
        same = shapes.get(stack.path, {})
        decoder = _keeps_state(stack, found)
        first: dict[bytes, int] = {}
        kind = {}
        for number, shape in same.items():
            states = (
                [f"{name}={formula}" for (name, layer), formula in state.items() if layer == number] if decoder else []
            )
            kind[number] = first.setdefault(msgspec.json.encode((shape, states)), number)
        kinds[stack.path] = lambda number, kind=kind: kind.get(number, number)  # type: ignore[misc]
    times = counts(subject, found, kinds, fields, values_of)

    total: dict[str, list[Formula]] = {}
    for (name, layer), formula in state.items():
        keeper = next((one for one in found if _keeps_state(one, found)), None)
        if keeper is None:
            total.setdefault(name, []).append(formula)
        elif layer in keeper.alike and kinds[keeper.path](layer) == layer:
            total.setdefault(name, []).append(build("*", times[keeper.path, layer], formula))

    def collapse(kernels: tuple[Kernel, ...], path: str) -> tuple[Kernel, ...]:
        result: list[Kernel] = []
        for kernel in kernels:
            if not isinstance(kernel, Composite):
                result.append(kernel)
                continue
            subs = collapse(kernel.sub_kernels, module(path, kernel.name))
            kernel = msgspec.structs.replace(kernel, sub_kernels=subs)
            match = _LAYER.match(kernel.name)
            stack = by_path.get(_join(path, match.group(1))) if match else None
            if match is None or stack is None:
                result.append(msgspec.structs.replace(kernel, name=kernel.name.replace(".", "_")))
                continue
            number = int(match.group(2))
            kind = kinds[stack.path]
            if kind(number) != number or number not in stack.alike:
                continue
            name = match.group(1).replace(".", "_") + _label(stack, kind, number, fields)
            repeat = build("*", times[stack.path, number], parse(kernel.repeat))
            result.append(msgspec.structs.replace(kernel, name=name, repeat=str(repeat)))
        return tuple(result)

    return collapse(kernels, ""), {name: added(parts) for name, parts in total.items()}


def _label(stack: Stack, kind: Callable[[int], int], number: int, fields: Mapping[str, Any]) -> str:
    """Return what tells a kind of layer from the others: what the config calls it, or its first layer's number."""
    kinds = [kind(one) for one in stack.alike]
    if len(set(kinds)) == 1:
        return ""
    for value in fields.values():
        if isinstance(value, list | tuple) and len(value) == len(kinds) and all(isinstance(one, str) for one in value):
            named = set(zip(kinds, value, strict=True))
            if len(named) == len(set(kinds)) == len(set(value)):
                return f"_{value[number]}"
    return f"_{number}"


def _keeps_state(stack: Stack, found: list[Stack]) -> bool:
    """Return whether a stack's layers are those that the cache counts."""
    return (
        len(found) == 1
        or "encoder" not in stack.path.split(".")
        or all("encoder" in one.path.split(".") for one in found)
    )


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


# ---- the config beside it


def stated(template: ModelTemplate, subject: Subject) -> ModelTemplate:
    """Return the template with a config that states every variable it uses, so that populating needs nothing else."""
    known, wanted = extract_model_params(template.config, required=()), values_of(subject)
    config = copy.deepcopy(dict(template.config))
    part, fields = config, dict(with_labels(subject.hf_config().to_dict()))
    silent = False  # of its text part altogether
    ties = fields.get("tie_word_embeddings")  # of the whole model; its text part may say otherwise
    while name := next((key for key in TEXT_PARTS if isinstance(fields.get(key), Mapping)), ""):
        fields = fields[name]
        if not isinstance(part.get(name), Mapping):
            part[name], silent = essential(fields), True
            if ties is not None:
                config.setdefault("tie_word_embeddings", ties)
        part = part[name]
    while name := next((key for key in TEXT_PARTS if isinstance(part.get(key), Mapping)), ""):
        part = part[name]
    own, defaults = subject.hf_config(), dict[str, Any]()
    for name in sorted(template.variables):
        if name in known or (name in VARIABLES and VARIABLES[name].kind in {"runtime", "convention"}):
            continue
        for source in (*(VARIABLES[name].sources if name in VARIABLES else ()), name):
            # Several fields may be about the same thing, of different parts of the model.
            value = fields.get(source)
            if value is not None and value == wanted.get(name) and (silent or part.get(source) is None):
                part[source] = value
                if silent or value == hf.default_of(own, source):
                    defaults[source] = value
                break
    record = {**template.provenance, DEFAULTS: defaults} if defaults else template.provenance
    return msgspec.structs.replace(template, config=config, provenance=record)
