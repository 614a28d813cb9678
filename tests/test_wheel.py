"""The wheel carries the templates, and works where there is neither a checkout nor a heavy library."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = """
import nbanalyzer, sys, pathlib
assert "site-packages" in nbanalyzer.__file__, nbanalyzer.__file__
print(nbanalyzer.populate("gpt2", seq_len=2048).totals["matmul_flops"], len(nbanalyzer.models()))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it, with nothing but msgspec, in an environment of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    run(sys.executable, "-m", "venv", folder / "env")
    python = folder / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", f"msgspec=={version('msgspec')}", wheel)
    return python


def run(*words: object, cwd: Path = ROOT) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, cwd=cwd, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_carries_what_the_form_needs_in_the_browser(python: Path) -> None:
    (wheel,) = python.parents[2].glob("*.whl")
    names = ZipFile(wheel).namelist()
    assert {"nbanalyzer/notebook/form/browser.js", "nbanalyzer/notebook/form/browser.css"} <= {*names}


@pytest.mark.slow
def test_populate_from_the_wheel(python: Path) -> None:
    models = len(list((ROOT / "models").glob("*/*.json")))
    assert run(python, "-c", PROGRAM, cwd=Path("/")).split() == ["660606025728", str(models)]


@pytest.mark.slow
def test_profiles_from_the_wheel(python: Path) -> None:
    program = """
from nbanalyzer.hardware.accelerators import hardware
from nbanalyzer.hardware.profiles import profile, profiles
print(len(profiles()), profile("vllm", hardware("h100-sxm")).parameters("linear", "bf16").fit.n > 0)
"""
    shipped = len(list((ROOT / "nbanalyzer" / "hardware" / "profiles").glob("*.json")))
    assert run(python, "-c", program, cwd=Path("/")).split() == [str(shipped), "True"]


@pytest.mark.slow
def test_the_command_from_the_wheel(python: Path) -> None:
    words = ("--populate", "--model_id", "gpt2", "--format", "table")
    said = run(python, "-m", "nbanalyzer", *words, cwd=Path("/"))
    assert "c_attn" in said
    assert run(python.parent / "nbanalyzer", *words, cwd=Path("/")) == said


@pytest.mark.slow
def test_the_console_command_says_by_its_status_that_something_is_wrong(python: Path) -> None:
    command = [str(python.parent / "nbanalyzer"), "--populate", "--model_id", "gpt2", "--seq_len", "ten"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'ten'" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_tools_for_agents_from_the_wheel(python: Path) -> None:
    program = """
from importlib.resources import files
from nbanalyzer.agents.prompts import PROMPTS, text_of
from nbanalyzer.agents.resources import RESOURCES, read
from nbanalyzer.agents.shelf import Shelf
from nbanalyzer.agents.tools import TOOLS
assert all(len(read(uri)) > 1000 for uri in RESOURCES) and all(len(text_of(name)) > 500 for name in PROMPTS)
assert all((files("nbanalyzer.agents") / name).is_file() for name in ("SKILL.md", "llms.txt"))
print(TOOLS["nbanalyzer_analyze"].call(Shelf(), {"model": "gpt2"}).data["totals"]["parameters"])
"""
    assert run(python, "-c", program, cwd=Path("/")).split() == ["124439808"]


@pytest.mark.slow
def test_what_the_wheel_says_of_itself(python: Path) -> None:
    program = """
from importlib.metadata import metadata
said = metadata("nbanalyzer")
files = said.get_all("License-File")
print(said["Author"], "|", said["License-Expression"], "|", *files, "|", *sorted(said.get_all("Project-URL")))
"""
    author, license_, files, urls = run(python, "-c", program, cwd=Path("/")).split(" | ")
    assert (author, license_, files) == ("The nbanalyzer developers", "MIT", "LICENSE NOTICE")
    assert [line.partition(",")[0] for line in urls.split(" ") if "," in line] == [
        "Changelog",
        "Homepage",
        "Issues",
        "Source",
    ]
