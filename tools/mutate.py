"""Mutation testing: change one operator or constant of the code, and see whether a test fails.

The mutants are those of cosmic-ray's operators that ``[tool.mutate]`` in pyproject.toml names, in the files of its
rooms. Each runs in a copy of the project under ``build/mutate``, in a forked process that has the libraries loaded
already, against those tests of its room that run the changed statement, the fastest first, until one fails: at first
the quick ones, those of `make check`, and what survives them against all others, the slow ones included.

    make mutate                                     every mutant: hours
    make mutate MUTATE="--sample 60 --seed 1"       as many of each room, drawn with that seed
    make mutate MUTATE="costs --sample 60"          of one room
    make mutate MUTATE="--again"                    what survived the last time

Mutants that no test can tell from the code are listed in tools/equivalent.toml, with the reason, and not counted.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import hashlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Literal

import coverage
import pytest

from tools.mutants import Mutant, changed, lines_of, mutants, reason_for, stale

__all__ = ["Covered", "Result", "Room", "main", "report", "statement"]

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "mutate"
LIBRARIES = (
    "numpy", "sympy", "pandas", "matplotlib.figure", "hypothesis", "IPython", "msgspec", "torch",
    "transformers.models.gpt2.configuration_gpt2", "transformers.models.llama.configuration_llama",
)  # fmt: skip
"""Loaded before the first fork, so that no mutant waits for them; nbanalyzer is not among them."""
MEMORY = 16 * 2**30  # bytes of address space: a mutant may compute without end
MARKERS = "not (pytorch or browser or cluster)"
PYTEST = ("-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-m", MARKERS)

Outcome = Literal["killed", "survived", "equivalent"]


@dataclass(frozen=True)
class Room:
    """Files whose mutants are counted together, and the tests that should notice them."""

    name: str
    files: tuple[str, ...]
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """What came of a mutant; `before` and `after` are the changed lines, without their indentation.

    `quick` says of a killed one that the quick tests were enough.
    """

    room: str
    mutant: Mutant
    before: str
    after: str
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0
    quick: bool = True


def rooms(configuration: dict[str, Any]) -> list[Room]:
    """Return the rooms of ``[tool.mutate]``."""
    return [
        Room(name, tuple(sorted(_globbed(room["files"]))), tuple(room["tests"]))
        for name, room in configuration["rooms"].items()
    ]


def _globbed(patterns: Iterable[str]) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)}


# ---- which tests run a statement


@dataclass(frozen=True)
class Covered:
    """What the tests of the unchanged code do: the processor's seconds of each, file → line → tests, and the slow ones.

    A line that runs while the tests are loaded, before any of them, is run by all.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]
    slow: set[str]

    def tests(
        self, mutant: Mutant, source: str, folders: Sequence[str], budget: float, *, but: Sequence[str] | None = None
    ) -> list[str]:
        """Return the tests in `folders` that run the mutant's statement, for `budget` seconds.

        The quick ones, or with `but` all others than these, slow ones too. The fastest come first; of a statement that
        all run, as a constant of the file is, the file's own tests.
        """
        lines = self.lines[mutant.file]
        names = {test for line in statement(source, mutant.line) for test in lines.get(line, [])}
        own = f"test_{Path(mutant.file).name}::"
        by_all = "" in names
        left_out = self.slow if but is None else set(but)
        here = [
            test
            for test in (self.seconds if by_all else names)
            if test in self.seconds and test not in left_out and test.startswith(tuple(folders))
        ]
        here.sort(key=lambda test: (by_all and own not in test, self.seconds[test]))
        ends = accumulate(map(self.seconds.__getitem__, here))
        return [test for test, end in zip(here, ends, strict=True) if end < budget]


def statement(source: str, line: int) -> range:
    """Return the lines of the innermost statement around a line; of a compound one, those before its body."""
    around = [
        range(node.lineno, (body[0].lineno if (body := getattr(node, "body", None)) else (node.end_lineno or 0) + 1))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt)
    ]
    return min((lines for lines in around if line in lines), key=len, default=range(line, line + 1))


class _Contexts:
    """A pytest plugin: coverage by test, each from a cold start, how long each takes, and which are marked slow."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured = measured
        self.seconds: dict[str, float] = {}
        self.slow: list[str] = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        _forget()
        if item.get_closest_marker("slow"):
            self.slow.append(item.nodeid)
        self.measured.switch_context(item.nodeid)
        begin = time.process_time()
        result = yield
        self.seconds[item.nodeid] = time.process_time() - begin
        return result


def _forget() -> None:
    """Empty the package's caches: what the tests before have computed, the next one runs again."""
    for name, module in list(sys.modules.items()):
        if name.startswith("nbanalyzer"):
            for member in list(vars(module).values()):
                with suppress(AttributeError, TypeError):
                    member.cache_clear()


def covered(chosen: Sequence[Room], copy: Path) -> Covered:
    """Return what the tests of these rooms run of the unchanged code, by file of tests.

    A file is measured again, in a process of its own, once it or the package has changed, or other rooms are asked for.
    """
    files = sorted({file for room in chosen for file in room.files})
    stored = FOLDER / "covered.json"
    known: dict[str, Any] = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else {}
    package = _digest(sorted((copy / "nbanalyzer").rglob("*.py"))) + _digest(copy / file for file in files)
    found = Covered({}, defaultdict(lambda: defaultdict(list)), set())
    for file in sorted({file for room in chosen for file in _tests_in(copy, room.tests)}):
        digest = package + _digest([copy / file])
        if known.get(file, {}).get("digest") != digest:
            known[file] = {"digest": digest, **_measured(file, copy, files)}
            stored.write_text(json.dumps(known), encoding="utf-8")
        found.seconds.update(known[file]["seconds"])
        found.slow.update(known[file]["slow"])
        for path, lines in known[file]["lines"].items():
            for line, tests in lines.items():
                found.lines[path][int(line)] += tests
    return found


def _digest(paths: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def _tests_in(copy: Path, places: Iterable[str]) -> Iterator[str]:
    for place in places:
        paths = (copy / place).glob("test_*.py") if (copy / place).is_dir() else [copy / place]
        yield from (path.relative_to(copy).as_posix() for path in paths)


def _measured(file: str, copy: Path, files: Sequence[str]) -> dict[str, Any]:
    target, log = FOLDER / "measured.json", FOLDER / "measured.log"

    def measure() -> int:
        measured = coverage.Coverage(data_file=None, include=[str(copy / one) for one in files], config_file=False)
        contexts = _Contexts(measured)
        measured.start()
        code = pytest.main([*PYTEST, "--tb=short", file], plugins=[contexts])
        measured.stop()
        data = measured.get_data()
        lines = {
            Path(path).relative_to(copy).as_posix(): data.contexts_by_lineno(path) for path in data.measured_files()
        }
        told = {"seconds": contexts.seconds, "slow": contexts.slow, "lines": lines}
        target.write_text(json.dumps(told), encoding="utf-8")
        return 0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else int(code)

    if _forked(measure, copy, limit=3600, log=log) != 0:
        raise SystemExit(f"the tests fail without any mutant, see {log}")
    found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    return found


# ---- running one


def _forked(work: Callable[[], int], copy: Path, *, limit: float, log: Path) -> int | None:
    """Return the exit code of `work`, done in the copy by a process of its own; None past `limit` seconds."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            os.chdir(copy)
            sys.path.insert(0, str(copy))
            sys.dont_write_bytecode = True
            output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(output, stream)
            code = work()
        except BaseException:  # noqa: BLE001 - it ends here, whatever it was
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


class _Chosen:
    """A pytest plugin: only these tests, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.place = {test: place for place, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.place), key=lambda item: self.place[item.nodeid]
        )


def is_killed(mutant: Mutant, text: str, tests: Sequence[str], limit: float, copy: Path) -> bool:
    """Return whether one of the tests fails, or does not end in time, with `text` in the mutant's file.

    Time is the processor's: on a busy machine a mutant does not look killed.
    """

    def test() -> int:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 1))
        files = sorted({test.partition("::")[0] for test in tests})
        return int(pytest.main([*PYTEST, "--tb=line", *files], plugins=[_Chosen(tests)]))

    if not tests:
        return False
    path = copy / mutant.file
    source = path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    try:
        return _forked(test, copy, limit=20 * limit, log=FOLDER / "mutant.log") != 0
    finally:
        path.write_text(source, encoding="utf-8")


# ---- all together


def copied() -> Path:
    """Return a fresh copy of the project, whose files may be changed; compiled once."""
    copy = FOLDER / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    compileall.compile_dir(copy, quiet=2)  # once: the processes of the mutants write no bytecode
    return copy


def drawn(room: Room, operators: Sequence[str], sample: int | None, seed: int) -> Iterator[tuple[Mutant, str, str]]:
    """Yield the room's mutants with the file's text and the changed one; with `sample` as many, drawn with `seed`."""
    sources = {file: (ROOT / file).read_text(encoding="utf-8") for file in room.files}
    found = [mutant for file, source in sources.items() for mutant in mutants(file, source, operators)]
    if sample is not None:
        random.Random(f"{seed} {room.name}").shuffle(found)  # noqa: S311 - a sample, no secret
    texts = ((mutant, sources[mutant.file], changed(mutant, sources[mutant.file])) for mutant in found)
    yield from islice(((mutant, source, text) for mutant, source, text in texts if text is not None), sample)


def tried(
    room: Room, mutant: Mutant, source: str, text: str, known: Covered, budget: float, whole: float, copy: Path
) -> Result:
    """Return what comes of a mutant: listed as equivalent, or run against its tests.

    `budget` seconds of the quick ones, and if it survives them, `whole` seconds of all others.
    """
    before, after = lines_of(source, text)
    if reason := reason_for(mutant, before, after):
        return Result(room.name, mutant, before, after, "equivalent", reason)
    begin = time.monotonic()

    def kill(tests: Sequence[str]) -> bool:
        return is_killed(mutant, text, tests, 10 + 5 * sum(known.seconds[test] for test in tests), copy)

    tests = known.tests(mutant, source, room.tests, budget)
    quick = kill(tests)
    killed = quick or kill(known.tests(mutant, source, room.tests, whole, but=tests))
    outcome: Outcome = "killed" if killed else "survived"
    return Result(room.name, mutant, before, after, outcome, "", round(time.monotonic() - begin, 2), quick)


def report(results: Sequence[Result]) -> str:
    """Return a table of the rooms and the list of survivors, as Markdown.

    The score says what all tests notice; the quick one, what those of `make check` do within their seconds.
    """
    head = ("room", "mutants", "killed", "by a quick test", "survived", "equivalent", "quick score", "score")
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    names = list(dict.fromkeys(result.room for result in results))
    for name in (*names, "together"):
        here = [result for result in results if name in {result.room, "together"}]
        counts = Counter(result.outcome for result in here)
        killed, survived = counts["killed"], counts["survived"]
        quick = sum(result.outcome == "killed" and result.quick for result in here)
        scores = (f"{100 * part / (killed + survived):.1f} %" if killed + survived else "" for part in (quick, killed))
        numbers = (counts.total(), killed, quick, survived, counts["equivalent"])
        lines.append(f"| {name} | {' | '.join(map(str, (*numbers, *scores)))} |")
    survivors = [result for result in results if result.outcome == "survived"]
    lines += ["", "Survivors:" if survivors else "No survivors.", ""]
    for result in survivors:
        mutant = result.mutant
        lines.append(f"- {mutant.file}:{mutant.line} `{result.before}` → `{result.after}`")
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutate"]
    all_rooms = rooms(configuration)
    parser = argparse.ArgumentParser(prog="tools.mutate", description="Does a test fail when the code is another?")
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"of {', '.join(room.name for room in all_rooms)}")
    parser.add_argument("--sample", type=int, help="mutants of each room (all)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (1)")
    parser.add_argument("--budget", type=float, default=30, help="seconds of quick tests for each mutant (30)")
    parser.add_argument("--whole", type=float, default=120, help="seconds of all others for what survives (120)")
    parser.add_argument("--again", action="store_true", help="what survived the last time")
    options = parser.parse_args(words)
    chosen = [room for room in all_rooms if not options.rooms or room.name in options.rooms]
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / "results.json"
    last = _survivors(file) if options.again else []
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # their warnings are errors, and none is needed
    for name in LIBRARIES:
        importlib.import_module(name)
    copy = copied()
    known = covered(chosen, copy)
    results: list[Result] = []
    for room in chosen:
        found = (
            _again(last, room)
            if options.again
            else drawn(room, configuration["operators"], options.sample, options.seed)
        )
        for mutant, source, text in found:
            result = tried(room, mutant, source, text, known, options.budget, options.whole, copy)
            results.append(result)
            change = f"{result.before}  →  {result.after}"
            how = result.outcome if result.quick or result.outcome != "killed" else "killed late"
            print(f"{how:<11} {result.seconds:6.1f} s  {mutant.file}:{mutant.line}  {change}", flush=True)
            file.write_text(json.dumps([asdict(result) for result in results], indent=1), encoding="utf-8")
    print(f"\n{report(results)}")
    if lines := stale():
        print("tools/equivalent.toml lists what is no longer there:", *lines, sep="\n- ")


def _survivors(file: Path) -> list[Mutant]:
    results = json.loads(file.read_text(encoding="utf-8"))
    return [Mutant(**result["mutant"]) for result in results if result["outcome"] == "survived"]


def _again(last: Sequence[Mutant], room: Room) -> Iterator[tuple[Mutant, str, str]]:
    """Yield the mutants of the last time that are in a room, as `drawn`."""
    for mutant in last:
        if mutant.file in room.files:
            source = (ROOT / mutant.file).read_text(encoding="utf-8")
            text = changed(mutant, source)
            if text is None:
                raise SystemExit(f"{mutant.file} is another than the last time: draw mutants anew")
            yield mutant, source, text


if __name__ == "__main__":
    main()
