"""The house: the public names, what an import costs, and who may import whom."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

import nbanalyzer

PACKAGE = Path(nbanalyzer.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("numpy", "pandas", "sympy", "matplotlib", "IPython", "ipywidgets", "transformers", "torch", "mcp", "pydantic")
AGENTS = {"mcp", "pydantic"}
"""What serves agents, and loads in half a second or more."""

PUBLIC = {
    "ALLOWED_VARIABLES", "Accelerator", "Analysis", "Comparison", "Formula", "ModelTemplate", "ModuleTemplate",
    "NBAnalyzerError", "Request", "Roofline", "Solution", "Sweep", "accelerator", "accelerators", "calibrate", "compare", "expand",
    "extract_model_params", "fit", "generate", "load_ipython_extension", "load_model_template", "load_module_template", "models",
    "modules", "parse_formula", "populate", "populate_template", "request", "save_template", "sensitivity", "solve",
    "sweep", "unload_ipython_extension", "validate_template", "verify", "whatif",
}  # fmt: skip


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def statements(node: ast.AST, *, lazy: bool, inside: str = "") -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Yield the imports and the functions they stand in; without `lazy` only those that run as the file is loaded."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, inside
        elif isinstance(child, ast.If) and is_type_checking(child):
            for other in (*(child.body if lazy else ()), *child.orelse):
                yield from statements(ast.Module([other], []), lazy=lazy, inside=inside)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            if lazy:
                yield from statements(child, lazy=lazy, inside=f"{inside}.{child.name}".lstrip("."))
        elif isinstance(child, ast.ClassDef):
            yield from statements(child, lazy=lazy, inside=f"{inside}.{child.name}".lstrip("."))
        else:
            yield from statements(child, lazy=lazy, inside=inside)


@cache
def imports(path: Path, *, lazy: bool = True) -> tuple[tuple[str, str], ...]:
    """Return the full name of everything imported, and the function that does it."""
    return tuple(imported(path, lazy=lazy))


def imported(path: Path, *, lazy: bool) -> Iterator[tuple[str, str]]:
    own = module_name(path)
    package = own if path.name == "__init__.py" else own.rpartition(".")[0]
    for node, inside in statements(tree_of(path), lazy=lazy):
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
            continue
        base = package.rsplit(".", node.level - 1)[0] if node.level else ""
        start = ".".join(filter(None, (base, node.module)))
        yield from ((f"{start}.{alias.name}", inside) for alias in node.names)


def uses(path: Path, top: str) -> bool:
    return any(name.split(".")[0] == top for name, _ in imports(path))


# ---- the public names


def test_the_public_names() -> None:
    assert set(nbanalyzer.__all__) == PUBLIC
    assert list(nbanalyzer.__all__) == sorted(nbanalyzer.__all__)
    assert dir(nbanalyzer) == sorted(PUBLIC)
    assert all(hasattr(nbanalyzer, name) for name in PUBLIC)


def test_every_public_name_is_documented() -> None:
    for name in PUBLIC - {"ALLOWED_VARIABLES"}:
        assert getattr(nbanalyzer, name).__doc__


def loaded_after(program: str) -> set[str]:
    code = f"import sys, json\n{program}\nprint(json.dumps(sorted({{n.split('.')[0] for n in sys.modules}})))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy() -> None:
    found = loaded_after("import nbanalyzer")
    assert "nbanalyzer" in found
    assert not found.intersection(HEAVY)


@pytest.mark.slow
def test_a_public_name_is_never_a_module() -> None:
    """A module of its name would take the place of a function as soon as it is imported."""
    assert not {room_of(path, PACKAGE) for path in FILES} & PUBLIC - {"generate"}
    program = """
import nbanalyzer.notebook.form.result
import nbanalyzer, types
from nbanalyzer import compare, request, sensitivity, solve, sweep
for function in (compare, request, sensitivity, solve, sweep, nbanalyzer.expand, nbanalyzer.populate):
    assert isinstance(function, types.FunctionType)
try:
    nbanalyzer.swoop
except AttributeError as error:
    assert "swoop" in str(error)
"""
    loaded_after(program)


@pytest.mark.pytorch
def test_generate_is_a_function_and_a_package() -> None:
    program = """
import nbanalyzer
assert callable(nbanalyzer.generate) and callable(nbanalyzer.verify)
from nbanalyzer.generate import generate, verify
assert nbanalyzer.generate is generate and nbanalyzer.verify is verify
assert not {"torch", "transformers"} & {*sys.modules}
from nbanalyzer.generate import pipeline
import nbanalyzer.generate.model.subject
assert nbanalyzer.generate is generate
assert pipeline.__name__ == "nbanalyzer.generate.pipeline"
"""
    assert "torch" in loaded_after(program)


@pytest.mark.slow
def test_loading_the_extension_loads_neither_torch_nor_widgets() -> None:
    program = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "nbanalyzer")
for name in ("populate", "compare", "hardware", "whatif", "sweep", "generate", "verify", "calibrate", "request"):
    assert shell.find_line_magic(name), name
shell.run_line_magic("populate", "gpt2 --plot none")
later = (
    "analysis.closed_form", "analysis.comparison", "analysis.request", "analysis.sensitivity", "analysis.solve",
    "analysis.served", "analysis.steps",
    "costs.symbolic", "formulas.program", "notebook.form", "plots", "report.comparison", "sweeps",
)
from importlib.util import find_spec
assert not {name for name in sys.modules if name.startswith(tuple(f"nbanalyzer.{one}" for one in later))}
assert all(find_spec(f"nbanalyzer.{one}") for one in later)  # what is named here is there
"""
    heavy = {"torch", "transformers", "ipywidgets", "sympy", "pandas", "numpy", "matplotlib", "dask"}
    assert not loaded_after(program).intersection(heavy)


@pytest.mark.slow
def test_times_on_hardware_load_nothing_heavy() -> None:
    program = """
import nbanalyzer
roofline = nbanalyzer.populate("gpt2", seq_len=8).on("h100-sxm")
repr(roofline); roofline._repr_mimebundle_(); roofline.summary
repr(nbanalyzer.request("gpt2", prompt_len=4, output_len=4))
repr(nbanalyzer.compare("gpt2", w_bit=[16, 4], hardware="h100-sxm"))
repr(nbanalyzer.solve("gpt2", "h100-sxm", maximize="batch_size"))
"""
    heavy = {"torch", "transformers", "ipywidgets", "sympy", "pandas", "numpy", "matplotlib", "IPython"}
    assert not loaded_after(program).intersection(heavy)


@pytest.mark.slow
def test_a_shipped_model_needs_none_of_transformers_sympy_torch() -> None:
    program = "import nbanalyzer; a = nbanalyzer.populate('gpt2', seq_len=8); repr(a); a._repr_mimebundle_(); a.tree"
    assert not loaded_after(program).intersection({"transformers", "sympy", "torch", "matplotlib", "IPython"})


# ---- who may import whom
#
# A room is a file that lies directly in the package, or a folder of it; a floor is what may use all floors before it.
# Every import counts: those for type checkers and those inside functions too, for what one has to know to read a file
# does not depend on when it is loaded.

FLOORS: tuple[tuple[str, ...], ...] = (
    ("text", "progress", "quantities"),
    ("errors", "table"),
    ("files", "formulas"),
    ("display", "templates"),
    ("hardware", "costs"),
    ("generate",),
    ("analysis",),
    ("sweeps",),
    ("report", "plots"),
    ("agents", "notebook", "cli"),
    ("__init__", "__main__"),
)
GENERATE: tuple[tuple[str, ...], ...] = (
    ("hf", "dispatch", "deadline", "cache", "hints"),
    ("model",),
    ("trace", "measure"),
    ("probe",),
    ("fit",),
    ("write",),
    ("check",),
    ("pipeline",),
    ("api",),
    ("__init__",),
)
LAZY = ("display", "import_module")
"""The one place that imports what lies above it: how a result is shown, once somebody looks."""
LONGEST, MEDIAN = 400, 200  # lines of a file


def room_of(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return parts[0]


@cache
def graph() -> dict[Path, set[Path]]:
    """Return file → the files that it imports, wherever in it."""
    known = {module_name(path): path for path in FILES}
    found: dict[Path, set[Path]] = {}
    for path in FILES:
        targets = {known.get(name) or known.get(name.rpartition(".")[0]) for name, _ in imports(path)}
        found[path] = {target for target in targets if target and target != path}
    return found


def arrows(floors: tuple[tuple[str, ...], ...], folder: Path) -> set[tuple[str, str]]:
    """Return the pairs of rooms of a folder of which the first imports the second."""
    return {
        (room_of(source, folder), room_of(target, folder))
        for source, targets in graph().items()
        for target in targets
        if source.is_relative_to(folder) and target.is_relative_to(folder)
        if room_of(source, folder) != room_of(target, folder)
    }


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 80
    assert sum(map(len, graph().values())) > 300
    assert ("templates", "formulas") in arrows(FLOORS, PACKAGE)
    assert ("notebook", "report") in arrows(FLOORS, PACKAGE)
    assert ("trace", "model") in arrows(GENERATE, PACKAGE / "generate")
    # An import for type checkers only, and one inside a function.
    assert ("nbanalyzer.analysis.solve.Solution", "") in set(imports(PACKAGE / "__init__.py"))
    assert ("nbanalyzer.notebook.load", "load_ipython_extension") in set(imports(PACKAGE / "__init__.py"))


@pytest.mark.parametrize(
    ("floors", "folder"), [(FLOORS, PACKAGE), (GENERATE, PACKAGE / "generate")], ids=["nbanalyzer", "generate"]
)
def test_imports_lead_down(floors: tuple[tuple[str, ...], ...], folder: Path) -> None:
    floor_of = {room: number for number, rooms in enumerate(floors) for room in rooms}
    assert {room_of(path, folder) for path in FILES if path.is_relative_to(folder)} == {*floor_of}
    upward = {(source, target) for source, target in arrows(floors, folder) if floor_of[source] <= floor_of[target]}
    assert not upward


def test_no_files_import_each_other_in_a_circle() -> None:
    order = list(TopologicalSorter(graph()).static_order())
    assert order.index(PACKAGE / "errors.py") < order.index(PACKAGE / "formulas" / "formula.py")


def test_the_house_stays_small() -> None:
    assert sum(map(len, FLOORS)) <= 22
    assert len(FLOORS) <= 11
    assert len(GENERATE) <= 11
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {module_name(path): number for path, number in lines.items() if number > LONGEST} == {}
    assert median(lines.values()) < MEDIAN


def test_only_display_imports_by_name() -> None:
    """What is imported by a text is seen by no table: there is one place, and the lazy public names."""
    found = {
        (room_of(path, PACKAGE), name.rpartition(".")[2])
        for path in FILES
        for name, _ in imports(path)
        if name.startswith("importlib.import_module")
    }
    assert found == {LAZY, ("__init__", "import_module")}


def test_every_room_says_what_it_is() -> None:
    for path in FILES:
        if path.name == "__init__.py" and path.parent not in {PACKAGE, PACKAGE / "generate", PACKAGE / "notebook"}:
            (docstring,) = tree_of(path).body
            assert isinstance(docstring, ast.Expr), path
            assert "\n" not in str(ast.literal_eval(docstring.value)), path


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path))
def test_torch_and_notebooks_have_one_place_each(path: Path) -> None:
    room = room_of(path, PACKAGE)
    if room != "generate":
        assert not uses(path, "torch")
    if room != "notebook":
        assert not any(uses(path, name) for name in ("IPython", "ipywidgets"))
    if room not in {"notebook", "plots"}:
        assert not uses(path, "matplotlib")
    if room != "agents":
        assert not any(uses(path, name) for name in ("mcp", "mcp_types", "starlette", "uvicorn"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path))
def test_nothing_heavy_is_imported_at_the_top(path: Path) -> None:
    room = room_of(path, PACKAGE)
    allowed = {
        "plots": {"matplotlib", "numpy"},
        "report": {"numpy"},
        "sweeps": {"numpy"},
        "notebook": {"IPython", "ipywidgets"},
        "generate": {*HEAVY} - AGENTS,
        "agents": AGENTS if path.name == "server.py" else set(),
    }
    tops = {name.split(".")[0] for name, _ in imports(path, lazy=False)}
    assert not tops.intersection(HEAVY) - allowed.get(room, set())


FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "sympify",
    "parse_expr",
    "execfile",
    "breakpoint",
    "lambdify",
    "S",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path))
def test_no_text_is_ever_run_as_code(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name):
            assert called.id not in FORBIDDEN, node.lineno
        if isinstance(called, ast.Attribute):
            is_pattern = called.attr == "compile" and isinstance(called.value, ast.Name) and called.value.id == "re"
            is_module = called.attr == "eval" and room_of(path, PACKAGE) == "generate"  # torch.nn.Module.eval()
            assert called.attr not in FORBIDDEN or is_pattern or is_module, node.lineno
    assert not any(
        uses(path, name) for name in ("pickle", "marshal", "shelve", "dill", "cloudpickle", "importlib.util")
    )
