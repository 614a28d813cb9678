"""Templates: read strictly, written whole, and validated with the place of what is wrong."""

from __future__ import annotations

import copy
import json
import os
import shutil
import stat
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from nbanalyzer import populate
from nbanalyzer.errors import NBAnalyzerError, TemplateError, UnresolvedVariablesError
from nbanalyzer.report.analysis import as_fragment, as_html, as_md
from nbanalyzer.templates.template import ModelTemplate, ModuleTemplate
from nbanalyzer.templates.template_files import load_model_template, load_module_template, save_template
from nbanalyzer.templates.validation import DisallowedVariable, validate_template

ROOT = Path(__file__).parents[2]
MODELS = sorted((ROOT / "models").glob("*/*.json"))
MODULES = sorted((ROOT / "modules").glob("*.json"))

BASIC: dict[str, Any] = {
    "kernel_type": "basic",
    "operation": "matmul",
    "unit": "matmul",
    "flops": "2 * {batch_size} * {seq_len} * {hidden_size}",
    "memory_access": {"read": "{hidden_size} * {w_bytes}", "write": "{seq_len} * {a_bytes}"},
}
MODEL: dict[str, Any] = {
    "model_id": "own/tiny",
    "config": {"hidden_size": 8, "num_layers": 3},
    "kernels": [
        {
            "kernel_type": "composite",
            "name": "h",
            "repeat": "{num_layers}",
            "parameters": "{hidden_size}",
            "sub_kernels": [BASIC],
        }
    ],
}
MODULE: dict[str, Any] = {
    "class_name": "my.Layer",
    "description": "one product",
    "variables": {"rows": "rows of the input"},
    "parameters": "{hidden_size}",
    "kernels": [{**BASIC, "flops": "{rows} * {hidden_size}"}],
}


def changed(whole: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return a copy with the field at `path`, e.g. ``kernels.0.name``, set; `...` deletes it."""
    result = copy.deepcopy(whole)
    *outer, last = path.split(".")
    place: Any = result
    for key in outer:
        place = place[int(key)] if isinstance(place, list) else place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return result


def written(folder: Path, content: object, name: str = "template.json") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(NBAnalyzerError) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# ---- round trips


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_shipped_model_template_is_written_as_it_was_read(path: Path, tmp_path: Path) -> None:
    save_template(load_model_template(path), tmp_path / "new.json")
    assert (tmp_path / "new.json").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_shipped_module_template_survives_the_round_trip(path: Path, tmp_path: Path) -> None:
    template = load_module_template(path)
    assert template.class_name == path.stem
    save_template(template, tmp_path / "new.json")
    assert load_module_template(tmp_path / "new.json") == template
    assert json.loads((tmp_path / "new.json").read_bytes()) == json.loads(path.read_bytes())


def test_the_shipped_module_templates_are_written_as_they_were_read(tmp_path: Path) -> None:
    different = []
    for path in MODULES:
        save_template(load_module_template(path), tmp_path / path.name)
        if (tmp_path / path.name).read_bytes() != path.read_bytes():
            different.append(path.name)
    assert different == []


def test_a_template_of_ones_own_survives_the_round_trip(tmp_path: Path) -> None:
    first = load_model_template(written(tmp_path, MODEL))
    save_template(first, tmp_path / "deep" / "er" / "copy.json")
    assert load_model_template(tmp_path / "deep" / "er" / "copy.json") == first
    assert json.loads((tmp_path / "deep" / "er" / "copy.json").read_bytes()) == MODEL


def test_a_template_loads_from_bytes_and_says_where_it_came_from() -> None:
    assert load_model_template(json.dumps(MODEL).encode()).model_id == "own/tiny"
    assert error_of(lambda: load_model_template(b"{", "here.json")).startswith("here.json, line 1, column ")


def test_a_template_cannot_be_changed() -> None:
    template = load_model_template(MODELS[0])
    with pytest.raises(AttributeError):
        template.model_id = "other"  # type: ignore[misc]


# ---- strictness: the message has the file and the JSON path


@pytest.mark.parametrize(
    ("path", "value", "where", "what"),
    [
        ("colour", "red", "", "colour"),
        ("kernels.0.colour", "red", "$.kernels[0]", "colour"),
        ("kernels.0.sub_kernels.0.colour", "red", "$.kernels[0].sub_kernels[0]", "colour"),
        ("kernels.0.sub_kernels.0.flops", 3, "$.kernels[0].sub_kernels[0].flops", "int"),
        ("kernels.0.sub_kernels.0.flops", None, "$.kernels[0].sub_kernels[0].flops", "null"),
        ("kernels.0.sub_kernels.0.flops", ..., "$.kernels[0].sub_kernels[0]", "flops"),
        ("kernels.0.sub_kernels.0.memory_access", ..., "$.kernels[0].sub_kernels[0]", "memory_access"),
        ("kernels.0.sub_kernels.0.memory_access.read", ..., "$.kernels[0].sub_kernels[0].memory_access", "read"),
        ("kernels.0.sub_kernels.0.memory_access.reed", "0", "$.kernels[0].sub_kernels[0].memory_access", "reed"),
        ("kernels.0.sub_kernels.0.unit", "tensor", "$.kernels[0].sub_kernels[0].unit", "tensor"),
        ("kernels.0.sub_kernels.0.kernel_type", "complex", "$.kernels[0].sub_kernels[0].kernel_type", "complex"),
        ("kernels.0.kernel_type", ..., "$.kernels[0]", "kernel_type"),
        ("kernels.0.name", ..., "$.kernels[0]", "name"),
        ("kernels.0.repeat", 12, "$.kernels[0].repeat", "int"),
        ("kernels.0.sub_kernels", {}, "$.kernels[0].sub_kernels", "array"),
        ("kernels", "none", "$.kernels", "array"),
        ("config", [], "$.config", "object"),
        ("state", {"kv_cache": 1}, "$.state[...]", "int"),
    ],
)
def test_a_wrong_field_is_named_with_file_and_path(
    path: str, value: object, where: str, what: str, tmp_path: Path
) -> None:
    file = written(tmp_path, changed(MODEL, path, value))
    message = error_of(lambda: load_model_template(file))
    assert message.startswith(f"{file}, {where}: " if where else f"{file}: ")
    assert what in message


@pytest.mark.parametrize("data", [[], "text", 3, None, True])
def test_a_template_is_an_object(data: object, tmp_path: Path) -> None:
    file = written(tmp_path, data)
    for load in (load_model_template, load_module_template):
        assert error_of(lambda load=load: load(file)).startswith(f"{file}: Expected 'object', got ")  # type: ignore[misc]


@pytest.mark.parametrize("name", ["class_name", "description", "variables", "kernels"])
def test_a_module_template_needs_its_fields(name: str, tmp_path: Path) -> None:
    file = written(tmp_path, changed(MODULE, name, ...))
    message = error_of(lambda: load_module_template(file))
    assert message.startswith(f"{file}: ")
    assert name in message


# ---- files that hold no template


@pytest.mark.parametrize(
    ("text", "line", "columns"),
    [
        ('{\n "model_id": "x",,\n "kernels": []\n}', 2, range(17, 20)),
        ('{\n "model_id": "x"\n "kernels": []\n}', 3, range(1, 4)),
        ('{\n "model_id": "x",\n "kernels": [}\n', 3, range(12, 16)),
        ("{'model_id': 'x'}", 1, range(1, 4)),
        ('{"model_id": "x"} {}', 1, range(18, 21)),
        ("", 1, range(1, 2)),
        ("\n\n", 3, range(1, 2)),
    ],
)
def test_malformed_json_is_placed_by_line_and_column(text: str, line: int, columns: range, tmp_path: Path) -> None:
    file = written(tmp_path, text.encode())
    for load in (load_model_template, populate):
        place, _, problem = error_of(lambda load=load: load(file)).partition(": malformed JSON: ")  # type: ignore[misc]
        found = place.removeprefix(f"{file}, line {line}, column ")
        assert found.isdigit()
        assert int(found) in columns
        assert problem


def test_malformed_json_of_a_module_template_is_placed_too(tmp_path: Path) -> None:
    file = written(tmp_path, b'{\n "class_name": "x",\n "description": }')
    assert error_of(lambda: load_module_template(file)).startswith(f"{file}, line 3, column 17: malformed JSON: ")


@pytest.mark.parametrize("content", [b'{"model_id": "\xff"}', b"\xff\xfe{\x00}\x00", b'{"\xe9": 1}'])
def test_a_file_that_is_not_utf8_is_an_error(content: bytes, tmp_path: Path) -> None:
    file = written(tmp_path, content)
    for load in (load_model_template, load_module_template, populate):
        assert str(file) in error_of(lambda load=load: load(file))  # type: ignore[misc]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"kernels": [' + '{"kernel_type": "composite", "name": "a", "sub_kernels": [' * 5_000 + "]}" * 5_000 + "]}",
    ],
    ids=["brackets", "braces", "kernels"],
)
def test_deep_nesting_is_an_error(text: str, tmp_path: Path) -> None:
    file = written(tmp_path, text.encode())
    for load in (load_model_template, load_module_template, populate):
        assert str(file) in error_of(lambda load=load: load(file))  # type: ignore[misc]


def test_deep_plain_data_is_an_error() -> None:
    kernel = copy.deepcopy(BASIC)
    for _ in range(3_000):
        kernel = {"kernel_type": "composite", "name": "a", "sub_kernels": [kernel]}
    data = {"kernels": [kernel]}
    assert "nested" in error_of(lambda: validate_template(data))  # how deep Python itself goes differs
    assert "nested" in error_of(lambda: populate(data))


def test_what_is_no_readable_file_is_an_error(tmp_path: Path) -> None:
    for load in (load_model_template, load_module_template, populate):
        assert error_of(lambda load=load: load(tmp_path / "no.json")) == (  # type: ignore[misc]
            f"{tmp_path / 'no.json'}: No such file or directory"
        )
    folder = tmp_path / "folder.json"
    folder.mkdir()
    for load in (load_model_template, load_module_template):
        assert error_of(lambda load=load: load(folder)) == f"{folder}: Is a directory"  # type: ignore[misc]


def test_a_path_that_cannot_be_is_an_error() -> None:
    for load in (load_model_template, load_module_template, populate):
        error_of(lambda load=load: load("a\0.json"))  # type: ignore[misc]
        error_of(lambda load=load: load("a" * 5_000 + ".json"))  # type: ignore[misc]
        error_of(lambda load=load: load("a\nb.json"))  # type: ignore[misc]


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "huge.json"
    with file.open("wb") as opened:
        opened.truncate(2**31)  # a hole: it takes no room on the disk
    assert error_of(lambda: load_model_template(file)).startswith(f"{file}: larger than 32 MiB")


# ---- which variables are allowed


def test_the_shipped_templates_are_valid() -> None:
    assert len(MODELS) >= 29
    for path in MODELS:
        assert validate_template(load_model_template(path)) == []


def test_every_disallowed_variable_is_listed_with_path_and_field() -> None:
    bad = copy.deepcopy(MODEL)
    h = bad["kernels"][0]
    h["repeat"] = "{num_layers} * {one}"
    h["parameters"] = "{two}"
    h["bindings"] = {"output_size": "3 * {three} + {three}"}
    h["sub_kernels"][0] |= {
        "flops": "{four} * {five} * {seq_len}",
        "memory_access": {"read": "{six}", "write": "{four}"},
    }
    h["sub_kernels"] += [{"kernel_type": "composite", "name": "inner", "parameters": "{seven}"}]
    bad["state"] = {"kv_cache": "{eight} * {kv_bytes}"}
    expected = {
        DisallowedVariable("eight", "", "state.kv_cache", "{eight} * {kv_bytes}"),
        DisallowedVariable("three", "h", "bindings.output_size", "3 * {three} + {three}"),
        DisallowedVariable("one", "h", "repeat", "{num_layers} * {one}"),
        DisallowedVariable("two", "h", "parameters", "{two}"),
        DisallowedVariable("four", "h.matmul", "flops", "{four} * {five} * {seq_len}"),
        DisallowedVariable("five", "h.matmul", "flops", "{four} * {five} * {seq_len}"),
        DisallowedVariable("six", "h.matmul", "memory_access.read", "{six}"),
        DisallowedVariable("four", "h.matmul", "memory_access.write", "{four}"),
        DisallowedVariable("seven", "h.inner", "parameters", "{seven}"),
    }
    found = validate_template(bad)
    assert len(found) == len(expected)
    assert set(found) == expected
    assert set(validate_template(msgspec.convert(bad, ModelTemplate))) == expected


def test_a_valid_template_has_no_disallowed_variable() -> None:
    assert validate_template(MODEL) == []


def test_the_integer_fields_of_the_own_config_are_allowed() -> None:
    own = changed(MODEL, "kernels.0.parameters", "{rotary_pct_dim} + {n_streams}")
    assert [use.variable for use in validate_template(own)] == ["rotary_pct_dim", "n_streams"]
    own["config"] |= {"rotary_pct_dim": 4, "n_streams": "2"}
    assert [use.variable for use in validate_template(own)] == ["n_streams"]
    own["config"] |= {"n_streams": 2}
    assert validate_template(own) == []
    # parameters: (4 + 2) in each of 3 layers
    assert populate(own).totals["parameters"] == 3 * (4 + 2)


def test_loading_always_validates(tmp_path: Path) -> None:
    file = written(tmp_path, changed(MODEL, "kernels.0.sub_kernels.0.flops", "2 * {output_size}"))
    for load in (load_model_template, populate):
        with pytest.raises(UnresolvedVariablesError) as caught:
            load(file)
        assert caught.value.variables == ("output_size",)
        assert str(caught.value).startswith(
            f"{file}: unresolved template variables: {{output_size}} in h.matmul, flops"
        )


def test_many_disallowed_variables_still_make_one_short_line(tmp_path: Path) -> None:
    kernels = [{**BASIC, "flops": f"{{bad_{index}}}"} for index in range(50)]
    message = error_of(lambda: populate({"model_id": "own", "kernels": kernels}))
    assert "{bad_0}" in message
    assert "and 47 more" in message
    assert len(message) < 400


def test_a_formula_that_cannot_be_read_is_named_with_its_place(tmp_path: Path) -> None:
    file = written(tmp_path, changed(MODEL, "kernels.0.sub_kernels.0.memory_access.write", "1 + x"))
    assert error_of(lambda: load_model_template(file)) == (
        f"{file}, h.matmul, memory_access.write: "
        "unknown name 'x', a variable is written {x}, at column 5 of '1 + ▸ x'"
    )


# ---- module templates


def test_a_module_template_uses_what_it_declares_and_global_variables(tmp_path: Path) -> None:
    assert load_module_template(written(tmp_path, MODULE)).variables == {"rows": "rows of the input"}
    file = written(tmp_path, changed(MODULE, "kernels.0.flops", "{rows} * {columns}"))
    assert error_of(lambda: load_module_template(file)) == (
        f'{file}, matmul, flops: {{columns}} is neither declared in "variables" nor a global variable'
    )
    file = written(tmp_path, changed(MODULE, "state", {"kv_cache": "{rows} * {columns}"}))
    assert error_of(lambda: load_module_template(file)).startswith(f"{file}, state.kv_cache: {{columns}} is neither")


def test_a_declared_variable_is_used(tmp_path: Path) -> None:
    file = written(tmp_path, changed(MODULE, "variables", {"rows": "rows", "columns": "columns"}))
    assert (
        error_of(lambda: load_module_template(file)) == f'{file}: {{columns}} is declared in "variables" and never used'
    )


# ---- names


@pytest.mark.parametrize("name", ["", "a.b", "a b", "a\nb", "a/b", "../a", "<b>", "é", "1a", "a" * 101, "a\0"])
def test_a_kernels_name_is_a_word(name: str) -> None:
    message = error_of(lambda: validate_template(changed(MODEL, "kernels.0.name", name)))
    assert "a kernel's name is letters, digits" in message
    assert len(message) < 400


@pytest.mark.parametrize("operation", ["", "a\nb", "a\tb", "\x1b[31m", "a\u2028b", "\u202egnp", "a" * 101])
def test_an_operation_is_printable(operation: str) -> None:
    message = error_of(lambda: validate_template(changed(MODEL, "kernels.0.sub_kernels.0.operation", operation)))
    assert "an operation is 1 to 100 printable characters" in message


class Tags(HTMLParser):
    """What a browser would see: the elements, their attributes, the text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'"


def evil() -> dict[str, Any]:
    own: dict[str, Any] = {
        "model_id": EVIL,
        "architecture": EVIL,
        "config": {"expert_" + EVIL: 1},
        "state": {EVIL: "1"},
        "kernels": [
            {**BASIC, "operation": EVIL, "flops": "1", "memory_access": {"read": "2", "write": "0"}},
            {
                "kernel_type": "composite",
                "name": "part",
                "description": EVIL,
                "module": EVIL,
                "bindings": {EVIL: "1"},
                "sub_kernels": [
                    {**BASIC, "operation": EVIL, "flops": "1"},
                    {"kernel_type": "composite", "name": "inner", "sub_kernels": [{**BASIC, "flops": "1 < 2"}]},
                ],
            },
        ],
    }
    part = own["kernels"][1]
    for kernel in (part["sub_kernels"][0], part["sub_kernels"][1]["sub_kernels"][0]):
        kernel["memory_access"] = {"read": "2", "write": "0"}
    return own


def test_html_in_a_template_is_text() -> None:
    analysis = populate(evil())
    for html in (as_fragment(analysis), as_html(analysis), analysis.explain("part")._repr_mimebundle_()["text/html"]):
        seen = Tags(html)
        assert not {"script", "img"} & set(seen.elements)
        assert "onerror" not in seen.attributes
        assert EVIL in seen.text
    explained = Tags(analysis.explain("part")._repr_mimebundle_()["text/html"])
    assert explained.text.count(f"{EVIL} + inner") == 2  # FLOPs and bytes; there are no parameters


def test_html_in_a_template_is_text_in_markdown_too() -> None:
    analysis = populate(evil())
    assert "<script" not in as_md(analysis)
    assert "<img" not in as_md(analysis)


# ---- saving


def test_a_saved_file_can_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_template(load_model_template(MODELS[0]), tmp_path / "x.json")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == 0o640


class StoppedError(Exception):
    pass


def stop(*_: object, **__: object) -> NoReturn:
    raise StoppedError


@pytest.mark.parametrize("broken", ["nbanalyzer.files.os.fdopen", "pathlib.Path.replace", "pathlib.Path.chmod"])
def test_a_file_is_written_whole_or_not_at_all(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, b"what was there")
    template = load_model_template(MODELS[0])
    with monkeypatch.context() as patch:
        patch.setattr(broken, stop)
        with pytest.raises(StoppedError):
            save_template(template, file)
    assert file.read_bytes() == b"what was there"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, b"what was there")
    template = load_model_template(MODELS[0])
    opened = os.fdopen

    def half(handle: int, mode: str) -> Any:
        with opened(handle, mode) as target:
            target.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nbanalyzer.files.os.fdopen", half)
        with pytest.raises(KeyboardInterrupt):
            save_template(template, file)
    assert file.read_bytes() == b"what was there"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_place_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    template = load_module_template(MODULES[0])
    written(tmp_path, b"a file", "file")
    with pytest.raises(OSError, match="file"):
        save_template(template, tmp_path / "file" / "x.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        save_template(template, tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    shutil.rmtree(tmp_path)


def test_the_kinds_of_error_are_one_family() -> None:
    assert issubclass(TemplateError, NBAnalyzerError)
    assert issubclass(UnresolvedVariablesError, TemplateError)
    assert issubclass(ModuleTemplate, msgspec.Struct)
