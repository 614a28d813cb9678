"""For which other configs the template of a whole is right that reads images or sound: those that it equals PyTorch at.

Of such a model, a formula may stand beside a number that only its own config gives. So every field that may be a size
is set to several values, one field at a time and all together, and the template is compared with PyTorch there, in
all that is counted: of a prompt, of one with images or sound, and of the step after it. What differs once is held.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import combinations
from random import Random
from typing import Any

import msgspec

from nbanalyzer.costs.count import count
from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.generate.check.comparison import comparisons
from nbanalyzer.generate.check.equality import MismatchError
from nbanalyzer.generate.check.media import in_run, needed
from nbanalyzer.generate.hf import quiet
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.probe.fields import candidates
from nbanalyzer.generate.probe.sampling import varied
from nbanalyzer.generate.probe.situations import media_of
from nbanalyzer.generate.trace.depth import Depth, count_fields, depth_of
from nbanalyzer.generate.trace.layers import seen_alike, stacks
from nbanalyzer.generate.trace.recorder import seldom_collected, trace
from nbanalyzer.generate.trace.stand_ins import recording
from nbanalyzer.generate.write.template import stated
from nbanalyzer.templates.config_fields import of_whole
from nbanalyzer.templates.config_files import TEXT_PARTS, text_part
from nbanalyzer.templates.media import positions_of
from nbanalyzer.templates.template import ModelTemplate, Validity
from nbanalyzer.templates.validity import differences, is_noise

__all__ = ["Answers", "runs_of", "validity_of_another", "validity_of_whole"]

FEW = 2
"""Layers of a stack in a trial, where the template says of any number how many of each kind there are."""

_BY_LAYER = re.compile(r"layers?_|types$|blocks")
"""Lists that may have an entry for each layer; those of a height and a width have not."""

TOGETHER = 3
"""Configs with other values of all fields at once that are compared."""

_WIDTH = re.compile(r"hidden_size$|embed_dim$|_dim$|d_model$")
"""Sizes of what is handed on: where two are equal, some models leave out what makes the one the other."""


@quiet()
@seldom_collected()
def validity_of_whole(template: ModelTemplate, subject: Subject) -> Validity:
    """Return for which configs a whole's template is right.

    Raises:
        MismatchError: it is wrong at its own config, or with fields that are right one by one and not together.
        NBAnalyzerError: the model does not run on the meta device.

    """
    answers = Answers(template, subject)
    if problem := answers.mismatch(subject):
        raise problem
    depth, depths = _layers_of(subject)
    few = subject.with_fields(depth.config())
    free = _free(few, depth) or _free(subject, Depth())
    sizes = {**subject.fields(), **candidates(few)}
    answers.shorten(depths)
    least = {path: lowest for path, size in depths.items() if (lowest := answers.least(path, size))}
    single = [name for name in free if "=" not in name and name not in depths]
    pairs = [name for name in free if "=" in name]
    answers.known = Validity(
        varied=tuple(sorted(answers.keys((*single, *least)))),
        together=tuple("=".join(answers.keys(pair.split("="))) for pair in pairs),
        derived=tuple(sorted(answers.derived((*single, *depths)))),
        least={answers.key(path): lowest for path, lowest in least.items() if lowest > 1},
    )
    answers.known = msgspec.structs.replace(answers.known, defaults=answers.defaults())
    kept = [path for path in single if answers.hold({path: value} for value in _others(sizes[path], free[path]))]
    bound = [
        pair
        for pair in pairs
        if not any(part in other.split("=") for part in pair.split("=") for other in pairs if other != pair)
        if answers.hold({path: sizes[path] * factor for path in pair.split("=")} for factor in free[pair])
    ]
    bounds = {answers.key(path): low for path in kept if (low := answers.lowest(path, sizes[path])) > 1}
    answers.known = msgspec.structs.replace(
        answers.known,
        varied=tuple(sorted(answers.keys((*kept, *least)))),
        together=tuple(sorted("=".join(answers.keys(pair.split("="))) for pair in bound)),
        least={**answers.known.least, **bounds},
    )
    answers.known = msgspec.structs.replace(answers.known, apart=tuple(answers.apart(kept, sizes)))
    answers.require_together({path: _others(sizes[path], free[path]) for path in kept}, least)
    return answers.known


@quiet()
@seldom_collected()
def validity_of_another(template: ModelTemplate, subject: Subject, known: Validity) -> Validity:
    """Return what is known of the kernels of a whole, with the numbers of layers that they are right for in another.

    What its config lists of its own, such as the layers that a prompt's first ones see, may need more of them.
    """
    answers = Answers(template, subject)
    answers.known = known
    _, depths = _layers_of(subject)
    answers.shorten(depths)
    keys = {answers.key(path): path for path in depths if answers.key(path) in known.varied}
    lowest = {key: answers.least(path, depths[path]) for key, path in keys.items()}
    least = {key: bound for key, bound in known.least.items() if key not in keys}
    return msgspec.structs.replace(
        known,
        varied=tuple(key for key in known.varied if lowest.get(key, 1)),
        least=least | {key: bound for key, bound in lowest.items() if bound > 1},
    )


def _layers_of(subject: Subject) -> tuple[Depth, dict[str, int]]:
    """Return how few layers show all that a whole does, and how many each field of its config counts."""
    fields, model = subject.fields(), subject.build()
    media, taken = media_of(subject, Random(2), 2, 2)  # noqa: S311 - the same every time
    with recording(model):
        first = next(subject.steps(model, 2, (taken + 5,), 7, media))
        found = seen_alike(stacks(model, fields), trace(first))
        depth = depth_of(subject, found, fields)
    return depth, {path: len(stack.alike) for path, stack in count_fields(fields, found).items()}


def _free(subject: Subject, depth: Depth) -> dict[str, list[int]]:
    """Return the fields that sizes depend on, see `varied`; none if a model with few layers does not run."""
    try:
        return varied(subject, depth, 0)
    except NBAnalyzerError:
        return {}


def _others(size: int, values: Iterable[int]) -> list[int]:
    """Return the values that a field is tried at: those that were seen to run, and some that may not."""
    tried = (max(values), size + 1, min(values), size // 2)
    return [value for value in dict.fromkeys(tried) if 0 < value != size]


class Answers:
    """What a whole's template and PyTorch say of the same configs.

    Args:
        template: the whole's.
        subject: its model.

    Attributes:
        known: for which configs it is right, as far as that was looked at.
        base: the model with as few layers as the template knows the numbers of.

    """

    def __init__(self, template: ModelTemplate, subject: Subject) -> None:
        self.template, self.subject, self.base = template, subject, subject
        self.known = Validity()

    def key(self, path: str) -> str:
        """Return what a field is called in a template's ``valid_for``."""
        part = text_part(self.subject.hf_config().to_dict())
        if not part:
            return path
        outer, _, name = path.partition(".")
        if not name:
            return f"whole.{path}"
        return name if outer in TEXT_PARTS else path

    def keys(self, paths: Iterable[str]) -> list[str]:
        """Return the same of several."""
        return [self.key(path) for path in paths]

    # ---- numbers of layers

    def shorten(self, depths: Mapping[str, int]) -> None:
        """Make the model of trials short, where the template says what follows from fewer layers."""
        for path, size in depths.items():
            change = self._depth(path, size, min(size, FEW))
            if size > FEW and self.equal(change):
                self.base = self.base.with_fields(change)

    def _depth(self, path: str, size: int, layers: int) -> dict[str, Any]:
        """Return the fields of a model with so many layers: lists with an entry for each go on with their period."""
        change: dict[str, Any] = {path: layers}
        part = path.rpartition(".")[0]
        for name, value in self.base.stated().items():
            of_layers = isinstance(value, list) and _BY_LAYER.search(name) and len(value) in {size, self._now(path)}
            if of_layers and name.rpartition(".")[0] == part:
                period = next(
                    one
                    for one in range(1, len(value) + 1)
                    if all(value[index] == value[index % one] for index in range(len(value)))
                )
                change[name] = [value[index % period] for index in range(layers)]
        return change

    def _now(self, path: str) -> int:
        return int(self.base.fields()[path])

    def least(self, path: str, size: int) -> int:
        """Return from how many layers on a template is right, 0 if it is not right for any number but its own."""

        def right(layers: int) -> bool:
            return self.equal(self._depth(path, size, layers)) is True

        if not all(right(layers) for layers in (size + 1, 2 * size + 1)):
            return 0
        low, high = 0, size + 1  # wrong, and right
        for layers in (size, size - 1, size // 2, 4, 3, 2, 1):
            if low < layers < high:
                low, high = (low, layers) if right(layers) else (layers, high)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if right(middle) else (middle, high)
        return high

    # ---- what is not stated

    def derived(self, paths: Iterable[str]) -> set[str]:
        """Return the fields that follow from others where they are not stated."""
        stated = set(of_whole(self.subject.config))
        before = of_whole(self.subject.hf_config().to_dict())
        found: set[str] = set()
        for path in paths:
            size = before.get(self.key(path))
            twice = 2 * size if isinstance(size, int) and size else 2  # for all layers, where each has its own
            try:
                after = of_whole(self.subject.with_fields({path: twice}).hf_config().to_dict())
            except NBAnalyzerError:
                continue
            found |= {key for key in after if key not in stated and after[key] != before.get(key)} - {self.key(path)}
        return found

    def defaults(self) -> dict[str, Any]:
        """Return what the config's class takes for each field that is not stated."""
        stated = of_whole(self.subject.config)
        result = of_whole(self.subject.hf_config().to_dict())
        for path in _paths(self.subject.config):
            key = self.key(path)
            if key not in stated:
                continue
            try:
                fields = of_whole(_without(self.subject, path).hf_config().to_dict())
            except NBAnalyzerError:
                result.pop(key, None)
                continue
            result.pop(key, None)
            result |= {key: fields[key]} if key in fields else {}
        skipped = self.known.derived
        return {key: None if key in skipped else result[key] for key in sorted(result) if not is_noise(key)}

    # ---- comparing

    def accepts(self, subject: Subject) -> bool:
        """Return whether what is known lets a template answer for a config."""
        whole = msgspec.structs.replace(self.template, valid_for=self.known, config=dict(self.base.config))
        try:
            return not differences(whole, subject.config)
        except NBAnalyzerError:
            return False

    def hold(self, changes: Iterable[Mapping[str, Any]]) -> bool:
        """Return whether a template is right with those of some changes that it takes, in both halves of the runs."""
        right = [0, 0]
        for change in changes:
            if all(right):
                break
            if not self.accepts(self.base.with_fields(change)):
                continue
            half = int(right[0] > right[1])
            found = self.equal(change, half)
            if found is False:
                return False
            right[half] += found is True
        return all(right)

    def lowest(self, path: str, size: int) -> int:
        """Return the smallest value of a field that a template was seen to be right at, 1 if it is wrong at none.

        With one head, PyTorch copies less; of a narrow one, rotary positions cut off what they have no place for.
        """
        right = size
        for value in sorted({size // 2, 2, 1}, reverse=True):
            if not 0 < value < right or not self.accepts(self.base.with_fields({path: value})):
                continue
            found = self.equal({path: value})
            if found is False:
                return right
            right = value if found else right
        return 1

    def equal(self, change: Mapping[str, Any], half: int | None = None) -> bool | None:
        """Return whether a template equals PyTorch with a change; None if either refuses it.

        With a `half`, only one of the two halves of the runs are compared.
        """
        other = self.base.with_fields(change)
        try:
            return self.mismatch(other, half) is None
        except NBAnalyzerError:
            return None

    def mismatch(self, other: Subject, half: int | None = None) -> MismatchError | None:
        """Return the first number in which a template differs from PyTorch at another config."""
        whole = stated(msgspec.structs.replace(self.template, config=dict(other.config)), other)
        model = other.build("eager", "batched_mm")
        halves = runs_of(other)
        runs = {**halves[0], **halves[1]} if half is None else halves[half]
        compared = comparisons(other, model, runs, lambda run: count(whole, **run))
        with closing(compared):
            for one in compared:
                ours, theirs = one.totals
                if ours != theirs:
                    return MismatchError(self.template.model_id, one.what, float(ours), float(theirs), "")
        return None

    def apart(self, paths: Iterable[str], fields: Mapping[str, Any]) -> Iterator[str]:
        """Yield pairs of sizes that may not be equal, for then the model runs something else."""
        wide = [path for path in paths if _WIDTH.search(path)]
        for left, right in combinations(wide, 2):
            if fields[left] == fields[right]:
                continue
            for change in ({left: fields[right]}, {right: fields[left]}):
                if self.accepts(self.base.with_fields(change)) and (found := self.equal(change)) is not None:
                    if not found:
                        yield f"{self.key(left)}={self.key(right)}"
                    break

    def require_together(self, values: Mapping[str, list[int]], least: Mapping[str, int]) -> None:
        """Raise if a template is wrong with other values of all fields at once."""
        chance = Random(11)  # noqa: S311 - the same every time
        seen = 0
        for _ in range(20 * TOGETHER):
            change: dict[str, Any] = {}
            for path, bound in least.items():
                change |= self._depth(path, self._now(path), chance.randint(bound, bound + 4))
            change |= {path: chance.choice(some) for path, some in values.items() if chance.random() < 0.5}
            other = self.base.with_fields(change)
            try:
                if self.accepts(other):
                    if problem := self.mismatch(other):
                        raise problem
                    seen += 1
            except MismatchError:
                raise
            except NBAnalyzerError:
                continue  # transformers refuses them together
            if seen == TOGETHER:
                return


def runs_of(subject: Subject) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return the runs that are compared, in two halves.

    The first are of three images or some sound, or both, for two prompts, and of a step after them; the second of one
    sequence.
    """
    reader = subject.reader
    assert reader is not None
    read: dict[str, Any] = dict(needed(subject))
    if reader.reads.what == "sound":
        read = {"audio_seconds": 7}
    elif not reader.reads.each:
        read = {"images": 3} | ({} if "height" in reader.reads.sizes else {"image_size": "300x500"})
    if reader.reads.audio_positions:
        read |= {"audio_seconds": 7}
    taken = positions_of(reader.reads, subject.params, in_run(subject, read), 2)
    several: dict[str, dict[str, Any]] = {"first": {"batch_size": 2, "seq_len": taken + 11, **read}}
    if subject.kind != "masked":
        several["next"] = {"batch_size": 2, "seq_len": 3, "cache_len": taken + 11, **read}
    read |= {"images": 1} if "images" in read else {}
    taken = positions_of(reader.reads, subject.params, in_run(subject, read), 1)
    one = {"one": {"batch_size": 1, "seq_len": taken + 7, **read}}
    return several, one | ({"text": {"batch_size": 1, "seq_len": 13}} if reader.optional else {})


def _paths(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the paths of the fields of a config's parts."""
    for name, value in config.items():
        if isinstance(value, Mapping) and name.endswith("_config"):
            yield from _paths(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _without(subject: Subject, path: str) -> Subject:
    """Return the subject with a field of its config left out."""

    def left_out(config: Mapping[str, Any], path: str) -> dict[str, Any]:
        outer, _, inner = path.partition(".")
        if inner:
            return {**config, outer: left_out(config[outer], inner)}
        return {name: value for name, value in config.items() if name != outer}

    return replace(subject, config=left_out(subject.config, path), given=None)
