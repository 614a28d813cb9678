"""Writes ``models/*/*.json`` anew: traced from the real models, shared where they are built alike, and checked.

The config in each file is the source; everything else follows from it. A template that says ``extends`` has no
kernels of its own. A new model is a file with just ``model_id`` and ``config``: it extends a model of the same
type if that is right for it, or gets kernels of its own. What fails its check is not written. An interrupted run
goes on where it stopped.

Run as ``python -m tools.catalog [--check | --verify] [model …]``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

import nbanalyzer
from nbanalyzer.errors import InputError, NBAnalyzerError, TemplateError, UnknownNameError
from nbanalyzer.files import write_whole
from nbanalyzer.templates import library
from nbanalyzer.templates.quantisation import stated_in
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.templates.template_files import encode, load_model_template, save_template

__all__ = ["Outcome", "main", "regenerate"]

Templates = Mapping[str, ModelTemplate]
JOURNAL = "catalog.jsonl"


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        model_id: the model's name.
        seconds: how long it took.
        mebibytes: the most memory that its process had needed by then.
        result: ``"unchanged"``, ``"changed"`` (written, unless only checking) or a problem.
        content: SHA-256 of the file.

    """

    model_id: str
    seconds: float
    mebibytes: int
    result: str
    content: str = ""

    @property
    def failed(self) -> bool:
        """Whether the model did not pass its check."""
        return self.result not in {"unchanged", "changed"}


def regenerate(template: ModelTemplate, bases: Templates) -> ModelTemplate:
    """Return the template as it should be written, see `_anew`; how its weights are stored is as it was."""
    fresh = _anew(template, bases)
    return msgspec.structs.replace(fresh, config={**fresh.config, **stated_in(template.config)})


def _anew(template: ModelTemplate, bases: Templates) -> ModelTemplate:
    """Return the template as it should be written, its provenance saying what was checked.

    Args:
        template: as it is now.
        bases: the templates of other models that it may extend, by id.

    Raises:
        NBAnalyzerError: its config cannot be built, or what was generated differs from PyTorch.

    """
    from nbanalyzer.generate.check.equality import checked
    from nbanalyzer.generate.model.subject import Subject
    from nbanalyzer.generate.write.template import build_template
    from tools.validity import validity_of
    from tools.whole_validity import validity_of_whole

    subject = Subject.of(template.config)
    notes = {name: value for name, value in template.provenance.items() if name == "config"}
    if template.extends:
        return _extending(template, bases[template.extends], subject, notes)
    if not template.kernels:  # a new model
        for base in bases.values():
            if base.config.get("model_type") == template.config.get("model_type"):
                with suppress(NBAnalyzerError):
                    return _extending(template, base, subject, notes)
    fresh = build_template(subject, template.model_id)
    fresh, record = checked(fresh, subject)
    valid_for = (validity_of if fresh.reads is None else validity_of_whole)(fresh, subject)
    return msgspec.structs.replace(fresh, valid_for=valid_for, provenance={**notes, **fresh.provenance, **record})


def _extending(template: ModelTemplate, base: ModelTemplate, subject: Any, notes: Mapping[str, Any]) -> ModelTemplate:
    from nbanalyzer.generate.check.equality import check
    from nbanalyzer.generate.write.template import stated
    from tools.whole_validity import validity_of_another

    kept = {name: base.provenance[name] for name in ("attention",) if name in base.provenance}
    whole = msgspec.structs.replace(
        template,
        architecture=base.architecture,
        extends="",
        module="",
        bindings={},
        state=base.state,
        kernels=base.kernels,
        reads=base.reads,
        provenance=kept,
    )
    whole = stated(whole, subject)
    record = check(whole, subject)
    known = base.valid_for
    valid_for = validity_of_another(whole, subject, known) if base.reads is not None and known is not None else known
    return msgspec.structs.replace(
        whole,
        extends=base.model_id,
        state={},
        kernels=(),
        reads=None,
        valid_for=None if valid_for == known else valid_for,
        provenance={**notes, **kept, **record},
    )


# ---- one file, in a process of its own


def _process(paths: Sequence[Path], bases: Templates, write: bool) -> list[tuple[Outcome, ModelTemplate | None]]:
    """Bring files up to date, one after the other; a new one may extend one before it."""
    import torch

    torch.set_num_threads(1)
    known = dict(bases)
    found: list[tuple[Outcome, ModelTemplate | None]] = []
    for path in paths:
        start = time.perf_counter()
        model_id = f"{path.parent.name}/{path.stem}"
        fresh: ModelTemplate | None = None
        content = b""
        try:
            template = load_model_template(path)
            if model_id != template.model_id:
                raise TemplateError(f"the file of {template.model_id!r} has another name", str(path))
            fresh = regenerate(template, known)
            content = encode(fresh)
            result = "unchanged" if content == path.read_bytes() else "changed"
            if write and result == "changed":
                save_template(fresh, path)
            if not fresh.extends:
                known[model_id] = fresh
        except (NBAnalyzerError, OSError) as error:
            result = str(error)
        except Exception as error:  # noqa: BLE001 - whatever a model's code raises must not stop the others
            result = f"{type(error).__name__}: {' '.join(str(error).split())}"
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        digest = hashlib.sha256(content).hexdigest() if content else ""
        found.append((Outcome(model_id, time.perf_counter() - start, memory, result, digest), fresh))
    return found


def _verify(path: Path) -> Outcome:
    """Check a file as it is against PyTorch."""
    import torch

    from nbanalyzer.generate.check.equality import MismatchError, check, checked_under
    from nbanalyzer.templates.catalog import completed

    torch.set_num_threads(1)
    start = time.perf_counter()
    model_id = f"{path.parent.name}/{path.stem}"
    try:
        template = completed(load_model_template(path))
        check(template)
        result = _of_a_rank(template) or "unchanged"
    except MismatchError as error:
        release = checked_under(template, _prefill_of(template) | {error.what: error.template})
        result = f"transformers changed this model since {release}: {error}" if release else str(error)
    except (NBAnalyzerError, OSError) as error:
        result = str(error)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return Outcome(model_id, time.perf_counter() - start, memory, result)


def _of_a_rank(template: ModelTemplate) -> str:
    """Return how a rank of two differs from transformers', "" if it does not, or is not divided by two at all."""
    from nbanalyzer.generate.check.ranks import UnsharedError
    from nbanalyzer.generate.check.verification import verify

    if not template.sharding:
        return ""
    try:
        found = verify(template, tp=2)
    except (InputError, UnsharedError):  # heads that do not divide
        return ""
    return "" if found.ok else f"a rank of two: {' '.join(str(found.differences[0]).split())}"


def _prefill_of(template: ModelTemplate) -> dict[str, float]:
    """Return a prefill's numbers by a template, by their names in the provenance."""
    from nbanalyzer.costs.count import count
    from nbanalyzer.generate.check.runs import RUNS

    runs = template.provenance.get("runs")
    run = runs.get("prefill", RUNS["prefill"]) if isinstance(runs, Mapping) else RUNS["prefill"]
    totals = count(template, **run).totals
    return {"parameters": totals["parameters"]} | {f"prefill_{name}": value for name, value in totals.items()}


# ---- all of them


def _fingerprint() -> str:
    """Return what the templates depend on besides their configs: this code, the module templates, the libraries."""
    digest = hashlib.sha256(f"{version('transformers')} {version('torch')}".encode())
    package = Path(nbanalyzer.__file__).parent
    for file in sorted([*package.rglob("*.py"), *Path(str(library.folder("modules"))).glob("*.json")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()


class _Journal:
    """What an interrupted run had finished, so that the next one need not do it again."""

    def __init__(self, file: Path) -> None:
        self.file, self.mark = file, _fingerprint()
        self.lines: list[dict[str, Any]] = []
        with suppress(OSError, ValueError):
            for line in file.read_text().splitlines():
                entry = json.loads(line)
                if isinstance(entry, dict) and entry.get("mark") == self.mark:
                    self.lines.append(entry)

    def done(self, path: Path) -> bool:
        """Return whether this file was finished, and is still as it was written."""
        name = f"{path.parent.name}/{path.stem}"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return any(entry.get("model_id") == name and entry.get("content") == digest for entry in self.lines)

    def add(self, outcome: Outcome) -> None:
        """Note a file that is finished."""
        self.lines.append({"mark": self.mark, **asdict(outcome)})
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.file, "".join(json.dumps(entry) + "\n" for entry in self.lines).encode())

    def close(self) -> None:
        """Forget all: the run is complete."""
        self.file.unlink(missing_ok=True)


def _stages(paths: Sequence[Path]) -> tuple[list[Path], list[list[Path]]]:
    """Return the files that others extend or may extend, then the rest; new ones of a type stay together."""
    first: list[Path] = []
    rest: dict[str, list[Path]] = {}
    for path in paths:
        template = load_model_template(path)
        if template.kernels and not template.extends:
            first.append(path)
        else:
            alone = template.model_id if template.extends else f"new {template.config.get('model_type')}"
            rest.setdefault(alone, []).append(path)
    return first, list(rest.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerate the catalogue, or the models named; 1 if one fails, or with ``--check`` would change."""
    parser = argparse.ArgumentParser(prog="python -m tools.catalog", description=main.__doc__)
    parser.add_argument("models", nargs="*", metavar="model", help="org/name; all of them if none is given")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where a file would change")
    parser.add_argument("--verify", action="store_true", help="only check the files as they are against PyTorch")
    parser.add_argument("--folder", type=Path, default=Path(str(library.folder("models"))), help="where they are")
    parser.add_argument("--journal", type=Path, default=Path("build") / JOURNAL, help="what to resume from")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; as many as cores")
    options = parser.parse_args(arguments)

    paths = {f"{path.parent.name}/{path.stem}": path for path in sorted(options.folder.glob("*/*.json"))}
    for name in options.models:
        if name not in paths:
            parser.error(str(UnknownNameError("model", name, paths)))
    chosen = [paths[name] for name in options.models or paths]
    start = time.perf_counter()
    os.environ["PYTHONHASHSEED"] = "0"  # some models go through a set: its order becomes that of the kernels
    spawn = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(max(1, min(options.jobs, len(chosen))), mp_context=spawn) as pool:
        if options.verify:
            outcomes = [_shown(done.result()) for done in as_completed([pool.submit(_verify, path) for path in chosen])]
        else:
            try:
                outcomes = list(_regenerated(pool.submit, chosen, paths, options))
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                print("interrupted: what is finished is written, the next run goes on from here")
                return 130
    return _summary(outcomes, time.perf_counter() - start, checking=options.check, verifying=options.verify)


def _regenerated(
    submit: Callable[..., Future[Any]], chosen: Sequence[Path], paths: Mapping[str, Path], options: argparse.Namespace
) -> Iterator[Outcome]:
    journal = _Journal(options.journal)
    skipped = [path for path in chosen if not options.check and journal.done(path)]
    if skipped:
        print(f"{len(skipped)} models were finished by the run before, which was interrupted")
    first, rest = _stages([path for path in chosen if path not in skipped])
    needed = {load_model_template(path).extends for group in rest for path in group} - {""}
    bases = {name: load_model_template(paths[name]) for name in paths if name in needed or rest}
    bases = {name: base for name, base in bases.items() if base.kernels and not base.extends}
    failed = False
    for groups in ([[path] for path in first], rest):
        for future in as_completed([submit(_process, group, bases, not options.check) for group in groups]):
            for outcome, template in future.result():
                failed = failed or outcome.failed
                if template and not template.extends:
                    bases[outcome.model_id] = template
                if not outcome.failed and not options.check:
                    journal.add(outcome)
                yield _shown(outcome, checking=options.check)
    if not failed:
        journal.close()


def _shown(outcome: Outcome, *, checking: bool = False) -> Outcome:
    result = "would change" if checking and outcome.result == "changed" else outcome.result
    print(f"{outcome.model_id:<46} {outcome.seconds:5.1f} s  {outcome.mebibytes:5} MiB  {result}", flush=True)
    return outcome


def _summary(outcomes: Sequence[Outcome], seconds: float, *, checking: bool, verifying: bool) -> int:
    changed = sum(outcome.result == "changed" for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    what = "equal PyTorch" if verifying else f"{changed} {'would change' if checking else 'changed'}"
    count = len(outcomes) - failed if verifying else len(outcomes)
    print(f"{count} models{' ' if verifying else ', '}{what}, {failed} failed, {seconds:.1f} s")
    if outcomes:
        times = sorted(outcome.seconds for outcome in outcomes)
        memory = max(outcome.mebibytes for outcome in outcomes)
        print(
            f"a model: median {statistics.median(times):.1f} s, longest {times[-1]:.1f} s; memory at most {memory} MiB"
        )
    return int(bool(failed or (checking and changed)))


if __name__ == "__main__":
    sys.exit(main())
