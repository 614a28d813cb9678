"""Whether one device's share is what transformers makes of it: every causal model type with a tensor-parallel plan.

Each type is taken at its default config, made as shallow as its kinds of layers allow. Its template, divided by two, is
compared with a rank of two by transformers' own plan: parameters, matmul FLOPs, number and payload of every kind of
collective; and module by module the bytes that are moved.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from nbanalyzer.errors import NBAnalyzerError, shorten
from nbanalyzer.files import write_whole
from nbanalyzer.generate import hf
from nbanalyzer.generate.model.subject import Subject

from .coverage import Case, shallow

__all__ = ["CHANGED", "Result", "planned", "report", "try_type"]

Outcome = Literal["equal", "bytes differ", "differs", "no template", "refused"]
OUTCOMES: tuple[Outcome, ...] = ("equal", "bytes differ", "differs", "no template", "refused")
"""Equal in everything; in all but bytes moved; a number that differs; none to compare; transformers does not run it."""

TP, LIMIT, MEMORY = 2, 240.0, 12 << 30  # ranks; seconds and bytes for one type
PART = 10  # types that a process tries, for memory; a pool that replaces its processes by itself may wait for ever
RUN = {"batch_size": 2, "seq_len": 40}
PAGE = Path("docs/devices-coverage.md")

CHANGED: Mapping[str, Mapping[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "deepseek_v2": {"num_experts_per_tok": 2, "moe_intermediate_size": 1408},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "nemotron_h": {"moe_intermediate_size": 8192},
}
"""Model type → config fields without which its default, made shallow, is no model, or its half is none: a layer with
attention, or a width of which the half is a multiple of 8, as grouped products want it."""


@dataclass(frozen=True)
class Result:
    """What came of a type.

    Attributes:
        model_type: the type.
        outcome: one of `OUTCOMES`.
        why: one short line, "" for what is equal.
        collectives: how many there are in the pass.
        seconds: generating and comparing took so long.

    """

    model_type: str
    outcome: Outcome
    why: str = ""
    collectives: int = 0
    seconds: float = 0.0


def planned(types: Iterable[str] = ()) -> Iterator[str]:
    """Yield the causal model types whose models have a plan, or those of them that are named."""
    wanted = set(types)
    for model_type in sorted(hf.architectures("causal")):
        if not wanted or model_type in wanted:
            with suppress(Exception):  # the defaults of some configs are no model at all
                tensors, _ = hf.plans(_subject(model_type).build())
                if tensors:
                    yield model_type


def _subject(model_type: str) -> Subject:
    return shallow(Case("causal", model_type)).with_fields(CHANGED.get(model_type, {}))


def try_type(model_type: str) -> Result:
    """Generate the template of a type, and compare it with a rank."""
    import torch

    from nbanalyzer.costs.count import count
    from nbanalyzer.generate.check.comparison import of_rank
    from nbanalyzer.generate.check.positions import culprits
    from nbanalyzer.generate.check.ranks import rank_of
    from nbanalyzer.generate.write.template import build_template

    torch.set_num_threads(1)
    start = time.process_time()

    def result(outcome: Outcome, why: str = "", collectives: int = 0) -> Result:
        return Result(model_type, outcome, _line(why), collectives, round(time.process_time() - start, 1))

    with _at_most(LIMIT):
        try:
            subject = _subject(model_type)
            rank = rank_of(subject, TP, 1, RUN)
        except Exception as error:  # noqa: BLE001 - a report has a line for whatever happens
            return result("refused", _said(error))
        try:
            template = build_template(subject, f"default/{model_type}")
        except Exception as error:  # noqa: BLE001
            return result("no template", _said(error))
        try:
            wrong: dict[str, str] = {}
            for one in of_rank(rank, count(template, **RUN, tp=TP)):
                for place in culprits(one.whole, one.numbers):
                    ours, theirs = one.numbers(place)
                    where = place.path or "the whole model"
                    wrong.setdefault(
                        one.metric, f"{one.metric} of {where}: {ours:,} in the template, {theirs:,} by PyTorch"
                    )
        except Exception as error:  # noqa: BLE001
            return result("differs", _said(error))
    grave = [why for metric, why in wrong.items() if not metric.endswith(_MOVED) or "payload" in metric]
    outcome: Outcome = "differs" if grave else "bytes differ" if wrong else "equal"
    return result(outcome, "; ".join(grave or wrong.values()), len(rank.sent))


def _bounded() -> None:
    """Let a type that needs too much memory fail by itself, not the machine."""
    with suppress(ImportError):  # not on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError inside once the processor has worked so long: not every search looks at a deadline."""

    def late(_signal: int, _frame: object) -> None:
        raise TimeoutError(f"takes more than {seconds:.0f} s")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


_MOVED = ("_bytes", "bytes_read", "bytes_written", "vector_flops")


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, NBAnalyzerError | TimeoutError) else f"{type(error).__name__}: {error}"


def _line(text: str) -> str:
    return shorten(" ".join(text.split()), 220)


def report(results: Sequence[Result]) -> str:
    """Return the results as Markdown: totals, then one line for each type."""
    count = Counter(one.outcome for one in results)
    right = count["equal"] + count["bytes differ"]
    return "\n".join(
        [
            "# Coverage of devices",
            "",
            "Every causal model type of transformers with a tensor-parallel plan, at its default config, made shallow",
            "but with layers of every kind: a template is generated, divided by two (`tp=2`), and compared with one of",
            "two ranks that transformers itself makes, in a process group that sends nothing, on the meta device.",
            f"transformers {version('transformers')}, torch {version('torch').partition('+')[0]}.",
            "`python -m tools.devices` writes this page.",
            "",
            f"**{right} of {len(results)}** types are equal in parameters, matmul FLOPs, number and payload of every",
            f"kind of collective; {count['equal']} of them, module by module, in vector FLOPs and bytes moved too.",
            "",
            "- **equal**: in everything. Left out is what `DTensor` does around its collectives: it masks tokens of",
            "  other devices in the embedding, and puts side by side what it gathered.",
            "- **bytes differ**: all equal but bytes or vector FLOPs of a module.",
            "- **differs**: another number.",
            "- **no template**: the type is not generated, see [coverage](coverage.md).",
            "- **refused**: transformers does not divide the model, or run it divided, at this config.",
            "",
            f"| types | {' | '.join(OUTCOMES)} |",
            f"|---|{'---|' * len(OUTCOMES)}",
            f"| {len(results)} | {' | '.join(str(count[outcome]) for outcome in OUTCOMES)} |",
            "",
            "| type | outcome | collectives | why |",
            "|---|---|---|---|",
            *(
                f"| {one.model_type} | {one.outcome} | {one.collectives or ''} | {_escaped(one.why)} |"
                for one in results
            ),
            "",
        ]
    )


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("{", "&#123;")


def _read(path: Path | None) -> list[Result]:
    if path is None or not path.exists():
        return []
    return [Result(**json.loads(line)) for line in path.read_text().splitlines() if line.endswith("}")]


def _tried(types: Sequence[str], jobs: int) -> Iterator[Result]:
    """Yield what comes of types, in processes of their own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_bounded) as pool:
        for done in as_completed([pool.submit(try_type, one) for one in types]):
            yield done.result()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.devices", description=__doc__)
    parser.add_argument("types", nargs="*", help="model types (default: all, and the page is written)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--results", type=Path, help="JSON-lines file to go on from")
    given = parser.parse_args(arguments)
    types = [*planned(given.types)]
    found = {one.model_type: one for one in _read(given.results)}
    left = [one for one in types if one not in found]
    for first in range(0, len(left), PART * given.jobs):
        for one in _tried(left[first : first + PART * given.jobs], given.jobs):
            found[one.model_type] = one
            if given.results:
                with given.results.open("a") as file:
                    file.write(json.dumps(asdict(one)) + "\n")
            sys.stdout.write(
                f"{len(found)}/{len(types)} {one.model_type}: {one.outcome}, {one.seconds:.1f} s {one.why}\n"
            )
            sys.stdout.flush()
    if not given.types:
        write_whole(PAGE, report([found[one] for one in types]).encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
