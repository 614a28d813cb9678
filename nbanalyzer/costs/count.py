"""A complete template, sizes and a run → costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from numbers import Integral
from typing import Any

import msgspec

from nbanalyzer.errors import ConfigError, InputError, NotModelledError, TemplateError, quote
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.templates import catalog
from nbanalyzer.templates.choices import Quantisation
from nbanalyzer.templates.config import ModelParams, extract_model_params, with_overrides
from nbanalyzer.templates.config_fields import of_whole, placed, with_changes
from nbanalyzer.templates.config_files import as_mapping
from nbanalyzer.templates.expansion import with_variants
from nbanalyzer.templates.families import canonical_name
from nbanalyzer.templates.media import evaluated, fitted, positions_of, variables_of
from nbanalyzer.templates.quantisation import FIELDS, asked_for, quantisation_in, stated_in
from nbanalyzer.templates.schemes import NONE
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.templates.template_files import as_json
from nbanalyzer.templates.validity import changeable

from .costs import Costs
from .division import Stage
from .run import MEDIA, SWITCHES, Layout, Run
from .tree import Tree

__all__ = [
    "again", "as_run", "count", "fused", "params_of", "prepared", "quantisation_of", "shortest", "tree_again",
    "tree_of", "why_not_fused", "with_media",
]  # fmt: skip

MOST_NAMED = 8  # fields in a message


def count(template: ModelTemplate, **run: Any) -> Costs:
    """Return the costs of one pass of a complete template, with the sizes of its own config.

    Args:
        template: with its kernels, in whatever variants.
        run: batch_size, seq_len, cache_len, encoder_len, w_bit, a_bit, kv_bit, attn, logits, causal; see `Run`. All
            weights have `w_bit` bits, unless a `quant` is given: what is compared with PyTorch's own count is so.

    Raises:
        NBAnalyzerError: a run that is not possible, or formulas without a value.

    """
    return Costs(*prepared(template, None, {}, as_run({"quant": NONE, **run})))


def shortest(template: ModelTemplate) -> dict[str, Any]:
    """Return a pass that a template's model can make, for what no run changes: of one token, or of an image's places.

    Of some models, every prompt has an image.
    """
    reads = template.reads
    if reads is None or not (reads.each or reads.usual):
        return {"seq_len": 1}
    params = params_of(_plain(template, as_run({})), None, {})
    media, _ = fitted(reads, params, None, None, None)
    return {"seq_len": max(1, whole(positions_of(reads, params, media, 1)))}


def prepared(
    template: ModelTemplate, config: object, changes: Mapping[str, int], run: Run
) -> tuple[Tree, ModelParams, Run]:
    """Return the kernels and sizes that costs are counted from, checked, and the run as the weights' scheme has it.

    Args:
        template: complete.
        config: with the sizes; the template's own config if None.
        changes: sizes that replace the config's.
        run: the runtime values and conventions.

    Raises:
        NBAnalyzerError: options that are not possible, or without effect.

    """
    template = _as_stated(template, config)
    quantisation = quantisation_of(template, run)
    tree = _plain(template, run.fused(run.fusion, mtp=0) if run.mtp else run)
    params = with_media(template, params_of(tree, config, changes), run)
    if quantisation and quantisation.kv_bits and run.kv_bit_follows:
        run = run.fused(run.fusion, kv_bit=quantisation.kv_bits)
    if run.mtp:
        from .mtp import require_drafts  # not needed without drafts

        require_drafts(template, params, run)
    if run.pp > 1 or quantisation or run.mtp:
        tree = tree_of(template, run, params)
    _require(tree, params, run)
    if run.quant and tree.stored and not tree.stored.schemes:
        roles = " and ".join(f"{role}s" for role in tree.stored.quantisation.scheme.file.roles)
        raise InputError(f"quant={quote(run.quant)} changes nothing: it is of {roles}, and this model has none")
    if not run.encoder_len_follows and "encoder_len" not in tree.variables:
        raise InputError(f"encoder_len={run.encoder_len} changes nothing: this model has no encoder of its own")
    return tree, params, run


def _as_stated(template: ModelTemplate, config: object) -> ModelTemplate:
    """Return the template with what another config says of how weights are stored."""
    if config is None:
        return template
    rest = {name: value for name, value in template.config.items() if name not in FIELDS}
    return msgspec.structs.replace(template, config=rest | stated_in(as_mapping(config)))


def quantisation_of(template: ModelTemplate, run: Run) -> Quantisation | None:
    """Return how weights are stored: as a run says, or else the model's config; None if the run's bits say it.

    Raises:
        ConfigError: the config says what is not understood.

    """
    if run.quant is not None:
        return asked_for(run.quant)
    return quantisation_in(template.config, template.model_id)


def with_media(template: ModelTemplate, params: ModelParams, run: Run) -> ModelParams:
    """Return a model's sizes with those of the images or the sound that a run has it read.

    Raises:
        InputError: what the model does not read, or cannot take; a prompt without room for it.

    """
    reads = template.reads
    given = {name: value for name in MEDIA if (value := getattr(run, name)) is not None}
    for axis in ("pp", "cp"):
        if reads is not None and getattr(run, axis) > 1 and (reads.each or not template.state):
            raise InputError(f"not modelled: {axis} for {template.model_id or 'a model'}, which reads {reads.what}")
    if reads is None:
        for name, value in given.items():
            if template.part.startswith("the text part"):
                raise InputError(f"{name}={value} is not counted: this is {template.part}; leave it out")
            raise InputError(f"{name}={value} changes nothing: this model reads text alone")
        return params
    if run.audio_seconds is not None and reads.what != "sound" and not reads.audio_positions and hears(template.config):
        raise InputError(
            f"audio_seconds={run.audio_seconds:g} is not counted: this model reads sound as well as {reads.what}, and "
            "of what reads it the parameters alone are counted; leave it out, and have seq_len count its positions"
        )
    media, note = fitted(reads, params, run.images, run.image_size, run.audio_seconds)
    values = {name: whole(value) for name, value in evaluated(reads, params, media).items()}
    taken = positions_of(reads, params, media, run.batch_size)
    length = "encoder_len" if reads.encoded else "seq_len"
    if not run.cache_len and taken > getattr(run, length):
        raise InputError(
            f"{length}={getattr(run, length)} counts all positions of a sequence, those of {reads.what} too, which "
            f"alone are {taken:,}: it is at least that"
        )
    found = ModelParams({**params, **values}, params.model_type, params.unknown, params.defaults)
    if reads.written and run.cache_len:
        kept = int(parse(reads.written).evaluate(params)) - 1
        note = f"cache_len counts what is kept: the prompt, and the last {kept} tokens written"
    found.note = note
    return found


def hears(config: Mapping[str, Any]) -> bool:
    """Return whether a config has a part that reads sound."""
    return any(isinstance(config.get(name), Mapping) for name in ("audio_config", "sound_config"))


def fused(costs: Costs) -> Costs:
    """Return the costs of the same pass as a serving engine launches it; switches that nobody chose follow."""
    return costs if costs.run.fusion == "engine" else again(costs, costs.run.fused())


def again(costs: Costs, run: Run) -> Costs:
    """Return the costs of the same model in another run."""
    tree = tree_of(costs.kernel_tree.source, run, costs.params)
    _require(tree, costs.params, run)
    return Costs(tree, costs.params, run, costs.notes, costs.warnings)


def as_run(options: Mapping[str, Any]) -> Run:
    """Return the run with these options, which may be NumPy's integers."""
    return Run.of(**{name: whole(value) for name, value in options.items()})


def whole(value: Any) -> Any:
    """Return NumPy's integers as Python's."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _other_than(own: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return what a config says otherwise than a template's own does, one of it."""
    known = of_whole(own)
    fields = ((key, value) for key, value in of_whole(given).items() if key in known and known[key] != value)
    return next((f"{placed(given, key)} is {quote(value)}" for key, value in fields), "another config")


def params_of(tree: Tree, config: object, changes: Mapping[str, int]) -> ModelParams:
    """Return the sizes for a template's formulas; changes without effect are refused."""
    template = tree.template
    reads = template.reads
    source = template.config if config is None else config
    used = dict.fromkeys((*tree.variables, *variables_of(reads))) if reads else tree.variables
    required = [name for name in used if name in VARIABLES and VARIABLES[name].sources]
    wanted, given = template.config.get("model_type"), None if config is None else as_mapping(config).get("model_type")
    if wanted and isinstance(given, str) and given and given != wanted:
        raise ConfigError(f"this config is a {quote(given)}, the template of {template.model_id!r} is a {wanted!r}")
    params = extract_model_params(source, changes, required)
    if reads and not template.valid_for and (changes or config is not None):
        what = f"set {next(iter(changes))}" if changes else _other_than(template.config, as_mapping(config))
        raise InputError(
            f"{what}: the template of {template.model_id!r} reads {reads.what} and answers for its own config alone; "
            "generate one for the other"
        )
    if config is not None and template.config:
        catalog.require_fit(template, as_mapping(config), template.model_id)
    if reads and changes:
        _require_changeable(template, source, changes)
        return params
    for name in changes:
        _require_effect(tree, name, changes, params, source)
    if changes and template.valid_for:
        catalog.require_fit(template, with_overrides(source, changes), template.model_id)
    return params


def _require_changeable(template: ModelTemplate, source: object, changes: Mapping[str, int]) -> None:
    """Raise unless a whole that reads images or sound may have other values of all that is changed."""
    known = changeable(template)
    some = ", ".join(known[:MOST_NAMED]) + (f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else "")
    for name, value in changes.items():
        if canonical_name(name) not in known:
            raise InputError(
                f"set {name}={quote(value)}: no formula says all that follows from it in {template.model_id}, which "
                f"takes other values of {some or 'nothing'}; generate a template for a config.json with it"
            )
    catalog.require_fit(template, with_changes(source, changes), template.model_id)


def tree_of(template: ModelTemplate, run: Run, params: Mapping[str, int] | None = None) -> Tree:
    """Return the template's tree in the variants that the run chooses, as a rank of its mesh has it.

    Args:
        template: complete.
        run: its variants and its mesh.
        params: the model's sizes, on which the layers of a stage depend; without them, it has all layers.

    """
    tree, quantisation = _plain(template, run, params), quantisation_of(template, run)
    if quantisation is None:
        return tree
    from .storing import stored_tree  # not needed for weights of one width

    known = extract_model_params(template.config, {}, ()) if params is None else params
    if run.fsdp == 1:
        return stored_tree(tree, quantisation, known, run)
    from .stored_shards import require_shards, sharded_tensors

    require_shards(quantisation, run)
    whole = _plain(template, run, params, shards=False)
    return sharded_tensors(tree, stored_tree(whole, quantisation, known, run))


def tree_again(tree: Tree, run: Run, sizes: Iterable[tuple[str, int]]) -> Tree:
    """Return the tree of the same template in another run, where some of the model's sizes may not be told.

    No format of weights depends on sizes that are not: those of the template's config stand in.
    """
    if tree.stored is None:
        return tree_of(tree.source, run)
    return tree_of(tree.source, run, {**extract_model_params(tree.source.config, {}, ()), **dict(sizes)})


def why_not_fused(tree: Tree, run: Run, sizes: Iterable[tuple[str, int]]) -> str:
    """Return why nobody knows what an engine launches in a run of its list, see `tree_again`; "" if somebody does."""
    try:
        tree_again(tree, run, sizes)
    except NotModelledError as error:
        return str(error)
    return ""


def _plain(template: ModelTemplate, run: Run, params: Mapping[str, int] | None = None, *, shards: bool = True) -> Tree:
    """Return the template's tree with all weights of the same width, and with all of them where ranks share them."""
    try:
        content = as_json(template)
    except (TypeError, ValueError, RecursionError) as error:  # a config may hold any object
        raise TemplateError(f"cannot be written as JSON: {error}", template.model_id) from None
    stage = None
    if run.pp > 1 and params is not None:
        whole = _tree(content, run.variants, run.wanted, "none", Layout(), None, drafts=False)
        _require_values(whole, params, run)
        from .rank import stage_of  # not needed for one stage

        stage = stage_of(whole, params, run)
    layout = run.layout if shards else run.layout._replace(axes=run.layout.axes - {"fsdp"})
    return _tree(content, run.variants, run.wanted, run.fusion, layout, stage, drafts=run.mtp > 0)


@lru_cache(maxsize=64)
def _tree(
    content: bytes,
    chosen: frozenset[str],
    wanted: frozenset[str],
    fusion: str,
    layout: Layout,
    stage: Stage | None,
    *,
    drafts: bool,
) -> Tree:
    template = msgspec.json.decode(content, type=ModelTemplate)
    varied, variants = with_variants(template, chosen)
    usual = {switch.choices[0] for switch in SWITCHES.values()}
    for choice in sorted(wanted - usual - variants - {template.attention}):
        raise InputError(f"{template.model_id or 'this template'} has no attention variant {choice!r}")
    tree = _run_by(varied, template, fusion, layout, stage)
    if not drafts:
        return tree
    from .mtp import drafting, head_of  # not needed without drafts

    ahead = with_variants(head_of(template), chosen)[0]
    return drafting(tree, _run_by(ahead, ahead, fusion, layout, None), is_fused=fusion != "none")


def _run_by(varied: ModelTemplate, source: ModelTemplate, fusion: str, layout: Layout, stage: Stage | None) -> Tree:
    """Return the tree of a template in the variants of a run, divided over devices, and fused."""
    if layout.axes:
        from .rank import divided  # not needed for one device

        tree = divided(varied, source, layout, stage)
    else:
        tree = Tree(varied, source)
    if fusion == "none":
        return tree
    from .fusion import fused  # not needed for what PyTorch runs

    return fused(tree)


def _require(tree: Tree, params: ModelParams, run: Run) -> None:
    """Raise unless all variables have a value, and sizes divide as the mesh of a run needs it."""
    _require_values(tree, params, run)
    if run.layout.axes or run.imbalance != 1:
        from .rank import require_division  # not needed for one device

        require_division(tree, params, run)
    if tree.stored:
        from .stored import require_storable  # not needed for weights of one width

        require_storable(tree, {**params, **run.values()})


def _require_values(tree: Tree, params: Mapping[str, int], run: Run) -> None:
    """Raise if the template uses a variable without a value in config and run."""
    known = params.keys() | run.values().keys()
    for name in tree.variables:
        if name not in known:
            sources = VARIABLES[name].sources if name in VARIABLES else (name,)
            looked = f" (looked for {', '.join(sources)})" if sources else ""
            users = [node.path for node in tree.nodes if any(name in one.variables for one in node.formulas)]
            problem = f"the config has no {{{name}}}{looked}, and {users[0] if users else 'its state'} needs it"
            raise ConfigError(problem, tree.template.model_id)


def _require_effect(tree: Tree, name: str, changes: Mapping[str, int], params: ModelParams, source: object) -> None:
    """Raise if setting `name` changes none of the variables of the template's formulas."""
    validity = tree.template.valid_for
    read = variables_of(tree.template.reads) if tree.template.reads else frozenset()
    if canonical_name(name) in {*tree.variables, *read} or (
        validity and any(name in pair.split("=") for pair in validity.together)
    ):
        return
    try:
        rest = {field: value for field, value in changes.items() if field != name}
        without = extract_model_params(source, rest, ())
    except ConfigError:
        return  # the other changes need it
    if all(params.get(variable) == without.get(variable) for variable in tree.variables):
        usable = ", ".join(sorted(variable for variable in tree.variables if variable in params))
        raise InputError(
            f"set {name}={changes[name]} changes nothing: no formula of this template uses it, they use {usable}"
        )
