"""constraints.txt: the versions that were tested, which is what `make` installs.

``python tools/constraints.py lock`` writes it anew, and what the README says of it; ``differences`` prints where the
environment that it runs in has other versions. Names and versions only: where packages come from is pip's affair.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FILE = ROOT / "constraints.txt"
README = ROOT / "README.md"
EXTRAS = "test,mutate"  # the first has all the others; the second's tool is installed where it is asked for only
# PyTorch's release is chosen by hand, by editing constraints.txt before it is locked: every counter leans on how it
# works inside, and a release without a build for the CPU alone brings gigabytes.
HELD = "torch"
# What hatchling asks for when it installs a checkout, and says only then.
ALSO = ("editables",)
HEAD = """\
# What was tested, on Python {python}: `make` installs these versions, `make lock` writes them. A build of torch for
# whatever device fits; what only its builds for CUDA need has the versions that it says itself.
"""
STATED = re.compile(r"^Tested with Python .*:$", re.MULTILINE)
NAMED = ("transformers", "torch", "jupyterlab", "ipykernel", "ipywidgets", "dask")


def canonical(name: str) -> str:
    """Return a distribution's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(text: str) -> dict[str, str]:
    """Return name → version of a constraints file."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: version for name, _, version in (line.partition("==") for line in lines)}


def resolved(report: Mapping[str, Any]) -> dict[str, str]:
    """Return name → version of what pip would install, by its report, but for this project itself."""
    found = (entry["metadata"] for entry in report["install"] if "dir_info" not in entry["download_info"])
    # 2.13.0+cpu is a build of 2.13.0, which any other build of it satisfies, and it satisfies
    return {canonical(entry["name"]): entry["version"].partition("+")[0] for entry in found}


def written(versions: Mapping[str, str], python: str) -> str:
    """Return a constraints file."""
    return HEAD.format(python=python) + "".join(f"{name}=={versions[name]}\n" for name in sorted(versions))


def stated(versions: Mapping[str, str], python: str) -> str:
    """Return the line in which the README says what was tested."""
    *most, last = [f"{name} {versions[name]}" for name in NAMED]
    return f"Tested with Python {python}, {', '.join(most)} and {last}:"


def installed() -> dict[str, str]:
    """Return name → version of what this environment has, but for this project and for what made the environment."""
    found = {canonical(one.metadata["Name"]): one.version.partition("+")[0] for one in distributions()}
    return {name: version for name, version in found.items() if name not in {"nbanalyzer", "pip"}}


def differences(locked: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Return a line for each version that is not the locked one, and one for what is not locked at all."""
    lines = [
        f"{name} {here[name]}, tested {version}"
        for name, version in locked.items()
        if name in here and here[name] != version
    ]
    more = [f"{name} {here[name]}" for name in sorted(here) if name not in locked]
    return [*lines, *([f"not in constraints.txt: {', '.join(more)}"] if more else [])]


def lock() -> None:
    """Resolve the newest versions that pyproject.toml allows, and write them down. Nothing is installed."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    held = f"{HELD}=={read(FILE.read_text(encoding='utf-8'))[HELD]}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    done = subprocess.run(
        [*command, f".[{EXTRAS}]", *build, *ALSO, held], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    versions = resolved(json.loads(done.stdout))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    FILE.write_text(written(versions, python), encoding="utf-8")
    readme, found = STATED.subn(stated(versions, python), README.read_text(encoding="utf-8"))
    if found != 1:
        raise SystemExit("README.md does not say what was tested: constraints.txt is written, it is not")
    README.write_text(readme, encoding="utf-8")


def main(words: list[str]) -> None:
    """Do what the command's one word says."""
    if words == ["lock"]:
        lock()
    elif words == ["differences"]:
        print("\n".join(differences(read(FILE.read_text(encoding="utf-8")), installed()) or ["as in constraints.txt"]))
    else:
        raise SystemExit("python tools/constraints.py lock | differences")


if __name__ == "__main__":
    main(sys.argv[1:])
