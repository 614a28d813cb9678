"""The runs that a template is compared in, made with the real model: as few forward passes as answer every question."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from nbanalyzer.generate.model.meta import Answers
from nbanalyzer.generate.model.subject import Step, Subject, UnrunnableError
from nbanalyzer.generate.probe.cases import kernels_of
from nbanalyzer.generate.trace.recorder import trace
from nbanalyzer.generate.trace.scope import Scope
from nbanalyzer.generate.trace.stand_ins import recording
from nbanalyzer.generate.trace.tensors import kept_sizes
from nbanalyzer.progress import tell
from nbanalyzer.templates.config import extract_model_params
from nbanalyzer.templates.media import Media

from . import media, oracle
from .oracle import Seen

__all__ = ["MATMUL", "RUNS", "TRAFFIC", "Measured", "Run", "measured", "runs_of"]

Run = Mapping[str, Any]

RUNS: Mapping[str, Run] = {
    "prefill": {"batch_size": 1, "seq_len": 2048},
    "decode": {"batch_size": 1, "seq_len": 1, "cache_len": 2048},
    "prefill_last_logits": {"batch_size": 2, "seq_len": 100, "logits": "last"},
    "continuation": {"batch_size": 2, "seq_len": 16, "cache_len": 100},
}
"""Name → the run that is compared; shorter where a model takes fewer tokens, or works token by token."""

MATMUL = ("matmul_flops",)
TRAFFIC = (
    "vector_flops", "read_bytes", "write_bytes", "weight_bytes_read", "kv_bytes_read", "kv_bytes_written",
)  # fmt: skip
"""What each of the two oracles counts."""

SHORT_BATCH = 4  # as no other run has: it begins anew

UNTRACED = "prefill_last_logits"  # the continuation is traced, and a prefill with all logits


@dataclass(frozen=True)
class Measured:
    """What one of the oracles saw in a run of the real model.

    Attributes:
        name: of the run.
        run: its options, as `populate` takes them.
        metrics: what was counted.
        seen: module by module.
        kept: what the cache holds afterwards: elements in the model's precision, and bytes of all others.
        root: the trace, None where FlopCounterMode counted.

    """

    name: str
    run: Run
    metrics: tuple[str, ...]
    seen: Seen
    kept: tuple[int, int]
    root: Scope | None = None


def runs_of(
    subject: Subject, model: torch.nn.Module, runs: Mapping[str, Run] = RUNS, most: int | None = None
) -> dict[str, Run]:
    """Return the runs that a model can do, one beyond each sliding window or chunk, and one below a convolution's size.

    A masked model has no cache, and of the others some take fewer tokens, or work token by token. No run is beyond
    `most` tokens, those in the cache included.
    """
    longest = oracle.affordable(subject, model)
    longest = longest if most is None else min(longest, max(1, (most - media.room(subject)) // 2))
    found: dict[str, Run] = {}
    for name, run in runs.items():
        if media.stands_for(subject, name):
            continue
        if subject.kind == "masked" and (run.get("cache_len") or "logits" in run):
            continue
        found[name] = _within(run, longest, subject, longest)
    values = extract_model_params(subject.hf_config(), required=())
    if widest := max((values[name] for name in kernels_of(values)), default=0):
        found["short"] = _within({"batch_size": SHORT_BATCH, "seq_len": widest - 1}, longest, subject, longest)
    if subject.kind != "masked":
        for number, window in enumerate(_windows(values)):
            # Else it would take too many steps; where there is data, a table of positions may be shorter.
            if most is not None:
                break
            if window < 8 * longest if subject.device == "meta" else window + 116 < longest:
                name = f"beyond_window_{number + 1}" if number else "beyond_window"
                after = max(window + 100, longest + 1 + 16 * number)
                found[name] = _within({"batch_size": 1, "seq_len": 16, "cache_len": after}, after, subject, longest)
    return {**found, **media.with_images(subject)}


def _within(run: Run, longest: int, subject: Subject, reads: int) -> dict[str, Any]:
    sizes = {name: min(run[name], longest) for name in ("seq_len", "cache_len") if name in run}
    first, taken = "cache_len" if "cache_len" in run else "seq_len", media.room(subject)
    sizes[first] += taken if sizes[first] <= taken else 0  # an image, and as much text beside it
    if subject.encodes_text:
        sizes["encoder_len"] = min(reads, 2048 if run["batch_size"] == 1 else 60)
    return {**run, **sizes, **media.needed(subject)}


def _windows(values: Mapping[str, int]) -> list[int]:
    names = (name for name in values if name.endswith(("window", "window_size", "attention_chunk_size")))
    return sorted({values[name] for name in names if values[name] > 1})


def measured(
    subject: Subject, counted: torch.nn.Module, runs: Mapping[str, Run], *, eager: bool = False, traced: bool = True
) -> Iterator[Measured]:
    """Yield what the oracles see in the runs: FlopCounterMode in all, the trace in some; first the trace of a prefill.

    A run of several tokens after others is left out where the model takes them one by one; where its eager attention
    alone refuses them, as that of a model whose first layer keeps no keys, the trace says their FLOPs.

    Args:
        subject: the model.
        counted: built with eager attention, and experts by batched products.
        runs: name → options.
        eager: whether to trace eager attention too, not only sdpa.
        traced: whether to trace at all.

    """
    fused = subject.build() if traced else counted
    unbatched: torch.nn.Module | None = None  # with eager attention, and experts as they are
    with recording(fused):
        routed = False
        for number, (name, step) in enumerate(_steps(subject, counted, runs)):
            tell(f"checking {name.replace('_', ' ')}", number / len(runs))
            run, logits = runs[name], int(runs[name].get("logits") == "last")
            traces = traced and name != UNTRACED
            cached = [copy.deepcopy(step.cache) for _ in range(2 * traces)]
            if traces:
                again = replace(step, model=fused, cache=cached[0])
                try:
                    root = trace(again, logits)
                except UnrunnableError:
                    step.untouched = again.untouched
                    if _is_refused(step):
                        continue
                    raise
                # Experts that are computed in groups, FlopCounterMode does not count.
                routed = routed or any("grouped_mm" in operation.name for operation in root.operations())
                yield Measured(name, run, TRAFFIC, _traffic(root, again), kept_sizes(again.after), root)
            if not (traces and eager):
                try:
                    seen = oracle.flops(step, logits)
                except UnrunnableError:
                    if traces and step.cache is not None and step.seq_len > 1:  # it can with fused attention alone
                        yield Measured(name, run, MATMUL, _traffic(root, again), kept_sizes(again.after))
                        continue
                    if _is_refused(step):
                        continue
                    raise
                yield Measured(name, run, MATMUL, seen, kept_sizes(step.after))
                continue
            seen, root = oracle.flops_and_trace(step, logits)
            kept = kept_sizes(step.after)
            yield Measured(name, run, MATMUL, seen, kept)
            if routed:  # by batched products, as FlopCounterMode wants them, experts are read once a token
                unbatched = unbatched or subject.build("eager")
                root = trace(replace(step, model=unbatched, cache=cached[1], after=None), logits)
            yield Measured(f"eager_{name}", {**run, "attn": "eager"}, TRAFFIC, _traffic(root, step), kept, root)


def _is_refused(step: Step) -> bool:
    """Return whether a step failed for its several tokens: some models go on one token at a time only."""
    return step.untouched and step.seq_len > 1


def _steps(subject: Subject, model: torch.nn.Module, runs: Mapping[str, Run]) -> Iterator[tuple[str, Step]]:
    """Yield runs as steps to be run by the caller; those of as many sequences follow each other."""
    chains: dict[tuple[int, Media], list[str]] = {}
    for name in sorted(runs, key=lambda name: runs[name].get("cache_len", 0)):
        chains.setdefault((runs[name]["batch_size"], media.in_run(subject, runs[name])), []).append(name)
    for names in chains.values():
        yield from _chain(subject, model, names, runs)


def _chain(
    subject: Subject, model: torch.nn.Module, names: list[str], runs: Mapping[str, Run]
) -> Iterator[tuple[str, Step]]:
    """Yield the steps of runs that follow each other, to be run by the caller, with the steps in between run here."""
    plan: list[tuple[str, int]] = []  # name of the run, "" for a step in between; new tokens
    before = 0
    for name in names:
        after, length = runs[name].get("cache_len", 0), runs[name]["seq_len"]
        plan += [("", after - before)] if after > before else []
        plan.append((name, length))
        before = max(after, before) + length
    first = runs[names[0]]
    lengths = (length for _, length in plan)
    read = media.in_run(subject, first)
    steps = subject.steps(model, first["batch_size"], lengths, first.get("encoder_len", 0), read)
    for (name, _), step in zip(plan, steps, strict=False):
        if name:
            yield name, step
        else:
            with Answers():
                step.run(1)
        if step.untouched:
            return  # it was refused, and so are the next ones


def _traffic(root: Scope, step: Step) -> Seen:
    return oracle.traffic(root, step.batch_size * step.seq_len)
