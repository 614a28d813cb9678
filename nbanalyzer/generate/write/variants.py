"""Other ways to compute the same: attention op by op, and latent attention that is not expanded.

A variant is offered only if it is right for the whole model. For eager attention that is seen by running the
model so: module by module, the difference to fused attention must be exactly what the module template says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import msgspec

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.generate import hints
from nbanalyzer.generate.hf import MASKS
from nbanalyzer.generate.probe.observation import Observation
from nbanalyzer.generate.trace.pricing import UnknownOperation
from nbanalyzer.generate.trace.scope import ATTENTION, Scope, joined, modules_of
from nbanalyzer.templates.library import MODULES
from nbanalyzer.templates.template import Basic, Composite, Kernel, walk

from . import readings
from .masks import window_of

__all__ = ["Eager", "attends_in_pieces", "eager_of", "has_eager", "with_absorbed", "with_eager", "without_eager"]

SDPA_MASK = f"{MASKS}.sdpa_mask"
EAGER_MASK = f"{MASKS}.eager_mask"
ABSORBED = "nbanalyzer.absorbed_latent_attention"


@dataclass(frozen=True)
class Eager:
    """Which module templates say what eager attention costs in this model.

    Attributes:
        attention: path of a module that calls attention → class name of the template of its eager variant.
        masks: path of a module that makes masks → for each: the modules called after it, and whether it has a
            sliding window.

    """

    attention: Mapping[str, str]
    masks: Mapping[str, tuple[tuple[tuple[str, ...], bool], ...]]


def attends_in_pieces(runs: Iterable[Observation]) -> bool:
    """Return whether a module attends several times, as towers do image by image: of them there is no variant."""
    return any(
        sum(isinstance(child, Scope) and child.target == ATTENTION for child in scope.children) > 1
        for run in runs
        for _, scope in modules_of(run.root)
    )


def eager_of(fused: Sequence[Observation], eager: Sequence[Observation]) -> Eager | None:
    """Return the variant, None if no template says exactly what is seen.

    Args:
        fused: the model's own observations with fused attention.
        eager: the same steps with eager attention.

    """
    choices: dict[str, set[str]] = {}
    masks: dict[str, tuple[tuple[tuple[str, ...], bool], ...]] = {}
    for fused_run, other in zip(fused, eager, strict=True):
        left, right = dict(modules_of(fused_run.root)), dict(modules_of(other.root))
        for path, scope in left.items():
            calls = [child for child in scope.children if isinstance(child, Scope) and child.target == ATTENTION]
            if len(calls) == 1 and path in right:
                fitting = _fitting(scope, calls[0], right[path], fused_run.tokens)
                choices[path] = choices.get(path, fitting) & fitting
            elif calls:
                return None
        for path, scope in right.items():
            if (made := _masks(scope)) is None:
                return None
            if made:
                masks[path] = made
    if not choices or not all(choices.values()):
        return None
    return Eager({path: min(found) for path, found in choices.items()}, masks)


def _fitting(scope: Scope, call: Scope, eager: Scope, tokens: int) -> set[str]:
    """Return the templates that say what eager attention does more than everything around fused attention."""
    bound = readings.context(MODULES[ATTENTION], call)
    if bound is None:
        return set()
    try:
        around = readings.counted(scope.operations(), tokens)
        core = readings.counted(call.operations(), tokens)
        whole = readings.counted(eager.operations(), tokens)
        rest = tuple(own - (every - part) for own, every, part in zip(whole, around, core, strict=True))
        return {name for name in readings.EAGER if readings.promised(MODULES[name], bound) == rest}
    except (UnknownOperation, NBAnalyzerError):
        return set()


def _masks(scope: Scope) -> tuple[tuple[tuple[str, ...], bool], ...] | None:
    """Return the masks that a module makes for eager attention, None if the template says something else."""
    found = []
    children = [child for child in scope.children if isinstance(child, Scope)]
    for place, child in enumerate(children):
        if child.target.rpartition(".")[0] != MASKS:
            continue
        bound = readings.context(MODULES[EAGER_MASK], child)
        if bound is None or readings.promised(MODULES[EAGER_MASK], bound) != readings.counted(child.operations(), 1):
            return None
        after = tuple(later.name for later in children[place + 1 :] if later.module is not None)
        found.append((after, bool(bound["has_window"])))
    return tuple(found)


def with_eager(kernels: tuple[Kernel, ...], eager: Eager, path: str = "") -> tuple[Kernel, ...]:
    """Return the kernels, layers still one by one, with the eager variant at each attention and mask."""
    result: list[Kernel] = []
    keys = list(_keys(kernels))
    pending = list(eager.masks.get(path, ()))
    for kernel in kernels:
        while pending and isinstance(kernel, Composite) and kernel.name in pending[0][0]:
            result += _mask(pending.pop(0)[1], keys)
        if isinstance(kernel, Composite):
            if kernel.module == ATTENTION and kernel.bindings and path in eager.attention:
                kernel = msgspec.structs.replace(kernel, variants={"eager": eager.attention[path]})
            inner = with_eager(kernel.sub_kernels, eager, joined(path, kernel.name))
            kernel = msgspec.structs.replace(kernel, sub_kernels=inner)
        result.append(kernel)
    return tuple(result)


def without_eager(kernels: tuple[Kernel, ...]) -> tuple[Kernel, ...]:
    """Return the kernels without the variant, and without the masks that only it reads."""
    result: list[Kernel] = []
    for kernel in kernels:
        if isinstance(kernel, Composite):
            if kernel.module == SDPA_MASK:
                continue
            variants = {name: module for name, module in kernel.variants.items() if name != "eager"}
            kernel = msgspec.structs.replace(kernel, variants=variants, sub_kernels=without_eager(kernel.sub_kernels))
        result.append(kernel)
    return tuple(result)


def has_eager(kernels: tuple[Kernel, ...]) -> bool:
    """Return whether all attention in a template has an eager variant, and there is some."""
    calls = list(_attentions(kernels))
    return bool(calls) and all("eager" in kernel.variants for kernel in calls)


def _attentions(kernels: tuple[Kernel, ...]) -> Iterator[Composite]:
    return (one for _, one in walk(kernels) if isinstance(one, Composite) and one.module == ATTENTION)


def _keys(kernels: tuple[Kernel, ...]) -> Iterator[tuple[str, str]]:
    """Yield sequences and keys of every attention in kernels and below."""
    for kernel in _attentions(kernels):
        if kernel.bindings:
            yield kernel.bindings["num_sequences"], kernel.bindings["num_keys"]


def _mask(window: bool, keys: list[tuple[str, str]]) -> list[Kernel]:
    """Return the node of a mask: as many keys as the attention that it is for."""
    fitting = [pair for pair in keys if bool(window_of(parse(pair[1]))) == window] or keys
    if not fitting:
        return []
    sequences, count = fitting[0]
    bindings = {
        "num_sequences": sequences,
        "num_queries": "{seq_len}",
        "num_keys": count,
        "has_window": str(int(window)),
    }
    name = "window_mask" if window else "causal_mask"
    return [Composite(name=name, module=SDPA_MASK, bindings=bindings, variants={"eager": EAGER_MASK})]


# ---- latent attention


def with_absorbed(kernels: tuple[Kernel, ...]) -> tuple[Kernel, ...]:
    """Return the kernels with latent attention as one node, which also has an absorbed variant.

    It is where a linear layer expands what the cache holds, just before attention; see `hints.ABSORBED`.
    """
    result: list[Kernel] = []
    for kernel in kernels:
        if not isinstance(kernel, Composite):
            result.append(kernel)
            continue
        for hint in hints.ABSORBED:
            first = next((place for place, before in enumerate(result) if before.name == hint.name), None)
            # Where nothing that was cached is expanded, there is nothing to absorb.
            if (
                first is not None
                and kernel.module == ATTENTION
                and "{cache_len}" in kernel.bindings.get("num_keys", "")
            ):
                more = [*takewhile(lambda one: isinstance(one, Basic), result[first + 1 :])]
                inside = (result[first], *more, kernel)
                beside = result[first + 1 + len(more) :]  # an indexer, and the mask that it makes: not absorbed
                result[first:] = [*beside, _latent(inside, kernel.bindings, hint.says)]
                break
        else:
            result.append(msgspec.structs.replace(kernel, sub_kernels=with_absorbed(kernel.sub_kernels)))
    return tuple(result)


def _latent(inside: tuple[Kernel, ...], bound: Mapping[str, str], sizes: Iterable[str]) -> Composite:
    """Return expansion and attention as one node."""
    own = ("num_sequences", "num_queries", "num_keys", "num_visible", "num_heads", "v_head_dim")
    return Composite(
        name="latent_attention",
        description="Expands the latent of every token that is attended to into keys and values, then attends.",
        bindings={name: bound[name] for name in own}
        | {name: formula for name, _, formula in (text.partition("=") for text in sizes)},
        variants={"absorbed": ABSORBED},
        sub_kernels=inside,
    )
