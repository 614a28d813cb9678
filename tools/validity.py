"""For which other configs a template is right: what its probes varied, and what they found nothing to follow from.

Every number and size of the config is tried by itself on a shallow model, and those that say which layer is what on
the whole one. What is not tried, or changes what is run, has to be as it is here.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from typing import Any

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.generate.hf import quiet
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.probe.fields import says_which_layer
from nbanalyzer.generate.probe.observation import observe, structure, values_of
from nbanalyzer.generate.probe.sampling import sizes_seen, varied
from nbanalyzer.generate.trace.depth import Depth, count_fields, depth_of
from nbanalyzer.generate.trace.layers import seen_alike, signatures, stacks
from nbanalyzer.generate.trace.recorder import seldom_collected, trace
from nbanalyzer.generate.trace.stand_ins import recording
from nbanalyzer.templates.config import extract_model_params
from nbanalyzer.templates.config_files import TEXT_PARTS
from nbanalyzer.templates.families import canonical_name
from nbanalyzer.templates.template import ModelTemplate, Validity
from nbanalyzer.templates.validity import flat, is_noise

__all__ = ["validity_of"]

_LENGTHS, _READ = (9, 1), 7
"""New tokens in the steps of a trial, and tokens that an encoder reads."""


class UnknownRuleError(NBAnalyzerError):
    """A size that transformers derives in another way than `nbanalyzer.templates.config` does."""

    def message(self) -> str:
        """Return the field and both values."""
        field, own, theirs = self.args
        return f"{field}, if it is not stated, is {own} by nbanalyzer's rules and {theirs} by transformers'"


@quiet()
@seldom_collected()
def validity_of(template: ModelTemplate, subject: Subject) -> Validity:
    """Return for which configs a template is right that was generated for a subject.

    Raises:
        NBAnalyzerError: the model does not run on the meta device.

    """
    model = subject.build()
    fields = subject.hf_config().to_dict()
    with recording(model):
        first = next(subject.steps(model, 2, (5,), _READ))
        found = seen_alike(stacks(model, fields), trace(first))
        depth = depth_of(subject, found, fields)
        trials = _Trials(subject, subject.with_fields(depth.config()), depth)
        free = varied(trials.shallow, depth, _READ)
        single = {name for name in free if "=" not in name}
        used = template.variables
        counted = count_fields(fields, found)
        indifferent = [
            name
            for name, value in trials.numbers()
            if _last(name) not in map(_last, single) and canonical_name(_last(name)) not in used
            if trials.changes_nothing(name, value)
        ]
        apart = [*trials.apart(sorted(single))]
    derived = sorted(_derived(subject, {*(part for name in free for part in name.split("=")), *counted}))
    _require_rules(subject, derived, used)
    return Validity(
        varied=tuple(sorted(map(_last, single))),
        indifferent=tuple(sorted(map(_last, indifferent))),
        together=tuple(sorted(_pair(name) for name in free if "=" in name)),
        apart=tuple(apart),
        derived=tuple(derived),
        defaults=_defaults(subject, derived),
        aliases=_aliases(subject),
    )


class _Trials:
    """A model with one field changed after the other."""

    def __init__(self, whole: Subject, shallow: Subject, depth: Depth) -> None:
        self.whole, self.shallow, self.depth = whole, shallow, depth
        self.config = shallow.hf_config().to_dict()
        self.usual = self.seen({})
        self.layers, self.weights = self.built({}) or (None, None)

    def numbers(self) -> Iterator[tuple[str, Any]]:
        """Yield the numbers of the config with their values, and what is null; a dot leads into a nested part."""
        yield from _numbers(self.config, nulls=True)

    def changes_nothing(self, name: str, value: float | None) -> bool:
        """Return whether nothing that is run, no size, and no layer follows from a number: of any of several tried.

        Null is tried where there is a number, and small numbers where there is null, as where a window is switched off.
        """
        others: list[float | None] = [1, 2, 4, 64]
        if isinstance(value, float):
            others = [0.0 if value else 0.5, value / 2, value * 2, None]
        elif value is not None:
            others = [1, 2, 3, value // 2 or 5, 2 * value, None]
        ran = False
        for other in others:
            if other == value:
                continue
            seen = self.seen({name: other})
            if seen is None or says_which_layer(name):
                layers, weights = self.built({name: other}) or (self.layers, self.weights)
                if weights != self.weights or (seen is not None and layers != self.layers):
                    return False
            if seen is None:
                continue  # transformers refuses it, or it does not run
            if seen != self.usual:
                return False
            ran = True
        return ran

    def apart(self, names: Iterable[str]) -> Iterator[str]:
        """Yield pairs of sizes that differ, and that make the model run something else when they are equal."""
        values = dict(_numbers(self.config))
        usual = [kind for kind, _ in self.usual or ()]
        for left, right in combinations([name for name in names if name in values], 2):
            if values[left] == values[right]:
                continue
            changes: tuple[dict[str, Any], ...] = ({left: values[right]}, {right: values[left]})
            made = next((steps for change in changes if (steps := self.seen(change, _LENGTHS[:1])) is not None), None)
            if made is not None and [kind for kind, _ in made] != usual[:1]:
                yield f"{_last(left)}={_last(right)}"

    def seen(
        self, change: Mapping[str, Any], lengths: Sequence[int] = _LENGTHS
    ) -> list[tuple[Hashable, object]] | None:
        """Return what is run with other values, and with which sizes, step by step; None if it does not run."""
        try:
            runs = observe(self.shallow.with_fields(change), self.depth, 2, lengths, _READ, real=False)
        except NBAnalyzerError:
            return None
        return [(structure(run), sizes_seen(run)) for run in runs]

    def built(self, change: Mapping[str, Any]) -> tuple[object, object] | None:
        """Return which layers and which weights the whole model has with other values; None if it cannot be built."""
        try:
            subject = self.whole.with_fields(change)
            model = subject.build()
        except NBAnalyzerError:
            return None
        fields = subject.hf_config().to_dict()
        lists = {name: value for name, value in flat(fields).items() if isinstance(value, list)}
        stacked = [signatures(stack.layers) for stack in stacks(model, fields)]
        return (stacked, lists), {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _numbers(config: Mapping[str, Any], prefix: str = "", *, nulls: bool = False) -> Iterator[tuple[str, Any]]:
    text = next((part for part in TEXT_PARTS if isinstance(config.get(part), Mapping)), "")
    if text:
        yield from _numbers(config[text], f"{prefix}{text}.", nulls=nulls)
        return
    for name, value in config.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if (number or (nulls and value is None)) and name != "architectures" and not is_noise(name):
            yield prefix + name, value


def _derived(subject: Subject, sizes: Iterable[str]) -> set[str]:
    """Return the fields that follow from others if they are not stated: they change when a size is doubled."""
    stated = flat(subject.config)
    found: set[str] = set()
    for left_out in ("", *stated):
        base = _without(subject, left_out)
        try:
            before = flat(base.hf_config().to_dict())
        except NBAnalyzerError:
            continue  # it has to be stated
        keys = (left_out,) if left_out else tuple(key for key in before if key not in stated)
        for name in sizes:
            size = before.get(_last(name))
            if not isinstance(size, int) or _last(name) == left_out:
                continue
            with suppress(NBAnalyzerError):
                after = flat(base.with_fields({name: 2 * size}).hf_config().to_dict())
                found.update(key for key in keys if key != _last(name) and after.get(key) != before.get(key))
    return found


def _require_rules(subject: Subject, derived: Iterable[str], used: Container[str]) -> None:
    """Raise unless our own rules give what the config's class derives, where a size is not stated."""
    for key in derived:
        name = canonical_name(key)
        if name not in used:
            continue
        other = _without(subject, key)
        own, theirs = extract_model_params(other.config, required=(name,)), values_of(other)
        if own.get(name) != theirs.get(name):
            raise UnknownRuleError(key, own.get(name), theirs.get(name))


def _without(subject: Subject, field: str) -> Subject:
    """Return the subject with a field of its text part left out."""
    if not field:
        return subject
    config = dict(subject.config)
    part = config
    while text := next((key for key in TEXT_PARTS if isinstance(part.get(key), Mapping)), ""):
        part[text] = dict(part[text])
        part = part[text]
    outer, _, inner = field.partition(".")
    if inner and isinstance(part.get(outer), Mapping):
        part[outer] = {key: value for key, value in part[outer].items() if key != inner}
    part.pop(field, None)
    return replace(subject, config=config)


def _defaults(subject: Subject, derived: Iterable[str]) -> dict[str, Any]:
    """Return what the config's class takes for each field that is not stated; null where it follows from others."""
    stated = flat(subject.config)
    result = {key: value for key, value in flat(subject.hf_config().to_dict()).items() if key not in stated}
    for key in stated:
        try:
            found = flat(_without(subject, key).hf_config().to_dict())
        except NBAnalyzerError:
            continue  # it has to be stated
        if key in found:
            result[key] = found[key]
    skipped = set(derived)
    return {key: None if key in skipped else result[key] for key in sorted(result) if not is_noise(key)}


def _aliases(subject: Subject) -> dict[str, str]:
    config: Any = subject.hf_config()
    names = getattr(config.get_text_config(), "attribute_map", {})
    return {other: own for other, own in sorted(names.items()) if not is_noise(other)}


def _pair(name: str) -> str:
    left, right = name.split("=")
    return f"{_last(left)}={_last(right)}"


def _last(name: str) -> str:
    """Return a field's name without the text parts that it is in."""
    parts = name.split(".")
    while parts[0] in TEXT_PARTS and len(parts) > 1:
        parts.pop(0)
    return ".".join(parts)
