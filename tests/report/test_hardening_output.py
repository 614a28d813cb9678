"""Text of strangers in results: wherever it is shown it is text, and steers neither terminals, pages nor spreadsheets."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets.widgets.widget import _instances

from nbanalyzer import Accelerator, Analysis, compare, load_model_template, populate, request, sensitivity, solve, sweep
from nbanalyzer.errors import TemplateError
from nbanalyzer.notebook.form import lifecycle
from nbanalyzer.notebook.form.whatif import WhatIf
from nbanalyzer.text import as_attribute, as_cell, as_lines, as_markdown, escape, printable

STEERS = ("\x1b]0;pwn\x07", "\x9b31m", "\u202e", "\u2066", "\u200b", "\r", "\x08", "\x00", "\u2028", "a\n\n# HEAD")
MATHS = (
    "$x$",
    "$$x$$",
    r"\(x\)",
    r"\[x\]",
    r"\href{javascript:alert(1)}{x}",
    r"\begin{align}x\end{align}",
    r"\$x$",
    "`$x$`",
)
FORMULAS = ("=1+1", "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1")


def basic(operation: str = "op") -> dict[str, Any]:
    access = {"read": "8 * {batch_size} * {seq_len} + 8", "write": "8"}
    return {
        "kernel_type": "basic",
        "operation": operation,
        "unit": "matmul",
        "flops": "{seq_len}",
        "memory_access": access,
    }


def analysis_of(text: str, operation: str = "op") -> Analysis:
    """Return a template that says `text` wherever it may."""
    part = {
        "kernel_type": "composite", "name": "part", "description": text, "module": text, "bindings": {text: "1"},
        "parameters": "8", "sub_kernels": [basic()],
    }  # fmt: skip
    model = {
        "kernels": [part, basic(operation)], "state": {text: "8"}, "provenance": {"result": text},
        "config": {"architectures": [text], f"num_experts {text}": 3, "num_experts": 3, "max_position_embeddings": 1},
    }  # fmt: skip
    return populate(model, seq_len=4)


def card_of(text: str) -> Accelerator:
    text = text if text.isprintable() else "card"  # an accelerator refuses what is not
    return Accelerator(
        name=text, title=text, vendor=text, source=text, doubts=text, link=text, link_bandwidth=1e9,
        bandwidth=1e12, memory_bytes=10**9, peaks={"bf16": 1e14, "fp32": 1e13},
    )  # fmt: skip


VERIFIED = ("part", "matmul FLOPs of prefill", 1, 2)


def shown(text: str, operation: str = "op") -> Iterator[tuple[str, Any]]:
    """Yield everything that shows a template or an accelerator."""
    analysis, card = analysis_of(text, operation), card_of(text)
    yield "analysis", analysis
    yield "roofline", analysis.on(card)
    yield "explanation", analysis.explain("part")
    yield "sum", analysis.explain("flops")
    yield "memory", analysis.memory
    yield "fit", analysis.fits(card)
    yield "plot", analysis.plot()
    yield "roofline plot", analysis.on(card).plot()
    yield "card", card
    template = analysis.template
    yield "comparison", compare(template, hardware=[card, "h100-sxm"], seq_len=4)
    yield "sensitivity", sensitivity(template, at={"seq_len": 4})
    yield "sweep", sweep(template, seq_len=[4, 8], batch_size=[1, 2])
    yield "request", request(template, prompt_len=4, output_len=2)
    yield "request on", request(template, prompt_len=4, output_len=2).on(card)
    yield "solution", solve(template, card, maximize="batch_size", seq_len=4)
    form = WhatIf(template, hardware=card)
    yield "answer", form._answer.result
    form.close()


def texts_of(one: Any) -> Iterator[str]:
    yield repr(one)
    if hasattr(one, "_repr_mimebundle_"):
        yield one._repr_mimebundle_()["text/plain"]


# ---- what steers a terminal


@pytest.mark.slow
@pytest.mark.parametrize("text", STEERS, ids=ascii)
def test_nothing_of_a_strangers_steers_a_terminal(text: str) -> None:
    for name, one in shown(text):
        for plain in texts_of(one):
            assert plain.replace("\n", "").isprintable(), name
            assert "\n# HEAD" not in plain, name


@pytest.mark.parametrize("text", STEERS, ids=ascii)
def test_nothing_of_a_strangers_steers_a_file(text: str, tmp_path: Any) -> None:
    for suffix in (".md", ".csv", ".html"):
        analysis = analysis_of(text)
        analysis.save(tmp_path / f"x{suffix}", analysis.on(card_of(text)))
        saved = (tmp_path / f"x{suffix}").read_bytes().decode()
        assert saved.replace("\n", "").isprintable()
        assert "\n# HEAD" not in saved


@pytest.mark.pytorch
def test_what_verify_shows_is_text_too() -> None:
    from nbanalyzer.generate.check.verification import HEADER, Row, Verification

    assert len(HEADER) == 5
    rows = tuple(Row(f"part.{text}", *VERIFIED[1:]) for text in STEERS)
    found = Verification("own", rows, (), 1, ("", "changed \x1b[31m"))
    assert str(found).replace("\n", "").isprintable()
    assert len(str(found).splitlines()) == 3 + len(rows)  # two lines of heading, and what the other config is


def test_printable() -> None:
    assert printable("plain × – é") == "plain × – é"
    assert printable("a\x1bb\nc\u202ed\ud800e\u00a0f") == "a\ufffdb c\ufffdd\ufffde f"
    assert as_lines(["a\nb", "c"]) == "a b\nc"


# ---- what steers a page


class Page(HTMLParser):
    """The runs of text between tags, which is what front ends search for mathematics, and the classes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.runs: list[str] = []
        self.classes: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        self.classes += [one for name, value in attrs if name == "class" for one in str(value).split()]

    def handle_data(self, data: str) -> None:
        self.runs.append(data)


def is_mathematics(run: str) -> bool:
    """Return whether MathJax finds something to set in a run of text, by the delimiters that Jupyter gives it."""
    return bool(re.search(r"\$.*\$|\\\(.*\\\)|\\\[.*\\\]|\\begin\{|\\ref|\\href", run, re.S))


@pytest.mark.slow
@pytest.mark.parametrize("text", MATHS)
def test_no_page_takes_a_strangers_text_for_mathematics(text: str) -> None:
    assert is_mathematics(text)
    for name, one in shown(text, text):
        html = str(one._repr_mimebundle_().get("text/html", "")) if hasattr(one, "_repr_mimebundle_") else ""
        page = Page(html)
        assert not any(map(is_mathematics, page.runs)), name
        assert html == "" or name in {"sum", "sweep", "sensitivity", "request"} or text in "".join(page.runs), name


def test_text_in_html_is_that_text() -> None:
    nasty = "a<b>&\"'$\\(\\)$"
    assert "".join(Page(f"<p>{escape(nasty)}</p>").runs) == nasty
    assert "<b>" not in escape(nasty)
    assert Page(f'<p class="{as_attribute(nasty)}">').classes == [nasty]


@pytest.mark.parametrize("text", MATHS)
def test_no_markdown_takes_a_strangers_text_for_mathematics(text: str) -> None:
    written = as_markdown(text)
    assert "$" not in written  # JupyterLab looks for it before the Markdown is read
    assert not re.search(r"\\[^|*_`~#\[\]]", written)
    assert r"\\[" not in written
    # After it is read, every $ and \ stands alone; \[ and so on are Markdown's own escapes of what follows.
    runs = Page(re.sub(r"\\([|*_`~#\[\]])", r"\1", written)).runs
    assert not any(map(is_mathematics, runs))
    assert "".join(runs) == text


def test_markdown_escapes_its_own_marks() -> None:
    assert as_markdown("# <b> a|b *c* _d_ `e` ~f~ > [g](h) & i") == (
        r"\# &lt;b&gt; a\|b \*c\* \_d\_ \`e\` \~f\~ &gt; \[g\](h) &amp; i"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a nb-error", '"><b>', "x\ty", "é$", "kv_cache"])
def test_a_states_name_is_one_class_of_the_form(name: str) -> None:
    template = load_model_template(b'{"kernels": []}')
    other = populate({"kernels": [basic()], "state": {name: "8"}}).template
    plain, form = WhatIf(template), WhatIf(other)
    (pages,) = [[Page(panel.headline.value) for panel in (plain._built(), form._built())]]
    before, after = ([one for one in page.classes if one.startswith("nb-")] for page in pages)
    plain.close()
    form.close()
    new = [one for one in after if one not in before]
    assert len(new) == 1
    assert re.fullmatch(r"nb-figure-[A-Za-z0-9_-]+", new[0])
    assert len(after) == len(before) + 3  # the card, its class of its own, its value


@pytest.mark.slow
def test_a_drawing_has_text_that_is_text() -> None:
    """Whatever a name holds, the drawing is well-formed, and nothing in it steers anything."""
    text = "a <b>&\"' $x$ \\(y\\)"
    analysis = analysis_of("".join(STEERS), text)
    for plot in (analysis.plot(), analysis.on(card_of(text)).plot()):
        for drawing in (f"<p>{plot.html()}</p>", plot.svg()):
            root = ElementTree.fromstring(drawing)
            assert all(one.replace("\n", "").isprintable() for one in root.itertext())
            labels = {"".join(one.itertext()) for one in root.iter() if one.tag.endswith("text")}
            assert any(label.endswith(text) for label in labels)


# ---- what steers a spreadsheet


@pytest.mark.parametrize("text", FORMULAS, ids=ascii)
def test_no_spreadsheet_takes_a_strangers_text_for_a_formula(text: str) -> None:
    operation = printable(text)
    analysis = analysis_of(text, operation)
    from nbanalyzer.report.analysis import as_csv

    for roofline in (None, analysis.on("h100-sxm")):
        rows = list(csv.reader(io.StringIO(as_csv(analysis, roofline))))
        cells_ = list(itertools.chain(*rows))
        assert not [cell for cell in cells_ if cell[:1] in {*"=+-@\t\r\n"}]
        assert any(cell.lstrip("'") == operation for cell in cells_)
        assert any(cell == "4" for cell in cells_)  # numbers are numbers still


def test_a_cell() -> None:
    assert [as_cell(one) for one in (-1, 2.5, "-1", "a=1", "")] == [-1, 2.5, "'-1", "a=1", ""]


def test_the_forms_csv_is_no_formula(tmp_path: Any) -> None:
    template = populate({"kernels": [basic()], "state": {"=1+1": "8 * {seq_len}"}}).template
    form = WhatIf(template, phase="request", prompt_len=4, output_len=2)
    form.save(tmp_path / "x.csv")
    form.close()
    names = [row[0] for row in csv.reader(io.StringIO((tmp_path / "x.csv").read_text()))]
    assert "'=1+1" in names
    assert "=1+1" not in names


# ---- what is nothing at all


@pytest.mark.slow
@pytest.mark.parametrize("model", [{"kernels": []}, {"kernels": [{"kernel_type": "composite", "name": "part"}]}])
def test_an_empty_model_has_empty_pictures(model: dict[str, Any]) -> None:
    analysis = populate(model)
    assert analysis.plot().png().startswith(b"\x89PNG")
    assert repr(analysis.plot()) == "FLOPs and bytes by module: template"
    assert analysis.on("h100-sxm").plot().png().startswith(b"\x89PNG")
    assert compare(analysis, analysis).plot().png().startswith(b"\x89PNG")


# ---- text that is none, in plain data

SURROGATES: list[Callable[[str], dict[str, Any]]] = [
    lambda text: {text: 1, "kernels": []},
    lambda text: {"kernels": [], "model_id": text},
    lambda text: {"kernels": [basic() | {"unit": text}]},
    lambda text: {"kernels": [basic() | {"kernel_type": text}]},
    lambda text: {"kernels": [basic() | {text: text}]},
    lambda text: {"kernels": [basic() | {"flops": text}]},
    lambda text: {"kernels": [basic(text)]},
    lambda text: {"kernels": [], "config": {text: text}},
    lambda text: {"kernels": [], "state": {text: "1"}},
    lambda text: {"kernels": [], "provenance": {"attention": text}},
]


@pytest.mark.parametrize("place", range(len(SURROGATES)))
def test_half_a_character_in_plain_data_is_refused(place: int) -> None:
    with pytest.raises(TemplateError) as caught:
        populate(SURROGATES[place]("x\ud800\n"))
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).isprintable()


# ---- forms where no browser is


def test_a_terminal_keeps_one_form_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = InteractiveShell.instance()
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: None)
    monkeypatch.delattr(shell, "get_parent", raising=False)
    before, shown_before = len(_instances), {*lifecycle.SHOWN}
    counts = []
    for _ in range(4):
        WhatIf("gpt2")._ipython_display_()
        counts.append(len(_instances) - before)
    assert counts[0] > 0
    assert len({*counts}) == 1
    for cell in {*lifecycle.SHOWN} - shown_before:
        for form in [*lifecycle.SHOWN[cell][1]]:
            form.close()
    assert len(_instances) == before
