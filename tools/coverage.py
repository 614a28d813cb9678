"""Which of transformers' language models a template can be generated for: every type of three mappings is tried.

Each type is taken at its default config, made as shallow as its kinds of layers allow, in a process of its own.
Its template must equal PyTorch in parameters and in matmul FLOPs: of a prefill, a continuation and a decode step.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from nbanalyzer.errors import NBAnalyzerError, shorten
from nbanalyzer.generate import hf
from nbanalyzer.generate.hf import KINDS
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.templates.config_files import TEXT_PARTS

from . import wholes

__all__ = ["OUTCOMES", "Case", "Result", "cases", "coverage", "report", "try_case"]

Outcome = Literal["exact", "gaps", "wrong", "not traceable"]
OUTCOMES: tuple[Outcome, ...] = ("exact", "gaps", "wrong", "not traceable")
"""Equal to PyTorch; sizes without a formula; a number that differs; no model to trace, or none in time."""

Progress = Callable[["Result", int, int], None]

_OTHERS = 3  # random sizes, of what is too large to be run with data
_BATCH, _READ = 2, 50
_RUNS = {
    "prefill": {"batch_size": _BATCH, "seq_len": 70},
    "decode": {"batch_size": _BATCH, "seq_len": 1, "cache_len": 70},
    "continuation": {"batch_size": _BATCH, "seq_len": 16, "cache_len": 71},
}
"""Name → the run that is compared; an encoder reads so many tokens as `_READ` says."""


_INDEXER = {
    "indexer_n_heads": 8, "indexer_kv_heads": 1, "indexer_head_dim": 256, "indexer_budget": 512,
    "indexer_compress_ratio": 16, "num_hidden_layers": 4,
}  # fmt: skip

VALID: Mapping[str, Mapping[str, Any]] = {
    "bamba": {"attn_layer_indices": [1], "num_hidden_layers": 3},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "dbrx": {
        "attn_config": {"kv_n_heads": 8, "clip_qkv": 8, "rope_theta": 10000.0},
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "deepseek_v2": {"num_experts_per_tok": 6, "moe_intermediate_size": 1408},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "esm": {"vocab_size": 33, "pad_token_id": 1},
    "granitemoehybrid": {"num_hidden_layers": 3, "layer_types": ["mamba", "attention", "mamba"]},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "lfm2_moe": {"num_hidden_layers": 4, "layer_types": ["conv", "conv", "full_attention", "conv"]},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": dict(_INDEXER),
    "reformer": {"num_buckets": 4, "is_decoder": False, "axial_pos_embds": False},
    "xmod": {"default_language": "en_XX"},
}
"""Model type → config fields without which its default is no model that transformers can build or run."""


@dataclass(frozen=True)
class Case:
    """One model type as one kind of model; or, with images or sound, as one of `tools.wholes`."""

    kind: Any
    model_type: str


@dataclass(frozen=True)
class Result:
    """What came of a case.

    Attributes:
        kind, model_type: the case.
        outcome: one of `OUTCOMES`.
        why: one short line, "" for what is exact in every step.
        seconds: generating and comparing took so long.

    """

    kind: Any
    model_type: str
    outcome: Outcome
    why: str = ""
    seconds: float = 0.0


def cases(kinds: Iterable[Any] = ("causal", "seq2seq", "masked"), types: Sequence[str] = ()) -> list[Case]:
    """Return a case for every type of transformers' mappings, or for those named."""
    return [
        Case(kind, model_type)
        for kind in kinds
        for model_type in sorted(wholes.classes(kind) if kind in wholes.NAMES else hf.architectures(kind))
        if not types or model_type in types
    ]


# ---- one case


def try_case(case: Case) -> Result:
    """Generate the template of a case and compare it with PyTorch."""
    import torch

    from nbanalyzer.generate.check.samples import UnvariedError
    from nbanalyzer.generate.model.subject import UnrunnableError
    from nbanalyzer.generate.write.template import GapError, build_template

    torch.set_num_threads(1)
    start = time.process_time()

    def result(outcome: Outcome, why: str = "") -> Result:
        return Result(case.kind, case.model_type, outcome, _line(why), round(time.process_time() - start, 1))

    if case.kind in wholes.NAMES:
        return result(*wholes.try_whole(case.kind, case.model_type))
    try:
        subject = shallow(case)
    except Exception as error:  # noqa: BLE001 - the defaults of some configs are no model at all
        return result("not traceable", f"its default config cannot be built: {_said(error)}")
    try:
        template = build_template(subject, f"default/{case.model_type}")
    except GapError as error:
        return result("gaps", str(error).partition(": ")[2])
    except Exception as error:  # noqa: BLE001 - a report has a line for whatever happens
        return result("not traceable", _said(error))
    try:
        different, steps, where = _differences(subject, template)
    except (UnvariedError, UnrunnableError) as error:  # nothing is known to be wrong, nor to be right
        return result("not traceable", _said(error))
    except Exception as error:  # noqa: BLE001
        return result("wrong", _said(error))
    if different:
        return result("wrong", "; ".join(different))
    alone = case.kind != "masked" and steps == 1
    only = "keeps no cache that a step could go on from: only the prefill is compared" if alone else ""
    return result("exact", "; ".join(filter(None, (where, only))))


def shallow(case: Case) -> Subject:
    """Return a type at its default config with as few layers as show every kind, two at least.

    Of a multimodal model it is the text part. A BERT as a causal model is a decoder: only so does it keep a cache.
    """
    from nbanalyzer.generate.trace.depth import shallow as with_few_layers

    subject = Subject.of({"model_type": case.model_type, **VALID.get(case.model_type, {})}, case.kind)
    config = subject.hf_config()
    if any(getattr(config, part, None) for part in TEXT_PARTS):
        fields = config.to_dict()
        kept = ("model_type", "tie_word_embeddings", *TEXT_PARTS)  # the text part alone is meant
        text = Subject.of({name: fields[name] for name in kept if name in fields})
        if text.kind == case.kind:
            subject, config = text, text.hf_config()
    if case.kind == "causal" and getattr(config, "is_decoder", True) is False:
        subject = subject.with_fields({"is_decoder": True})
    return with_few_layers(subject, least=2)[0]


def _differences(subject: Subject, template: Any) -> tuple[list[str], int, str]:
    """Return the numbers of a template that are not PyTorch's, how many steps were compared, and where.

    A model whose code needs data is compared on the CPU, at its own sizes if they are small.
    """
    from nbanalyzer.costs.count import count
    from nbanalyzer.generate.check.comparison import parameters_alone
    from nbanalyzer.generate.check.samples import analysed, runnable
    from nbanalyzer.generate.model.subject import NeedsDataError

    try:
        different, runs = _different_runs(subject, lambda run: count(template, **run))
        return different, runs, ""
    except NeedsDataError as problem:
        others = runnable(subject, problem, _OTHERS)
    mine, pytorch = parameters_alone(template, subject).totals
    different = [] if mine == pytorch else [_different("parameters", mine, pytorch)]
    runs, where = 0, "at its own sizes"
    for other in others:
        more, runs = _different_runs(other, partial(analysed, template, other))
        different += more
        where = where if other.config == subject.config else "at tiny sizes"
    return different, runs, f"traced with tiny sizes on the CPU, and compared there {where}"


def _different_runs(subject: Subject, costs_of: Callable[[Any], Any]) -> tuple[list[str], int]:
    """Return the parameters and matmul FLOPs of a model that are not PyTorch's, and how many runs were compared."""
    from nbanalyzer.generate.check.comparison import comparisons
    from nbanalyzer.generate.model.subject import UnrunnableError

    model = subject.build("eager", "batched_mm")
    # A model that reads sound in its prompt has no encoder of its own: its text part is compared.
    read = {"encoder_len": _READ} if "encoder_len" in costs_of(_RUNS["prefill"]).variables else {}
    compared = comparisons(
        subject, model, {name: {**run, **read} for name, run in _RUNS.items()}, costs_of, traced=False
    )
    different: list[str] = []
    runs: set[str] = set()
    try:
        for comparison in compared:
            mine, pytorch = comparison.totals
            if comparison.metric in {"parameters", "matmul_flops"} and mine != pytorch:
                different.append(_different(comparison.what.replace("_", " "), mine, pytorch))
            runs |= {comparison.run} - {""}
    except UnrunnableError:
        if not runs:
            raise  # later ones transformers cannot do either
    return different, len(runs)


def _different(what: str, mine: Any, pytorch: Any) -> str:
    return f"{what}: {mine:,} in the template, {pytorch:,} by PyTorch"


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, NBAnalyzerError) else f"{type(error).__name__}: {error}"


def _line(text: str) -> str:
    return shorten(" ".join(text.split()), 220)


# ---- all of them


def coverage(
    kinds: Iterable[Any] = ("causal", "seq2seq", "masked"),
    progress: Progress = lambda _result, _done, _all: None,
    *,
    types: Sequence[str] = (),
    jobs: int = 2,
    limit: float = 120,
    results: Path | None = None,
) -> list[Result]:
    """Try every case and return what came of each, in the order of the mappings.

    Args:
        kinds: the mappings to take.
        progress: called with each result, how many there are, and how many there will be.
        types: only these model types; all if empty.
        jobs: processes at a time.
        limit: seconds of processor time for one case.
        results: a JSON-lines file that results are added to; what it already has is not tried again.

    """
    wanted = cases(kinds, types)
    done = {(one.kind, one.model_type): one for one in _read(results)}
    left = [case for case in wanted if (case.kind, case.model_type) not in done]
    total = len(wanted)
    for result in _all(left, jobs, limit):
        done[result.kind, result.model_type] = result
        if results:
            with results.open("a") as file:
                file.write(json.dumps(asdict(result)) + "\n")
        left.remove(Case(result.kind, result.model_type))
        progress(result, total - len(left), total)
    return [done[case.kind, case.model_type] for case in wanted]


def _read(path: Path | None) -> list[Result]:
    if path is None or not path.exists():
        return []
    return [Result(**json.loads(line)) for line in path.read_text().splitlines() if line.endswith("}")]


def _all(left: Iterable[Case], jobs: int, limit: float) -> Iterator[Result]:
    """Yield the results as they come, each from a process that had so many seconds.

    They are seconds of its processor, so that a busy machine finds the same; on the clock it has five times as many.
    """
    context = _context()
    waiting = list(left)
    running: dict[Connection, tuple[Case, Any, float]] = {}
    while waiting or running:
        while waiting and len(running) < max(jobs, 1):
            case = waiting.pop(0)
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(case, theirs, math.ceil(limit)), daemon=True)
            process.start()
            theirs.close()
            running[mine] = (case, process, time.monotonic() + 5 * limit)
        soonest = min(end for _, _, end in running.values())
        for connection in wait(list(running), max(0.0, soonest - time.monotonic())):
            assert isinstance(connection, Connection)
            case, process, _ = running.pop(connection)
            try:
                result = connection.recv()
            except EOFError:
                process.join()
                late = process.exitcode == -getattr(signal, "SIGXCPU", 0)
                why = f"takes more than {limit:.0f} s" if late else "the process died"
                result = Result(case.kind, case.model_type, "not traceable", why, limit)
            process.join()
            yield result
        for connection, (case, process, end) in list(running.items()):
            if time.monotonic() >= end:
                del running[connection]
                process.kill()
                process.join()
                yield Result(case.kind, case.model_type, "not traceable", f"takes more than {limit:.0f} s", limit)


_HEAVY = (
    "torch", "torch._dynamo", "torch.distributed.tensor", "torch.utils.flop_counter", "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto", "transformers.models.gpt2.modeling_gpt2",
    "nbanalyzer.generate.write.template",
)  # fmt: skip
"""What takes seconds to import, once for all cases."""


def _context() -> Any:
    """Return how processes start: where possible, from one that has imported what all of them need."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(list(_HEAVY))
    return context


def _child(case: Case, connection: Connection, limit: int) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    with suppress(ImportError):  # not on Windows, where only the clock counts
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):  # models' advice on their own defaults
        result = try_case(case)
    connection.send(result)


# ---- the report


def report(results: Sequence[Result]) -> str:
    """Return the results as Markdown: totals of each mapping, then one line for each type."""
    lines = [
        "# Coverage",
        "",
        "Every model type of these mappings of transformers, at its default config, made shallow but with layers of",
        "every kind (where transformers can build or run no default, with the fields of `VALID`): a template is",
        "generated by tracing and compared with PyTorch in parameters and in matmul FLOPs of a prefill (2 × 70",
        "tokens), a continuation (16 more) and a decode step.",
        f"transformers {version('transformers')}, torch {version('torch').partition('+')[0]}.",
        "`python -m tools.coverage` writes this page.",
        "",
        "- **exact**: all equal. Where the code of a model needs data, it is run on the CPU: where it says tiny sizes,",
        "  the parameters are equal at the default sizes too, FLOPs were not compared there.",
        "- **gaps**: a size that no formula was found for, the first one met; there is no template then.",
        "- **wrong**: a number that differs; a template like this is never written.",
        "- **not traceable**: transformers itself cannot build or run the default config, what it costs depends on the",
        "  data, or it took too long.",
        "",
        "Models of images and sound are compared as wholes in mappings of their own, where those were tried, in all",
        "that `%generate` compares; else it is their text part ([multimodal.md](multimodal.md)).",
        "",
        f"| mapping | types | {' | '.join(OUTCOMES)} |",
        f"|---|{'---|' * (len(OUTCOMES) + 1)}",
    ]
    kinds = list(dict.fromkeys(one.kind for one in results))
    for kind in kinds:
        count = Counter(one.outcome for one in results if one.kind == kind)
        lines.append(f"| {kind} | {count.total()} | {' | '.join(str(count[outcome]) for outcome in OUTCOMES)} |")
    for kind in kinds:
        lines += ["", f"## {kind}", "", "| type | outcome | why |", "|---|---|---|"]
        lines += [f"| {one.model_type} | {one.outcome} | {_why(one)} |" for one in results if one.kind == kind]
    return "\n".join(lines) + "\n"


_NOT_READ = "how it reads images or sound is not known"
BEHIND: Mapping[str, tuple[str, str]] = {
    "blt": ("num_hidden_layers", "transformers itself makes no cache for it: BltConfig has no num_hidden_layers"),
    "dory": ("no formula found", "some layers run several times, which a model of its first few layers does not show"),
    "evolla": (_NOT_READ, "it reads proteins beside text, and no row of reading.py says how"),
    "glm5_next": (_NOT_READ, "its indexer reads from its cache, beside each key, whether the token is padding"),
    "mra": ("Expected gradient function", "without a CUDA kernel of its own, transformers gives zeros for attention"),
    "udop": (_NOT_READ, "the boxes of words decide which patches are read"),
}
"""Model type → what is part of the message that it fails with, and what is behind it."""


def _why(one: Result) -> str:
    message, reason = BEHIND.get(one.model_type, ("", ""))
    return _escaped(reason if message and message in one.why else one.why)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("{", "&#123;")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.coverage", description=__doc__)
    parser.add_argument("types", nargs="*", help="model types (default: all)")
    parser.add_argument("--kind", action="append", choices=[*KINDS, *wholes.NAMES], help="mapping (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--limit", type=float, default=120, help="seconds for one type")
    parser.add_argument("--results", type=Path, help="JSON-lines file to go on from")
    parser.add_argument("--output", type=Path, help="Markdown page (default: docs/coverage.md for all types)")
    given = parser.parse_args(arguments)

    def show(one: Result, done: int, total: int) -> None:
        line = f"{done}/{total} {one.kind} {one.model_type}: {one.outcome}, {one.seconds:.1f} s"
        sys.stdout.write(f"{line}: {one.why}\n" if one.why else f"{line}\n")
        sys.stdout.flush()

    kinds: Sequence[Any] = given.kind or ("causal", "seq2seq", "masked", *wholes.NAMES)
    results = coverage(kinds, show, types=given.types, jobs=given.jobs, limit=given.limit, results=given.results)
    output = given.output or (None if given.types or given.kind else Path("docs/coverage.md"))
    if output:
        with tempfile.NamedTemporaryFile("w", dir=output.parent, delete=False) as file:
            file.write(report(results))
        Path(file.name).replace(output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
