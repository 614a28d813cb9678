"""How many layers: the fields that say it, and a model with just those layers that show all there are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.templates.config_files import MEDIA_PARTS, TEXT_PARTS

from .layers import LISTS, Stack, facts_of, stacks

__all__ = ["COUNTS", "Depth", "count_fields", "depth_of", "shallow"]

COUNTS = re.compile(
    r"(^|_|\.)layers?$|^(vision|audio)(_config\.|_)(depth|num_blocks)$"
)  # num_hidden_layers, n_layer, decoder_layers, …


@dataclass(frozen=True)
class Depth:
    """How a model is made with fewer layers.

    Attributes:
        fields: config fields that say how many layers there are → how many to make.
        lists: config fields with one entry for each layer → its entries.
        cut: stacks that no field shortens → how many layers to keep of each.
        staged: those of them that are the blocks of a stage.

    """

    fields: Mapping[str, int] = field(default_factory=dict)
    lists: Mapping[str, list[Any]] = field(default_factory=dict)
    cut: Mapping[str, int] = field(default_factory=dict)
    staged: frozenset[str] = frozenset()

    def config(self, more: int = 0) -> dict[str, Any]:
        """Return the fields to set; `more` layers than needed."""
        result: dict[str, Any] = {name: count + more for name, count in self.fields.items()}
        for name, entries in self.lists.items():
            own = [
                number for field, number in self.fields.items() if field.rpartition(".")[0] == name.rpartition(".")[0]
            ]
            count = min(own, default=len(entries)) + more
            result[name] = entries[:count]
        return result

    def with_all_blocks(self) -> Depth:
        """Return the same, with stages as they are."""
        cut = {path: count for path, count in self.cut.items() if path not in self.staged}
        return replace(self, cut=cut, staged=frozenset())

    def shorten(self, model: torch.nn.Module) -> torch.nn.Module:
        """Drop the layers of a built model that its config could not; with other fields it may have fewer stages."""
        modules = dict(model.named_modules()) if self.cut else {}
        for path, count in self.cut.items():
            if (layers := modules.get(path)) is not None:
                assert isinstance(layers, LISTS)
                del layers[count:]
        return model


def count_fields(config: Mapping[str, Any], found: Sequence[Stack]) -> dict[str, Stack]:
    """Return the config fields that say how long a stack is; of stages they are no fields of their own."""
    found = [stack for stack in found if not stack.in_stage]
    lengths = {len(stack.alike): stack for stack in found}
    own: dict[str, Stack] = {}
    for name, value in config.items():
        if isinstance(value, int) and not isinstance(value, bool) and COUNTS.search(name) and value in lengths:
            if "." in name:
                fitting = [stack for stack in found if len(stack.alike) == value and _is_of(stack, name)]
                if fitting:
                    own[name] = fitting[0]
                continue
            half = next((part for part in ("encoder", "decoder") if name.startswith(part) or f"_{part}_" in name), "")
            fitting = [
                stack for stack in found if len(stack.alike) == value and (half in stack.path.split(".") or not half)
            ]
            own[name] = (fitting or [lengths[value]])[0]
    return own


def _is_of(stack: Stack, name: str) -> bool:
    """Return whether a stack is in the part of a model that a field with a dot is of."""
    part = name.partition(".")[0]
    if part in (*MEDIA_PARTS, *TEXT_PARTS):
        return stack.part == (part if part in MEDIA_PARTS else "")  # two towers may be as deep as each other
    return part.removesuffix("_config") in stack.path.split(".")


def depth_of(subject: Subject, found: Sequence[Stack], fields: Mapping[str, Any], least: int = 1) -> Depth:
    """Return how to make the model with just the layers needed, checked on a model made so.

    Args:
        subject: the model.
        found: the stacks of the whole model.
        fields: all fields of its config, defaults included.
        least: the least number of layers to make.

    """
    named = count_fields(fields, found)
    leasts = (least, least) if subject.reader is None else subject.reader.least
    wanted = {stack.path: min(max(stack.needed, leasts[stack.reads_media]), len(stack.alike)) for stack in found}
    counted = {
        name: max(
            wanted[stack.path]
            for stack in found
            if len(stack.alike) == len(named[name].alike) and ("." not in name or _is_of(stack, name))
            if not stack.in_stage
        )
        for name in named
    }
    if len(counted) > sum(not stack.in_stage for stack in found):
        counted = _of_these(subject, found, counted)
    lengths, stated = {len(stack.alike) for stack in found if not stack.in_stage}, subject.stated()
    lists = {
        name: list(value)
        for name, value in fields.items()
        if isinstance(value, list | tuple) and len(value) in lengths and name in stated
    }
    inner = {stack.path: stack.needed for stack in found if stack.in_stage}
    depth = Depth(counted, lists, inner, frozenset(inner))
    if counted and _shows_all(subject.with_fields(depth.config()), found, wanted):
        return depth
    # Lists that no field counts may be something else than layers: then the model counts on all of them.
    own = {stack.path for stack in named.values()} or set(wanted)
    return Depth(cut={path: count for path, count in wanted.items() if path in own} | inner, staged=frozenset(inner))


def _of_these(subject: Subject, found: Sequence[Stack], counted: Mapping[str, int]) -> dict[str, int]:
    """Return the fields that leave all else as it is: another may count a list as long that is not run.

    Of a model of texts and speech that is given a text, the layers for speech are weights alone.
    """
    inside = tuple(f"{stack.path}." for stack in found)

    def others(one: Subject) -> set[str]:
        return {name for name, _ in one.build().named_parameters() if not name.startswith(inside)}

    rest = others(subject)
    kept: dict[str, int] = {}
    for name, count in counted.items():
        with suppress(NBAnalyzerError):
            if others(subject.with_fields({name: count})) == rest:
                kept[name] = count
    return kept


def _shows_all(few: Subject, found: Sequence[Stack], wanted: Mapping[str, int]) -> bool:
    """Return whether a model with fewer layers has the leading ones of the whole model."""
    try:
        model = few.build()
        short = {stack.path: [*map(facts_of, model.get_submodule(stack.path).children())] for stack in found}
    except (NBAnalyzerError, AttributeError):
        return False
    return all(
        len(short[stack.path]) >= wanted[stack.path] and short[stack.path] == [*stack.layers[: len(short[stack.path])]]
        for stack in found
    )


def shallow(subject: Subject, least: int = 1) -> tuple[Subject, Depth]:
    """Return the model with as few layers as show all kinds, `least` at least, and how it is made so."""
    fields = subject.fields()
    depth = depth_of(subject, stacks(subject.build(), fields), fields, least)
    return subject.with_fields(depth.config()), depth
