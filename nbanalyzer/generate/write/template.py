"""A model template from a config, by tracing the real model: the whole way from probes to a checked tree."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import islice
from random import Random
from typing import Any

import msgspec
import torch

from nbanalyzer.errors import ConfigError, NBAnalyzerError
from nbanalyzer.formulas.formula import Formula
from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.generate import hf
from nbanalyzer.generate.fit.layer_counts import counts
from nbanalyzer.generate.fit.sizes import Gap
from nbanalyzer.generate.hf import quiet
from nbanalyzer.generate.model.data import on_one_thread
from nbanalyzer.generate.model.subject import NeedsDataError, Step, Subject
from nbanalyzer.generate.model.towers import missing as missing_packages
from nbanalyzer.generate.probe.observation import Observation, read_values, values_of
from nbanalyzer.generate.probe.sampling import Space, probes, space_of
from nbanalyzer.generate.probe.situations import PLAIN_RUNS, base_runs, cases_of, media_of, with_room
from nbanalyzer.generate.probe.tiny import require_determined, tiny
from nbanalyzer.generate.trace.depth import Depth, depth_of
from nbanalyzer.generate.trace.layers import Stack, called_alike, seen_alike, seen_once, stacks
from nbanalyzer.generate.trace.recorder import seldom_collected, trace
from nbanalyzer.generate.trace.scope import Scope
from nbanalyzer.generate.trace.stand_ins import recording
from nbanalyzer.generate.trace.tensors import kept
from nbanalyzer.progress import part_of, tell
from nbanalyzer.templates.config import extract_model_params
from nbanalyzer.templates.config_files import essential, media_fields, put, same_for_all, text_part, with_labels
from nbanalyzer.templates.expansion import expand
from nbanalyzer.templates.template import Kernel, ModelTemplate
from nbanalyzer.templates.validity import DEFAULTS

from .assemble import Assembly
from .cache_state import by_layer, gap_of
from .layers import collapsed, kinds_of, of_layers, state_of
from .plans import in_kernels, plans_of
from .variants import Eager, attends_in_pieces, eager_of, has_eager, with_absorbed, with_eager

__all__ = ["GapError", "build_template", "run_once", "stated", "with_plans"]

PROBES = 8
PROBES_OF_TINY = 12  # models, which are quick to run, and whose code is likely to ask more questions


class GapError(NBAnalyzerError):
    """A size that no formula was found for: there is no template without it, and the others are not looked for."""


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
        try:
            template = _built(subject, model_id)
        except NeedsDataError as problem:
            template = _built(tiny(subject, problem), model_id)
            template = msgspec.structs.replace(template, config=dict(subject.given or subject.config))
    except Gap as gap:
        raise GapError(f"{model_id}: {gap}") from None
    template = stated(template, subject)
    return msgspec.structs.replace(
        with_plans(expand(template), subject), state=template.state
    )  # a cache may be thrown away


def with_plans(template: ModelTemplate, subject: Subject) -> ModelTemplate:
    """Return a complete template with transformers' plans for its model."""
    plans = plans_of(subject.build())
    return msgspec.structs.replace(
        template,
        sharding=in_kernels(plans.tensors, template.kernels),
        expert_sharding=in_kernels(plans.experts, template.kernels),
    )


def _built(subject: Subject, model_id: str) -> ModelTemplate:
    """Return the template of a model, traced where its subject says; it is not expanded, and has its config as it is.

    Raises:
        Gap: a size that no formula was found for.

    """
    tell("building the model", 0)
    model = subject.build()
    fields = subject.fields()
    with recording(model):
        tell("tracing all its layers", 0.05)
        first = _first(subject, model)
        root = trace(first)
        found = seen_alike(stacks(model, fields), root)
        depth = depth_of(subject, found, fields)
        few = subject.with_fields(depth.config())
        if depth.staged and _run_of(few, depth) is None:
            depth = depth.with_all_blocks()  # its code counts on how many blocks a stage has
        if subject.reader is not None and not called_alike(found, root, _run_of(few, depth)):
            few, depth = subject, Depth(cut={path: depth.cut[path] for path in depth.staged})
            if depth.cut and not called_alike(found, root, _run_of(few, depth)):
                depth = Depth()  # its code takes what some of its layers see, or does something between any two
        if subject.device != "meta":
            require_determined(few, depth)
        with part_of(0.1, 0.4):
            space = space_of(few, depth, cases_of(few, depth, has_encoder=first.has_encoder))
        found = seen_once(found, [run.root for run in space.usual if run.values["cache_len"]])
        assembly, layered, states = _assembled(
            space,
            deepen=_depth_matters(model, space.usual[0], found) or _holds_all_layers(first.after),
            tied_head=_head(model, few),
            stacks=tuple(stack.path for stack in found),
            shared=_shared(model, found),
        )
        if eager := _eager(space):
            offered = with_eager(layered, eager)
            # A tower may attend in another way, which no template says.
            layered = offered if subject.reader is None or has_eager(offered) else layered
    layered = with_absorbed(layered)
    places = 1 + max((one.layer for one in kept(first.after)), default=-1)
    states = of_layers(states, found, places, space.usual[0].places)
    with part_of(0.9, 1):
        kinds = kinds_of(layered, states, found)
        repeats = counts(subject, found, kinds, fields)
        kernels = collapsed(layered, found, kinds, repeats, fields)
        state = state_of(states, found, kinds, repeats)
    if missing := gap_of(first, state, values_of(subject) | read_values(subject, values_of(subject), first.media)):
        raise missing
    return ModelTemplate(
        model_id=model_id,
        architecture=type(model).__name__,
        config=dict(subject.given or subject.config),
        kernels=kernels,
        attention="eager" if assembly.has_eager_attention else "",
        state={name: str(formula) for name, formula in state.items()},
        reads=None if subject.reader is None else subject.reader.reads,
        provenance=_part_of(subject),
    )


def _part_of(subject: Subject) -> dict[str, str]:
    """Return what a template says of its model if that is a part of a whole, and of what the whole lacks."""
    if subject.within:
        return {"within": subject.within}
    if subject.given is None:
        return {}
    lacks = missing_packages(subject.given.get("model_type"))
    return {"part": "text"} | ({"missing": f"without {lacks} no tower of images is built"} if lacks else {})


@quiet()
@on_one_thread()
def run_once(subject: Subject) -> None:
    """Build a model and trace its first step, which is how its template begins.

    Raises:
        NBAnalyzerError: as `build_template`.

    """
    model = subject.build()
    with recording(model):
        trace(_first(subject, model))


def _first(subject: Subject, model: Any) -> Step:
    """Return a first step of a model, of a few tokens beside what it reads."""
    media, taken = media_of(subject, Random(2), 2, 2)  # noqa: S311 - the same every time
    lengths, read = with_room(subject, taken, (5,), 7)
    return next(subject.steps(model, 2, lengths, read, media))


def _run_of(subject: Subject, depth: Depth) -> Scope | None:
    """Return the trace of a model with few layers, None if it does not run."""
    try:
        return trace(_first(subject, depth.shorten(subject.build())))
    except NeedsDataError:
        raise
    except NBAnalyzerError:
        return None


def _assembled(
    space: Space, *, deepen: bool, **what: Any
) -> tuple[Assembly, tuple[Kernel, ...], dict[tuple[str, int], Formula]]:
    """Return the kernels of a model, and what each layer keeps, from as many probes as that takes.

    Args:
        space: the sizes that probes vary.
        deepen: whether probes may have more layers.
        what: of the model, for its `Assembly`.

    Raises:
        Gap: a size that no formula was found for.

    """
    count = PROBES if space.subject.device == "meta" else PROBES_OF_TINY
    count *= 1 + bool(space.cases.chunk) + bool(space.cases.kernels)  # every case has to be seen at several sizes
    count += PROBES * bool(space.cases.rates)
    count += count // 2 * bool(space.cases.media and not space.cases.pools)  # there, a probe takes a second
    drawn = probes(space, 2 * count, deepen=deepen)
    observations = [*space.usual]
    gap: Gap | None = None
    for numbers in (False, True):  # the second time only for what the first left open
        for number, observed in enumerate(islice(drawn, count), 1):
            observations += observed
            tell(f"probing other sizes, {number} of {count}", 0.4 + 0.3 * number / count)
        try:
            with part_of(0.7, 0.9):
                # What few probes met says nothing: before it becomes a number, more are asked.
                assembly = Assembly(observations, cases=space.cases, numbers=numbers, **what)
                return assembly, assembly.kernels(), by_layer(assembly)
        except Gap as problem:
            gap = problem
            if gap.final and space.subject.reader is None:
                break
    assert gap is not None
    raise gap


def _eager(space: Space) -> Eager | None:
    """Return the eager variant of a model that was traced with fused attention, None if it has none."""
    operations = space.usual[0].root.operations()
    if not any(operation.name == "scaled_dot_product_attention" for operation in operations):
        return None
    if attends_in_pieces(space.usual if space.subject.reader is not None else space.usual[:PLAIN_RUNS]):
        return None
    try:
        eager = base_runs(space.subject, space.depth, space.cases, "eager", most=PLAIN_RUNS)
        return eager_of(space.usual[: len(eager)], eager)
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
        try:
            model: Any = subject.with_fields({"tie_word_embeddings": stated}).build()
        except ConfigError:
            return False  # some have to be told so
        embeds = getattr(model.get_input_embeddings(), "weight", None)  # some add up several tokens
        if (model.get_output_embeddings().weight is embeds) != stated:
            return False
    return True


def _shared(model: torch.nn.Module, found: list[Stack]) -> frozenset[str]:
    """Return the parameters that several layers of a model hold together, under their first names.

    Two stacks may hold the same layers, as an encoder and a decoder: those are the first one's, each its own.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)

    def layers(held: list[str]) -> set[str]:
        return {
            name.removeprefix(f"{stack.path}.").partition(".")[0]
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


def _holds_all_layers(cache: object) -> bool:
    """Return whether each tensor of a cache is of all layers together."""
    return isinstance(cache, list | tuple) and all(isinstance(one, torch.Tensor) for one in cache)


# ---- the config beside it


def stated(template: ModelTemplate, subject: Subject) -> ModelTemplate:
    """Return the template with a config that states every variable it uses, so that populating needs nothing else."""
    known, wanted = extract_model_params(template.config, required=()), values_of(subject)
    config = copy.deepcopy(dict(template.config))
    part, fields = config, dict(with_labels(subject.hf_config().to_dict()))
    silent = False  # of its text part altogether
    ties = fields.get("tie_word_embeddings")  # of the whole model; its text part may say otherwise
    if template.reads is not None and text_part(fields) and ties is not None:
        config.setdefault("tie_word_embeddings", ties)
    while name := text_part(fields):
        fields = fields[name]
        if not isinstance(part.get(name), Mapping):
            part[name], silent = essential(fields), True
            if ties is not None:
                config.setdefault("tie_word_embeddings", ties)
        part = part[name]
    while name := text_part(part):
        part = part[name]
    beside = {name: (path, value) for name, path, value in media_fields(subject.hf_config().to_dict())}
    for name in sorted(template.variables & beside.keys() - known.keys()):
        put(config, *beside[name])
    own, defaults = subject.hf_config(), dict[str, Any]()
    for name in sorted(template.variables):
        if name in known or (name in VARIABLES and VARIABLES[name].kind in {"runtime", "convention"}):
            continue
        for source in (*(VARIABLES[name].sources if name in VARIABLES else ()), name):
            # Several fields may be about the same thing, of different parts of the model.
            value = same_for_all(fields.get(source))
            if value is not None and value == wanted.get(name) and (silent or part.get(source) is None):
                part[source] = value
                if silent or value == hf.default_of(own, source):
                    defaults[source] = value
                break
        else:  # what follows from a field that only transformers knows by that name, as a head from Swin's width
            if template.reads is not None and name in VARIABLES and name in wanted and part.get(name) is None:
                value = (
                    bool(wanted[name]) if VARIABLES[name].unit == "0 or 1" else wanted[name]
                )  # as transformers has it
                part[name] = defaults[name] = value
    record = {**template.provenance, DEFAULTS: defaults} if defaults else template.provenance
    return msgspec.structs.replace(template, config=config, provenance=record)
