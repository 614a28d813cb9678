"""An observation: one step of a model at one config, traced, with the values of all global variables."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from nbanalyzer.formulas.formula import parse
from nbanalyzer.generate.hf import MASKS
from nbanalyzer.generate.model.routing import expert_names, experts_in
from nbanalyzer.generate.model.subject import NOTHING, Subject, UnrunnableError
from nbanalyzer.generate.trace.depth import Depth
from nbanalyzer.generate.trace.recorder import trace
from nbanalyzer.generate.trace.scope import Kept, Operand, Scope
from nbanalyzer.generate.trace.tensors import kept
from nbanalyzer.templates.media import OF_RUN, Media, evaluated

__all__ = ["FEW", "Observation", "observe", "read_values", "structure", "values_of"]

FEW = 3
"""The least number of observations at other sizes that support a formula."""


@dataclass(frozen=True)
class Observation:
    """One traced step of a model at one config.

    Attributes:
        values: of the global variables, batch_size, seq_len and cache_len among them.
        root: what was seen.
        kept: what the cache holds after it.
        parameters: name → shape, tied ones once.
        subject: the model that was run.
        real: whether the config is the model's own, but for its depth.
        shares: the numbers between 0 and 1 in the config, such as the part of a head that is rotated.
        places: place in the cache → path of the module that appended there.

    """

    values: Mapping[str, int]
    root: Scope
    kept: tuple[Kept, ...]
    parameters: Mapping[str, tuple[int, ...]]
    subject: Subject
    real: bool
    shares: frozenset[float] = frozenset()
    places: Mapping[int, str] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """New tokens of all sequences."""
        return self.values["batch_size"] * self.values["seq_len"]


def values_of(subject: Subject) -> dict[str, int]:
    """Return the global variables that a config gives, those that its class reads and does not keep among them."""
    return dict(subject.params)


def observe(
    subject: Subject,
    depth: Depth,
    batch_size: int,
    lengths: Sequence[int],
    encoder_len: int,
    *,
    real: bool,
    attn: str = "sdpa",
    keep: Sequence[int] = (),
    like: object = None,
    media: Media = NOTHING,
) -> list[Observation]:
    """Return one observation for each step of a run; none if the structure of the first differs from `like`.

    `keep` is how many positions' logits to compute in each step; `media` the images or the sound that the first reads.

    Raises:
        NBAnalyzerError: it cannot be built or run.

    """
    model = depth.shorten(subject.build(attn))
    values, shares = values_of(subject), frozenset(_shares(subject.hf_config().to_dict()))
    parameters = shapes_of(model)
    read = read_values(subject, values, media)
    found: list[Observation] = []
    try:
        for step, logits in zip(
            subject.steps(model, batch_size, lengths, encoder_len, media), keep or lengths, strict=False
        ):
            try:
                root = trace(step, logits if logits < step.seq_len else 0)
            except UnrunnableError:
                if not found:
                    raise
                if step.untouched:
                    continue  # some go on one token at a time only
                break
            if logits < step.seq_len and step.picks_logits:
                _join_rows(root, (step.batch_size, logits))
            runtime = {"batch_size": step.batch_size, "seq_len": step.seq_len, "cache_len": step.cache_len}
            runtime |= {"encoder_len": step.encoder_len} if step.has_encoder and subject.encodes_text else {}
            runtime["num_logits"] = logits if step.picks_logits else step.seq_len
            seen = runtime | values | read
            stays = tuple(kept(step.after))
            found.append(Observation(seen, root, stays, parameters, subject, real, shares, step.places))
            if like is not None and len(found) == 1 and structure(found[0]) != like:
                return []
    finally:
        if subject.device != "meta":
            model.to("meta")  # what was seen holds on to the modules, which need no memory any more
    return found


def _join_rows(scope: Scope, last: tuple[int, int]) -> None:
    """Make products of the last positions with one weight what they are of all tokens: one of all rows.

    `last` are sequences, and positions of each: no matrix in memory, for which alone PyTorch does not join them. It
    reads and computes the same.
    """
    for operation in scope.operations():
        if operation.name != "bmm" or operation.inputs[0].shape[:2] != last:
            continue
        left, weight = operation.inputs
        if weight.size == "w_bytes" and weight.stored[0] == 1:
            operation.name = "mm"
            operation.inputs = (_of_all(left), weight._replace(shape=weight.shape[1:], stored=weight.stored[1:]))
            operation.outputs = (_of_all(operation.outputs[0]),)


def _of_all(rows: Operand) -> Operand:
    """Return a batch of matrices as one of all their rows."""
    batch, each, width = rows.shape
    return rows._replace(shape=(batch * each, width), stored=(batch * each, width))


def shapes_of(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Return name → shape of each parameter, tied ones once.

    Those of experts that a model's code goes through in a loop are one, under ``*``, with their number in front.
    """
    stacked = {
        f"{path}.{name}." if path else f"{name}.": (f"{path}.", len(names))
        for path, module in model.named_modules()
        if experts_in(module)
        for names in (expert_names(module),)
        for name in names
    }
    found: dict[str, tuple[int, ...]] = {}
    for name, parameter in model.named_parameters():
        expert = next((one for one in stacked if name.startswith(one)), "")
        if expert:
            above, count = stacked[expert]
            found[f"{above}*.{name.removeprefix(expert)}"] = (count, *parameter.shape)
        else:
            found[name] = tuple(parameter.shape)
    return found


def read_values(subject: Subject, values: Mapping[str, int], media: Media) -> dict[str, int]:
    """Return the variables of the images or the sound that are read: those of a run that count, and all that follow."""
    reader = subject.reader
    if reader is None:
        return {}
    found = {name: int(value) for name, value in evaluated(reader.reads, values, media).items()}
    used = {name for text in reader.reads.variables.values() for name in parse(text).variables}
    used |= {reader.counts}
    return {name: value for name, value in found.items() if name not in OF_RUN or name in used}


def structure(run: Observation) -> Hashable:
    """Return which operations are run where, apart from masks and from the number of turns of a loop."""
    found: dict[object, None] = {}

    def look(scope: Scope, path: str) -> None:
        for child in scope.children:
            if not isinstance(child, Scope):
                found[path, child.line, child.name] = None
            elif not child.target.startswith(MASKS):
                look(child, f"{path}.{child.name}")

    look(run.root, "")
    return tuple(found)


def _shares(config: Mapping[str, Any]) -> Iterator[float]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _shares(value)
        elif isinstance(value, float) and 0 < value < 1 and re.search("partial|rotary|factor|ratio|percent|pct", name):
            yield value
