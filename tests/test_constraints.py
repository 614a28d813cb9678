"""constraints.txt: names and versions of all that `make` installs, and of nothing else; and what `make` does with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools import constraints

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "constraints.txt").read_text(encoding="utf-8")
LOCKED = constraints.read(TEXT)
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUILD = [Requirement(text) for text in PROJECT["build-system"]["requires"]]
PYTHON = ".".join(map(str, sys.version_info[:2]))
PATH = os.environ["PATH"]
CUDA = re.compile(r"(nvidia|cuda)-|triton$")  # torch asks for them where its build is one for CUDA


MUTATE = [Requirement(text) for text in PROJECT["project"]["optional-dependencies"]["mutate"]]


def is_installed(name: str) -> bool:
    try:
        return bool(distribution(name))
    except PackageNotFoundError:
        return False


def needed() -> Iterator[tuple[str, Requirement]]:
    """Yield who asks for what here: `make test`, `make mutate` as far as it is installed, and the package's build."""
    seen: set[tuple[str, str]] = set()
    waiting = [("pyproject.toml", one) for one in [Requirement("nbanalyzer[test]"), *MUTATE, *BUILD]]
    while waiting:
        by, one = waiting.pop()
        yield by, one
        name = canonicalize_name(one.name)
        if CUDA.match(name) or (one in MUTATE and not is_installed(name)):
            continue
        for extra in {"", *one.extras} - {extra for at, extra in seen if at == name}:
            seen.add((name, extra))
            for text in distribution(name).requires or []:
                other = Requirement(text)
                if other.marker is None or other.marker.evaluate({"extra": extra}):
                    waiting.append((name, other))


def test_names_and_versions_and_nothing_else() -> None:
    lines = [line for line in TEXT.splitlines() if not line.startswith("# ")]
    assert len(lines) > 100
    for line in lines:
        # no host, no URL, no hash, no marker, no label of a build: torch's for the CPU and all others fit alike
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9]+(\.[0-9a-z]+)*", line), line
        name, _, version = line.partition("==")
        assert name == canonicalize_name(name)
        assert Version(version).local is None
    assert lines == sorted(set(lines), key=lambda line: line.partition("==")[0])
    assert "://" not in TEXT
    assert not LOCKED.keys() & {"nbanalyzer", "pip"}


@pytest.mark.slow
def test_every_distribution_that_is_needed_is_there_in_a_version_that_is_allowed() -> None:
    found = list(needed())
    assert len(found) > 200
    for by, one in found:
        name = canonicalize_name(one.name)
        if name == "nbanalyzer" or CUDA.match(name):
            continue
        # what other versions than the tested ones need, `make newest` finds out
        if by in LOCKED and Version(distribution(by).version).public != LOCKED[by]:
            continue
        assert name in LOCKED, f"{by} needs {one}"
        assert one.specifier.contains(LOCKED[name], prereleases=True), f"{by} needs {one}"


def test_nothing_is_there_that_nobody_needs() -> None:
    if PYTHON not in TEXT.splitlines()[0] or constraints.differences(LOCKED, constraints.installed()):
        pytest.skip("this is not the environment that was locked")
    names = {canonicalize_name(one.name) for _, one in needed()} - {"nbanalyzer"}
    more = LOCKED.keys() - names - {"editables"}  # hatchling asks for it when it installs a checkout
    if all(is_installed(one.name) for one in MUTATE):
        assert more == set()
    else:  # only what `make mutate` would install
        assert not {name for name in more if is_installed(name)}


@pytest.mark.parametrize(
    ("options", "constrained"), [([], True), (["CONSTRAINTS=", "VENV=.venv-newest"], False)], ids=["test", "newest"]
)
def test_make_installs_these_versions_again_when_they_change(options: list[str], constrained: bool) -> None:
    folder = ".venv-newest" if options else ".venv"
    words = ["make", "--dry-run", "--what-if=constraints.txt", *options]
    for extra in ("lab", "app", "test", "mutate"):
        stamp = ["--assume-old=pyproject.toml", f"{folder}/{extra}"]
        # without make's own variables, which are there if make runs the tests
        done = subprocess.run(
            [*words, *stamp], cwd=ROOT, capture_output=True, text=True, check=True, env={"PATH": PATH}
        )
        install = [line for line in done.stdout.splitlines() if "pip install" in line]
        if not constrained:
            assert all("CONSTRAINT" not in line for line in install)
            continue
        (line,) = install
        assert line.startswith("PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt .venv/bin/python")


def test_the_readme_says_what_was_tested() -> None:
    (said,) = constraints.STATED.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    python = re.search(r"on Python (\S+):", TEXT.splitlines()[0])
    assert python is not None
    assert said == constraints.stated(LOCKED, python[1])
    assert f"transformers {LOCKED['transformers']}," in said
    assert f"torch {LOCKED['torch']}," in said


def test_users_may_have_other_versions_than_the_tested_ones() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    ranges = [Requirement(text) for text in [*PROJECT["project"]["dependencies"], *chain(*extras.values())]]
    assert len(ranges) > 20
    for one in ranges:
        assert all(part.operator in {">=", "<"} for part in one.specifier), one


def test_what_pip_resolves_is_written_by_name() -> None:
    def entry(name: str, version: str, **info: Any) -> dict[str, Any]:
        return {"metadata": {"name": name, "version": version}, "download_info": {"url": "https://there/x", **info}}

    report = {
        "install": [
            entry("Torch", "2.13.0+cpu", archive_info={"hashes": {"sha256": "0"}}),
            entry("ipython_pygments.Lexers", "1.1"),
            entry("nbanalyzer", "0.1.0", dir_info={}),
        ]
    }
    text = constraints.written(constraints.resolved(report), "3.14")
    assert [line for line in text.splitlines() if line[0] != "#"] == ["ipython-pygments-lexers==1.1", "torch==2.13.0"]
    assert "on Python 3.14:" in text
    assert constraints.read(text) == {"ipython-pygments-lexers": "1.1", "torch": "2.13.0"}


def test_differences_are_named() -> None:
    locked = {"a": "1", "b": "2", "c": "3"}
    assert constraints.differences(locked, {"a": "1", "b": "2"}) == []
    said = constraints.differences(locked, {"a": "1.1", "b": "2", "e": "5", "d": "4"})
    assert said == ["a 1.1, tested 1", "not in constraints.txt: d 4, e 5"]
