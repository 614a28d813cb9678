"""What real configs meet: nbanalyzer's numbers beside those of the class that each config names, built by PyTorch.

    python -m tools.field FOLDER... --work build/field
    python -m tools.field models --changed 2 --work build/field

The folders hold config files, or templates, whose configs are taken. Nothing of nbanalyzer is used for the truth:
transformers builds the model on the meta device, PyTorch counts it. Every answer has a time limit, and lands in
``WORK/field.tsv``; a ranking of outcomes and reasons is printed. Truths are kept in ``WORK/truths``, for the next run.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import json
import multiprocessing
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, TextIO

from tools.changes import changed, class_fields, with_changes
from tools.outcomes import BUG, OVER_TIME, Answer, Count, Outcome, Truth, classified, ranked

SEQ_LEN = 128
"""Tokens of the prefill that is compared; an encoder reads as many."""

LIMIT = 300
"""Seconds for one answer."""

SILENCE = 60
"""Seconds of one answer beyond which a person gives up."""

NOT_UNDERSTOOD = "this program fails"
"""How the problem of a truth begins that is no fact about the config."""


# ---- one case after another


@dataclass(frozen=True)
class Case:
    """A config file under test.

    Attributes:
        name: of the file, and of the change.
        config: its content, None if it is no JSON object.
        path: where it lies.
        changes: what was changed, in words.

    """

    name: str
    config: Mapping[str, Any]
    path: Path
    changes: str = ""


def cases(folders: Iterable[Path], number: int, seed: int, work: Path) -> Iterator[Case]:
    """Yield what is to be measured: the configs in the folders, or `number` changes of each."""
    for folder in folders:
        for path in sorted(folder.rglob("*.json") if folder.is_dir() else [folder]):
            name = str(path.relative_to(folder).with_suffix("")) if folder.is_dir() else path.stem
            content = _content(path)
            is_template = "kernels" in content or "extends" in content
            config = content["config"] if is_template else content
            if is_template and content.get("architecture"):
                config = {"architectures": [content["architecture"]], **config}
            if not number:
                yield Case(name, config, path) if not is_template else _written(name, config, work)
                continue
            defaults, types = class_fields(config)
            for turn in range(number):
                changes = changed(config, defaults, types, Random(f"{seed} {name} {turn}"))  # noqa: S311 - no secret
                if changes:
                    yield _written(f"{name}~{turn}", with_changes(config, changes), work, json.dumps(changes))


def _content(path: Path) -> dict[str, Any]:
    """Return the object in a file, empty if there is none: people have other things under that name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _written(name: str, config: Mapping[str, Any], work: Path, changes: str = "") -> Case:
    path = work / "configs" / f"{name.replace('/', '__')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
    return Case(name, config, path, changes)


# ---- inside a worker


def answer_for(path: str) -> Answer:
    """Return what nbanalyzer says of a config file."""
    import nbanalyzer

    wall, cpu = time.perf_counter(), time.process_time()
    try:
        found = nbanalyzer.populate(path, seq_len=SEQ_LEN)
        totals = found.totals
        told = {
            "count": Count(int(totals["parameters"]), int(totals["matmul_flops"])),
            "architecture": found.template.architecture,
            "first_line": str(found).splitlines()[0],
            "says": " | ".join((*found.notes, *found.warnings)),
        }
    except nbanalyzer.NBAnalyzerError as error:
        told = {"error": str(error), "kind": type(error).__name__}
    except Exception as error:  # noqa: BLE001 - a bug, to be reported
        told = {"error": f"{type(error).__name__}: {error}", "kind": BUG}
    return Answer(**told, wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)  # type: ignore[arg-type]


def truth_for(path: str, named: str = "") -> Truth:
    """Return what PyTorch counts for the class that a config file names."""
    from tools.truth import truth  # it needs torch

    return truth(_content(Path(path)), SEQ_LEN, named)


def _work(connection: Any, templates: str) -> None:
    os.environ |= {
        "NBANALYZER_CACHE": templates, "HF_HUB_OFFLINE": "1", "PYTORCH_JIT": "0", "TRANSFORMERS_VERBOSITY": "critical",
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    tasks: dict[str, Callable[..., Answer | Truth]] = {"answer": answer_for, "truth": truth_for}
    with (
        Path(os.devnull).open("w") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        import torch
        import transformers  # noqa: F401 - not a part of anyone's time

        torch.set_num_threads(1)
        connection.send(None)
        while job := connection.recv():
            what, *rest = job
            try:
                connection.send(tasks[what](*rest))
            except Exception as error:  # noqa: BLE001 - a config that this program does not understand
                connection.send(Truth(problem=f"{NOT_UNDERSTOOD}: {type(error).__name__}: {error}"))


class Worker:
    """A process that gives answers, and is ended and begun anew where one takes too long."""

    def __init__(self, templates: Path) -> None:
        self.templates = templates
        self._begin()

    def _begin(self) -> None:
        self.connection, other = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(other, str(self.templates)), daemon=True
        )
        self.process.start()
        other.close()
        self.connection.recv()

    def ask(self, *job: str) -> Any:
        """Return the answer to a job, None if there is none within the limit or the process ended."""
        self.connection.send(job)
        try:
            if self.connection.poll(LIMIT):
                return self.connection.recv()
        except EOFError:
            pass
        self.end()
        self._begin()
        return None

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def measured(case: Case, worker: Worker, work: Path) -> tuple[Answer, Truth, Truth | None]:
    """Return nbanalyzer's answer, the truth, and the truth of the class that was counted if it is another."""
    answer = worker.ask("answer", str(case.path)) or Answer(
        error=f"no answer within {LIMIT} s", kind=OVER_TIME, wall=LIMIT, cpu=LIMIT
    )
    truth, other = _truth(case, worker, work, ""), None
    if answer.count and truth.whole and answer.architecture != truth.architecture:
        other = _truth(case, worker, work, answer.architecture)
    return answer, truth, other


def _truth(case: Case, worker: Worker, work: Path, named: str) -> Truth:
    """Return the truth, from the kept ones if it is there."""
    text = json.dumps([case.config, *_versions(), SEQ_LEN, named], sort_keys=True)
    kept = work / "truths" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
    if kept.exists():
        stored = json.loads(kept.read_text(encoding="utf-8"))
        counts = {name: stored[name] and Count(**stored[name]) for name in ("whole", "text")}
        return Truth(**{**stored, **counts})
    found: Truth = worker.ask("truth", str(case.path), named) or Truth(problem=f"no truth within {LIMIT} s")
    if not found.problem.startswith(NOT_UNDERSTOOD):
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(asdict(found)), encoding="utf-8")
    return found


def _versions() -> list[str]:
    from importlib.metadata import version

    code = (Path(__file__).parent / "truth.py").read_bytes()
    return [version("torch"), version("transformers"), hashlib.sha256(code).hexdigest()]


COLUMNS = (
    "name", "model_type", "outcome", "reason", "parameters", "flops", "true_parameters", "true_flops", "counted",
    "named", "wall", "cpu", "changes", "first_line", "says", "problem",
)  # fmt: skip


def row(case: Case, answer: Answer, truth: Truth, other: Truth | None) -> dict[str, object]:
    """Return a line of the table."""
    outcome = classified(answer, truth, other)
    ours, theirs = answer.count, truth.whole
    return {
        "name": case.name, "model_type": case.config.get("model_type", ""), "outcome": outcome.kind,
        "reason": outcome.reason, "parameters": ours and ours.parameters, "flops": ours and ours.flops,
        "true_parameters": theirs and theirs.parameters, "true_flops": theirs and theirs.flops,
        "counted": answer.architecture, "named": truth.architecture, "wall": f"{answer.wall:.1f}",
        "cpu": f"{answer.cpu:.1f}", "changes": case.changes, "first_line": answer.first_line, "says": answer.says,
        "problem": truth.problem,
    }  # fmt: skip


def report(rows: list[dict[str, object]], to: TextIO) -> None:
    """Print the ranking."""
    total = len(rows)
    print(f"\n{total} configs", file=to)
    for kind, number in Counter(str(one["outcome"]) for one in rows).most_common():
        print(f"  {number:4} {number / total:6.1%}  {kind}", file=to)
    pairs = [(str(one["name"]), Outcome(one["outcome"], str(one["reason"]))) for one in rows]  # type: ignore[arg-type]
    for kind in ("wrong", "over time", "unproven", "refused", "no model"):
        for found, reason, names in ranked(pairs):
            if found == kind:
                print(f"{kind:9} {len(names):4}  {reason}\n{'':16}{' '.join(names[:8])}", file=to)
    slow = sorted(rows, key=lambda one: -float(str(one["wall"])))
    print(
        f"\nslowest (wall, CPU in s); above {SILENCE} s: {sum(float(str(o['wall'])) > SILENCE for o in rows)}", file=to
    )
    for one in slow[:12]:
        print(f"  {one['wall']:>7} {one['cpu']:>7}  {one['name']}  {one['outcome']}", file=to)


def main() -> int:
    """Measure what the command line names; return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="folders of config files, or of templates")
    parser.add_argument("--work", type=Path, default=Path("build/field"), help="where results and caches lie")
    parser.add_argument(
        "--changed", type=int, default=0, metavar="N", help="N changes of each config instead of itself"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the changes")
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    parser.add_argument("--only", default="", help="configs whose names match this regular expression")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    work = [
        case
        for case in cases(options.folders, options.changed, options.seed, options.work)
        if re.search(options.only, case.name)
    ]
    Random(options.seed).shuffle(work)  # noqa: S311 - so that what comes first is of all kinds
    rows: list[dict[str, object]] = []
    path = options.work / "field.tsv"
    lock = threading.Lock()
    queue = iter(work)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        table.writeheader()

        def run() -> None:
            worker = Worker(options.work / "templates")
            while True:
                with lock:
                    case = next(queue, None)
                if case is None:
                    break
                one = row(case, *measured(case, worker, options.work))
                with lock:
                    rows.append(one)
                    table.writerow(one)
                    file.flush()
                    line = f"{case.name}: {one['outcome']} {one['reason']}"
                    print(f"{len(rows)}/{len(work)} {one['wall']:>6} s  {line[:160]}", flush=True)
            worker.end()

        threads = [threading.Thread(target=run) for _ in range(options.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    report(rows, sys.stdout)
    return int(any(one["outcome"] == "wrong" for one in rows))


if __name__ == "__main__":
    sys.exit(main())
