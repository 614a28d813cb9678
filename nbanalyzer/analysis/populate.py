"""Model template + config + runtime values → numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from nbanalyzer.costs import count
from nbanalyzer.costs.count import as_run, whole
from nbanalyzer.costs.run import Run
from nbanalyzer.costs.tree import Tree
from nbanalyzer.errors import ConfigError, InputError, quote, shorten
from nbanalyzer.files import convert
from nbanalyzer.generate.api import MADE, built_for, parameters_of, template_for
from nbanalyzer.templates import catalog
from nbanalyzer.templates.config import ModelParams
from nbanalyzer.templates.config_files import as_mapping, media_fields
from nbanalyzer.templates.families import NOT_RUN, WHICH_LAYERS, canonical_name, speaks_of_cost
from nbanalyzer.templates.media import variables_of
from nbanalyzer.templates.mtp import layout_of, says_layers
from nbanalyzer.templates.publishers import may_mean, meant_by
from nbanalyzer.templates.spelling import stored_otherwise
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.templates.validity import DEFAULTS, ever_read, flat
from nbanalyzer.text import printable

from .analysis import Analysis

__all__ = ["populate", "populate_template", "prepared"]

# Every config has these, or they follow from it: a template that does not use one of them is not incomplete.
COMMON = frozenset({"hidden_size", "num_heads", "num_kv_heads", "head_dim", "intermediate_size", "num_layers"})

Source = str | os.PathLike[str] | Mapping[str, Any] | ModelTemplate


def populate_template(
    model_json: Source,
    config: object = None,
    batch_size: int = 1,
    seq_len: int = 1024,
    cache_len: int = 0,
    w_bit: int = 16,
    a_bit: int = 16,
    kv_bit: int | None = None,
    **switches: Any,
) -> dict[str, Any]:
    """Return a model template's tree with numbers in place of formulas, and the totals.

    Args:
        model_json: a model template: a file, plain data, or a catalogue name.
        config: a transformers config object, plain data or a config.json; the template's own if None.
        batch_size: sequences.
        seq_len: new tokens per sequence.
        cache_len: tokens per sequence that are in the cache already.
        w_bit: bits per weight.
        a_bit: bits per element of an activation.
        kv_bit: bits per element of the cache; as activations if None.
        switches: ``encoder_len``, ``attn``, ``logits``, ``causal`` (see `nbanalyzer.costs.run.SWITCHES`), and ``set``.

    Returns:
        Plain data that can be written as JSON, see `Analysis.tree`.

    Raises:
        NBAnalyzerError: bad input, one line that quotes it.

    """
    return populate(
        model_json,
        config=config,
        batch_size=batch_size,
        seq_len=seq_len,
        cache_len=cache_len,
        w_bit=w_bit,
        a_bit=a_bit,
        kv_bit=kv_bit,
        **switches,
    ).tree


def populate(
    model: Source,
    *,
    config: object = None,
    set: Mapping[str, int] | None = None,  # noqa: A002 - the users' word: --set
    **run: Any,
) -> Analysis:
    """Return what one forward pass of a model costs.

    Args:
        model: a catalogue name such as ``"gpt2"``, the path of a model template or of a config.json, a model
            template, or one as plain data; or a config, as plain data or a transformers object. A config that no
            shipped template fits gets a template of its own, which needs torch, see `nbanalyzer.generate`.
        config: values from elsewhere: a transformers config object, plain data or the path of a config.json.
        set: config values to change, e.g. ``{"num_kv_heads": 4}``.
        run: batch_size, seq_len, cache_len, encoder_len, w_bit, a_bit, kv_bit, attn, logits, causal; see `Run`.

    Raises:
        NBAnalyzerError: bad input, one line that quotes it.

    """
    tree, params, this_run, notes = prepared(model, config, set, run)
    return Analysis(tree, params, this_run, notes, _warnings(tree, params, this_run))


def prepared(
    model: Source,
    config: object,
    set: Mapping[str, int] | None,  # noqa: A002 - as `populate`
    run: Mapping[str, Any],
) -> tuple[Tree, ModelParams, Run, tuple[str, ...]]:
    """Return what an analysis is made of, all checked but its numbers: kernels, sizes, run, notes; see `populate`."""
    if set is not None and not isinstance(set, Mapping):
        raise InputError(f"set is a mapping of names to whole numbers, not {quote(set)}")
    this_run = as_run(run)  # a value that cannot be is told before any model is looked for
    if this_run.acceptance is not None and "mtp" not in run:
        raise InputError(f"acceptance={this_run.acceptance} changes nothing: it is of drafts, by mtp")
    changes = {name: whole(value) for name, value in (set or {}).items()}
    template, bound = compared(template_of(model))
    named = template.provenance.get(catalog.NAMED)
    asked = named if isinstance(named, str) else ""
    is_open = run.get("quant") is None and run.get("w_bit") is None
    implied = meant_by(asked, template.model_id) if is_open else ""
    if implied:
        run = {**run, "quant": implied}
        this_run = as_run(run)
    tree, params, this_run = count.prepared(template, config, changes, this_run)
    positions = params.get("max_position_embeddings") or this_run.seq_len
    if is_short := "seq_len" not in run and positions < this_run.seq_len:
        shorter = as_run({**run, "seq_len": positions})  # nobody asked for more than it was made for
        tree, params, this_run = count.prepared(template, config, changes, shorter)
    changed = {canonical_name(name) for name in changes}
    notes = [f"set {', '.join(f'{name}={value}' for name, value in changes.items())}"] if changes else []
    if config is not None:
        source = printable(os.fspath(config)) if isinstance(config, str | os.PathLike) else "another config"
        notes.insert(0, f"sizes from {source}")
    if MADE in template.provenance:
        only = template.provenance.get("result", "equal") != "equal"
        notes.insert(0, f"template made for this config, equal to PyTorch{' at tiny sizes' if only else ''}")
    elif bound:
        notes.insert(0, bound)
    if params.note:
        notes.append(params.note)
    if template.drafted:
        notes.insert(0, template.drafted)
    if asked:
        notes.insert(0, f"has the structure of {asked}{_stored_there(asked, implied) if is_open else ''}")
    if is_short:
        notes.append(f"seq_len {positions}: all positions of the model")
    stated_nowhere = template.provenance.get(DEFAULTS)
    defaults = dict(stated_nowhere) if isinstance(stated_nowhere, Mapping) and config is None else {}
    defaults |= {name: params[name] for name in params.defaults if name in tree.variables}
    sizes = {name: value for name, value in defaults.items() if not isinstance(value, bool)}
    if left := [f"{name}={value}" for name, value in sizes.items() if canonical_name(name) not in changed]:
        notes.append(shorten(f"not in the config, transformers' defaults: {', '.join(left)}", 300))
    if (ahead := says_layers(params)) and not this_run.mtp:
        known = layout_of(template.config.get("model_type")) is not None
        notes.append(
            f"{ahead}: predict further tokens, in the checkpoint, but run in a pass with mtp alone"
            if known
            else f"not counted: {ahead}, which predict further tokens and are not run in a pass"
        )
    return tree, params, this_run, tuple(notes)


def _stored_there(asked: str, implied: str) -> str:
    """Return how the weights of a model are stored that was asked for by a name, and are counted here."""
    if implied:
        return f", whose weights are counted as its publisher stores them, in {implied}"
    if not (schemes := may_mean(asked)):
        return ""
    asking = " or ".join(f"quant={scheme}" for scheme in schemes)
    return f", whose weights are {stored_otherwise(asked)} there and counted as the base's: {asking} counts them so"


def template_of(model: Source) -> ModelTemplate:
    """Return the template that a user means, see `populate`."""
    if isinstance(model, str | os.PathLike):
        found, where = catalog.look_up(model)
        template = found if isinstance(found, ModelTemplate) else built_for(found, where)
        # A file may be called what is no text.
        return msgspec.structs.replace(template, model_id=printable(template.model_id))
    if isinstance(model, ModelTemplate):
        return catalog.completed(model)
    if not isinstance(model, Mapping):
        if isinstance(model, type) or not callable(getattr(model, "to_dict", None)):
            raise InputError(f"a model is a name, a path, a template or a config, not of type {type(model).__name__}")
        return built_for(as_mapping(model))
    if "kernels" not in model and "extends" not in model:
        return built_for(model)
    return catalog.completed(convert(model, ModelTemplate, "template"))


def compared(template: ModelTemplate) -> tuple[ModelTemplate, str]:
    """Return a template, and what is known of the kernels if they are another model's.

    Where torch is installed, the parameters are compared once with those of the config's own model; if they differ,
    the template is not right for it, whatever the rules say, and one is made that is.
    """
    base = template.provenance.get(catalog.KERNELS_OF)
    if not isinstance(base, str) or not template.valid_for:
        return template, ""
    theirs = parameters_of(template.config, whole=template.reads is not None)
    if theirs is None:
        return template, f"kernels of {base}, by rule: its parameters were not compared with PyTorch's"
    ours = count.count(template).totals["parameters"]
    if ours == theirs:
        return template, f"kernels of {base}, its parameters compared with PyTorch's: equal"
    problem = f"by {base} it has {ours:,} parameters, by PyTorch {theirs:,}"
    return template_for(template.config, template.model_id, ConfigError(problem, template.model_id)), ""


def _warnings(tree: Tree, params: ModelParams, run: Run) -> tuple[str, ...]:
    """Return what to know before believing the numbers."""
    found = []
    if run.cache_len and "cache_len" not in tree.variables:
        found.append("cache_len makes no difference: this model keeps nothing from one pass to the next")
    limit, length = params.get("max_position_embeddings"), run.cache_len + run.seq_len
    if limit is not None and length > limit:
        learned = "max_position_embeddings" in tree.variables  # a table with a row for each
        found.append(
            f"cache_len + seq_len = {length:,} tokens exceed the model's {limit:,} positions "
            f"(max_position_embeddings): {'it has no more and would not run' if learned else 'it was made for no more'}"
        )
    every = {name for name in WHICH_LAYERS if params.get(name) == 1}  # one layer in one
    reads = tree.template.reads
    beside = () if reads is not None else {name for name, _, _ in media_fields(tree.template.config)}  # not counted
    silent = {*COMMON, *NOT_RUN, *every, *beside}
    costly = [name for name in params if speaks_of_cost(name) and name not in silent]
    used = {*tree.variables, *(() if reads is None else (*reads.variables, *variables_of(reads)))}
    unused = [name for name in dict.fromkeys((*costly, *params.unknown)) if name not in used]
    if unused and (unused := _unsettled(tree.template, unused)):
        found.append(f"the config says what looks like cost, and no formula uses it: {', '.join(unused)}")
    return tuple(found)


def _unsettled(template: ModelTemplate, names: Iterable[str]) -> list[str]:
    """Return which of the config's fields that no formula uses may cost something all the same.

    What a shipped template's own config says was there when it was compared with PyTorch; of a template that was made
    for a config, so was everything that transformers' code speaks of at all.
    """
    if template.reads is not None and {"checked", catalog.KERNELS_OF} & template.provenance.keys():
        return []  # of a whole, every field was compared
    if MADE in template.provenance:
        spoken = {canonical_name(key) for key in flat(template.config) if ever_read(template, key)}
        return [name for name in names if name not in spoken]
    base = template.provenance.get(catalog.KERNELS_OF)
    if not isinstance(base, str) and "checked" not in template.provenance:
        return list(names)
    own = catalog.shipped(base).config if isinstance(base, str) else template.config
    settled = {canonical_name(key) for key in flat(own)}
    return [name for name in names if name not in settled]
