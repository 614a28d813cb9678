"""Reports: the same every time, aligned, balanced, escaped, and equal to the numbers that they show."""

from __future__ import annotations

import csv
import io
import json
import re
from copy import copy
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NoReturn

import pytest

from nbanalyzer import Analysis, populate
from nbanalyzer.costs.tree import Node
from nbanalyzer.errors import InputError
from nbanalyzer.quantities import si
from nbanalyzer.report.analysis import as_csv, as_fragment, as_html, as_json, as_md, as_text

RUNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("gpt2", {"seq_len": 2048}),
    ("llama-2-7b", {"seq_len": 1, "cache_len": 100, "w_bit": 4}),
    ("qwen3-0.6b", {"seq_len": 7, "batch_size": 3, "attn": "eager", "logits": "last", "w_bit": 5, "a_bit": 3}),
)
VOID = {"meta", "br", "hr", "img", "input", "link"}


@pytest.fixture(params=RUNS, ids=lambda run: str(run[0]))
def analysis(request: pytest.FixtureRequest) -> Analysis:
    name, run = request.param
    return populate(name, **run)


class Page(HTMLParser):
    """Reads HTML and insists that what opens closes, in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "summary":
            assert self.open[-1] == "details"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


# ---- text


@pytest.mark.slow
@pytest.mark.parametrize(("name", "run"), RUNS, ids=lambda value: value if isinstance(value, str) else "")
def test_two_analyses_of_the_same_look_the_same(name: str, run: dict[str, Any]) -> None:
    first, second = populate(name, **run), populate(name, **run)
    for show in (repr, as_text, as_md, as_csv, as_json, as_html, as_fragment):
        assert show(first) == show(second)
    assert "0x" not in repr(first)


def table_lines(text: str) -> list[str]:
    lines = text.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(("  kernel ", "  role ")))
    end = next(index for index, line in enumerate(lines) if index > start and not line)
    return lines[start:end]


def share(analysis: Analysis, node: Node) -> float:
    """The largest of a kernel's shares of FLOPs, bytes and parameters."""
    cost, whole = analysis.cost(node), analysis.cost_of_all
    pairs = ((cost.flops, whole.flops), (cost.bytes, whole.bytes), (cost.parameters, whole.parameters))
    return max(float(part) / float(total) for part, total in pairs if total)


def expected_rows(analysis: Analysis) -> list[tuple[int, str]]:
    """Depth and path of every row: below 0.1 % of everything two or more siblings are one row, with the path ''."""

    def inside(siblings: list[Node]) -> list[tuple[int, str]]:
        alive = [node for node in siblings if not analysis.cost(node).is_empty and not node.is_part]
        small = [node for node in alive if share(analysis, node) < 0.001]
        found = []
        for node in alive:
            if node not in small:
                found += [(node.depth, node.path), *inside(node.children)]
        if len(small) == 1:
            found.append((small[0].depth, small[0].path))
        return found + ([(small[0].depth, "")] if len(small) > 1 else [])

    return inside([node for node in analysis.nodes if node.parent is None])


def test_the_columns_of_the_text_are_right_aligned(analysis: Analysis) -> None:
    heading, *rows, total = table_lines(as_text(analysis))
    # "%" and others stand under no heading of their own width: the right edge is what is shared.
    edges = [match.end() for match in re.finditer(r"\S+", heading)][1:]
    assert len(edges) == 7
    for (depth, _), row in zip(expected_rows(analysis), rows, strict=True):
        assert row == row.rstrip()
        assert re.match(r" *", row)[0] == "  " + "  " * depth  # type: ignore[index]
    first_column = max(len(re.match(r" *\S+(?: \S+)*", row)[0]) for row in (*rows, total))  # type: ignore[index]
    for row in (*rows, total):
        for cell in re.finditer(r"tied to \w+|\S+(?: [kMBGTPEZY](?= |$))?", row[first_column:]):
            assert cell.end() + first_column in edges


def test_the_text_has_a_row_per_module_and_the_exact_totals(analysis: Analysis) -> None:
    text = as_text(analysis)
    assert len(table_lines(text)) == 1 + len(expected_rows(analysis)) + 1
    for metric in ("flops", "matmul_flops", "parameters", "kv_cache_bytes"):
        assert f"{analysis.totals[metric]:,}" in text
    assert analysis.template.model_id in text
    assert f"seq_len {analysis.run.seq_len}" in text
    for name, value in analysis.conventions.items():
        assert f"{name} {value}" in text
    assert all(f"warning: {warning}" in text for warning in analysis.warnings)
    assert text.isprintable() or all(line.isprintable() for line in text.splitlines())


def test_the_text_can_be_cut_at_a_depth() -> None:
    analysis = populate("gpt2", seq_len=16)
    analysis.depth = 1
    rows = table_lines(as_text(analysis))
    assert [row.split()[0] for row in rows] == ["kernel", "transformer", "lm_head", "total"]


def test_percentages_are_shares_of_the_whole() -> None:
    kernels = [
        {"kernel_type": "basic", "operation": name, "unit": "vector", "flops": flops,
         "memory_access": {"read": read, "write": "0"}}
        for name, flops, read in (("three", "3", "1"), ("five", "5", "7"))
    ]  # fmt: skip
    rows = table_lines(as_text(populate({"model_id": "own", "kernels": kernels})))
    # of 8 FLOPs and 8 bytes
    assert rows[1].split() == ["three", "1", "3", "37.5", "1", "12.5", "3"]
    assert rows[2].split() == ["five", "1", "5", "62.5", "7", "87.5", "0.7143"]
    assert rows[3].split() == ["total", "8", "100.0", "8", "100.0", "1"]


# ---- HTML


def unfolded(analysis: Analysis, depth: int) -> str:
    analysis = copy(analysis)
    analysis.depth = depth
    return as_fragment(analysis)


def test_the_html_is_balanced_and_passive(analysis: Analysis) -> None:
    for html in (as_fragment(analysis), as_html(analysis), unfolded(analysis, 3)):
        page = Page(html)
        assert not {"script", "link", "iframe", "img", "form"} & set(page.tags)
        assert page.tags.count("style") <= 1  # of the rows that fold
        names = {name for name, _ in page.attributes}
        assert not {name for name in names if name.startswith("on")} | {"id", "href", "src"} & names
        assert "&lt;script" not in html
        assert all("url(" not in (value or "") for name, value in page.attributes if name == "style")


def test_the_html_has_a_row_per_kernel_that_unfolds_to_its_derivation() -> None:
    analysis = populate("gpt2", seq_len=2048)
    page = Page(as_fragment(analysis))
    leaves = [node for node in analysis.modules() if not analysis.cost(node).is_empty]
    # Leaves, the row of the two small ones, the legend, and transformer, h, attn, mlp, which fold.
    assert page.tags.count("details") == page.tags.count("summary") == len(leaves) + 1 + 1 + 4
    text = "".join(page.text)
    assert "h × 12" in text
    assert "position ids: count 1, bytes 16.38 k" in text  # 8 * 2048: int64
    assert "position ids after the cache: count 1, bytes 32.77 k" in text  # read and written
    assert "2 * {num_tokens} * {input_size} * {output_size}" in text
    assert "2 * 1 * 2048 * 768 * 3 * 768" in text
    assert f"{2 * 2048 * 768 * 3 * 768:,}" in text
    assert "warning: cache_len + seq_len = 2,048 tokens" in text


def test_a_number_stays_with_its_prefix() -> None:
    """A narrow page breaks no cell into lines."""
    page = Page(as_fragment(populate("gpt2", seq_len=2048)))
    cells = [text for text in page.text if re.fullmatch(r"[\d.]+\s[kMGT]", text)]
    assert len(cells) > 40
    assert not [text for text in cells if " " in text]


def test_more_depth_shows_more() -> None:
    analysis = populate("gpt2", seq_len=16)
    rows = [Page(unfolded(analysis, depth)).tags.count("tr") for depth in (1, 2, 3, 4)]
    assert rows == sorted(set(rows))


def cells_of(html: str) -> list[list[tuple[str, str | None, str]]]:
    """Return the rows of the largest table, of each its cells: tag, scope, text; as a screen reader has them."""

    class Tables(HTMLParser):
        def __init__(self) -> None:
            super().__init__(convert_charrefs=True)
            self.rows: list[list[tuple[str, str | None, str]]] = []
            self.hidden = 0  # divisions inside a cell: what is folded
            self.is_row = False

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "tr":
                self.rows.append([])
                self.is_row = True
            elif tag in {"td", "th"} and not self.hidden:
                self.rows[-1].append((tag, dict(attrs).get("scope"), ""))
            self.hidden += tag == "div" and self.is_row

        def handle_endtag(self, tag: str) -> None:
            self.hidden -= tag == "div" and bool(self.hidden)
            self.is_row = self.is_row and tag != "tr"

        def handle_data(self, data: str) -> None:
            if self.is_row and self.rows[-1] and not self.hidden:
                tag, scope, text = self.rows[-1][-1]
                self.rows[-1][-1] = (tag, scope, text + data)

    reader = Tables()
    reader.feed(html)
    return reader.rows


def test_the_table_is_one_for_those_who_hear_it_and_without_styles(analysis: Analysis) -> None:
    """Every row begins with a heading of its own, every column has one, and each number stands in a cell."""
    rows = cells_of(re.sub(r' style="[^"]*"', "", as_fragment(analysis)))
    head = next(index for index, row in enumerate(rows) if row and row[0][1] == "col")
    assert [text.replace("\xa0", " ") for _, _, text in rows[head]] == [
        "kernel", "count", "parameters", "FLOPs", "% of FLOPs", "bytes", "% of bytes", "FLOP/B",
    ]  # fmt: skip
    assert {(tag, scope) for tag, scope, _ in rows[head]} == {("th", "col")}
    expected = expected_rows(analysis)
    body = rows[head + 1 : head + 1 + len(expected) + 1]
    assert body[-1][0][2] == "total"
    for row in body:
        assert [(tag, scope) for tag, scope, _ in row] == [("th", "row"), *[("td", None)] * 7]
    plain = table_lines(as_text(analysis))[1:]
    for row, line in zip(body, plain, strict=True):
        assert "".join(text for _, _, text in row).replace("\xa0", "").replace(" ", "") == line.replace(" ", "")


def test_the_page_stands_alone() -> None:
    html = as_html(populate("gpt2", seq_len=16))
    assert html.startswith("<!doctype html>")
    assert '<meta charset="utf-8">' in html
    assert Page(html.partition("<main>")[0] + "</body></html>").tags.count("title") == 1  # those of a picture are words


@pytest.mark.slow
def test_the_page_has_the_picture_of_what_it_shows(tmp_path: Path) -> None:
    analysis = populate("gpt2", seq_len=16)
    roofline = analysis.on("h100-sxm")
    for result, place in ((analysis, tmp_path / "bars.html"), (roofline, tmp_path / "roofline.html")):
        result.save(place)
        saved = place.read_text(encoding="utf-8")
        assert result.plot().html() in saved
    assert "<svg" not in as_fragment(analysis)  # in a notebook the picture is asked for


def test_what_a_notebook_gets() -> None:
    analysis = populate("gpt2", seq_len=16)
    bundle = analysis._repr_mimebundle_()
    assert list(bundle) == ["text/plain", "text/html"]
    assert bundle["text/plain"] == repr(analysis) == as_text(analysis)
    Page(bundle["text/html"])
    explained = analysis.explain("h.attn.c_attn")._repr_mimebundle_()
    assert list(explained) == ["text/plain", "text/html"]
    Page(explained["text/html"])


NASTY = "<b>&\"'|*_`\\"


@pytest.fixture
def nasty() -> Analysis:
    access = {"read": "1", "write": "0"}
    kernel = {"kernel_type": "basic", "operation": NASTY, "unit": "matmul", "flops": "1", "memory_access": access}
    return populate({"model_id": NASTY, "architecture": NASTY, "state": {NASTY: "1"}, "kernels": [kernel]})


def test_everything_is_escaped_in_html(nasty: Analysis) -> None:
    for html in (as_fragment(nasty), as_html(nasty)):
        page = Page(html)
        assert page.tags.count("b") == 2  # the title's own, and the sentence's
        assert NASTY in "".join(page.text)


def test_everything_is_escaped_in_markdown(nasty: Analysis) -> None:
    rows = [line for line in as_md(nasty).splitlines() if line.startswith("| ") and "---" not in line]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 9 for row in rows)
    assert "<b>" not in as_md(nasty)


def test_everything_is_quoted_in_csv(nasty: Analysis) -> None:
    (row,) = list(csv.DictReader(io.StringIO(as_csv(nasty))))
    assert row["kernel"] == NASTY


# ---- Markdown, CSV, JSON


def test_the_markdown_has_a_row_per_module_of_as_many_cells(analysis: Analysis) -> None:
    lines = as_md(analysis).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + len(expected_rows(analysis)) + 1
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {9}
    assert lines[0].startswith("# ")


def test_the_csv_is_the_table(analysis: Analysis) -> None:
    frame = analysis.table()
    rows = list(csv.DictReader(io.StringIO(as_csv(analysis))))
    assert [row["kernel"] for row in rows] == list(frame.index)
    assert list(rows[0]) == ["kernel", *frame.columns]
    for name in frame.columns:
        numeric = name not in {"kernel_type", "module", "unit"}
        found = [float(row[name]) if numeric else row[name] for row in rows]
        assert found == list(frame[name])
    for row in rows:
        assert re.fullmatch(r"\d+(\.\d+)?", row["flops"])


def test_the_json_is_the_tree(analysis: Analysis) -> None:
    assert json.loads(as_json(analysis)) == analysis.tree
    assert as_json(analysis).endswith("}\n")
    flops = [kernel["total"]["flops"] for kernel in analysis.tree["kernels"]]
    assert sum(flops) == analysis.tree["totals"]["flops"] == analysis.totals["flops"]


# ---- with times


def test_times_are_three_columns_more(analysis: Analysis) -> None:
    roofline = analysis.on("b200-sxm")
    rows = [line for line in as_md(analysis, roofline).splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {9 + 3}
    heading, *lines = table_lines(as_text(analysis, roofline))
    assert len(lines) == len(rows) - 2
    assert heading.split()[-3:] == ["time", "%", "bound"]
    edges = {len(row) for row in lines if row.split()[-1] in {"memory", "compute"}}
    assert edges == {len(heading)}
    reader = csv.DictReader(io.StringIO(as_csv(analysis, roofline)))
    assert (reader.fieldnames or [])[-3:] == ["time", "bound", "share"]


def test_the_html_with_times_is_balanced_and_passive(analysis: Analysis) -> None:
    roofline = analysis.on("b200-sxm")
    for html in (as_fragment(analysis, roofline), as_html(analysis, roofline)):
        page = Page(html)
        assert not {"script", "link", "iframe", "img", "form"} & set(page.tags)
        assert "at the roofline, operation by operation: no bound" in "".join(page.text)
        assert roofline.answer in "".join(page.text)
        assert "at least" not in "".join(page.text)
        assert roofline.sentence in "".join(page.text)
        assert "NVIDIA B200" in "".join(page.text)


def test_without_hardware_nothing_is_said_of_time(analysis: Analysis) -> None:
    for show in (as_text, as_md, as_fragment, as_json, as_csv):
        assert "bound" not in show(analysis)


# ---- saving


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "show"), [(".json", as_json), (".csv", as_csv), (".md", as_md), (".html", as_html), (".HTML", as_html)]
)
def test_an_analysis_is_saved_as_its_suffix_says(suffix: str, show: Any, tmp_path: Path) -> None:
    analysis = populate("gpt2", seq_len=16)
    path = tmp_path / "new" / f"x{suffix}"
    with pytest.raises(InputError, match="cannot be written: No such file or directory"):
        analysis.save(path)  # a folder that is not there is a slip, likely
    path.parent.mkdir()
    analysis.save(path)
    analysis.save(str(path))
    assert path.read_text(encoding="utf-8") == show(analysis)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["x.txt", "x", ".json.bak", "x.", "", "x.jsonl"])
def test_another_suffix_is_an_input_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"save as \.json, \.csv, \.md, \.html"):
        populate("gpt2").save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    analysis = populate("gpt2")
    for path in (tmp_path / "file" / "x.json", tmp_path / "folder.json", tmp_path / ("x" * 300 + ".json")):
        with pytest.raises(InputError, match="cannot be written") as caught:
            analysis.save(path)
        assert len(str(caught.value).splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.json"]


def test_saving_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    path = tmp_path / "x.json"
    path.write_text("before")
    analysis = populate("gpt2")
    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(InputError, match="No space left on device"):
        analysis.save(path)
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["x.json"]


# ---- numbers in words


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1000, "1.000 k"),
        (1001, "1.001 k"),
        (1536, "1.536 k"),
        (12_345, "12.35 k"),
        (99_994, "99.99 k"),
        (123_456, "123.5 k"),
        (999_949, "999.9 k"),
        (999_951, "1.000 M"),
        (124_439_808, "124.4 M"),
        (9_999_400, "9.999 M"),
        (9_999_600, "10.00 M"),
        (660_606_025_728, "660.6 G"),
        (10**12, "1.000 T"),
        (10**15, "1.000 P"),
        (10**18, "1.000 E"),
        (10**21, "1.000 Z"),
        (10**24, "1.000 Y"),
        (0.5, "0.5"),
        (2.5, "2.5"),
        (Fraction(1, 3), "0.3333"),
        (Fraction(3_000, 2), "1.500 k"),
    ],
)
def test_si(number: int | float | Fraction, text: str) -> None:
    assert si(number) == text


# ---- a rank of several devices


def test_files_of_a_rank_say_what_it_sends(tmp_path: Path) -> None:
    """All-reduces of the stream over tp, weights gathered over fsdp; the last stage gathers its logits."""
    rank = populate("llama-3.1-8b", seq_len=16, tp=2, pp=2, fsdp=2)
    stream = 16 * 4096 * 2
    found = json.loads(as_json(rank))
    assert found["devices"] == rank.devices
    assert found["devices"].startswith("the busiest of 8 devices (tp 2, pp 2, fsdp 2)")
    sent = [one for one in _basics(found["kernels"]) if one["unit"] == "link"]
    assert {(one["collective"], one["group"]) for one in sent} == {
        ("all_reduce", "tp"), ("all_gather", "fsdp"), ("all_gather", "tp"),
    }  # fmt: skip
    assert {one["payload"] for one in sent if one["group"] == "tp" and one["collective"] == "all_reduce"} == {stream}
    assert all("payload" not in one for one in _basics(found["kernels"]) if one["unit"] != "link")
    assert found["totals"]["payload_bytes"] == rank.totals["payload_bytes"]

    rows = [*csv.DictReader(io.StringIO(as_csv(rank)))]
    links = [row for row in rows if row["unit"] == "link"]
    assert {(row["collective"], row["group"]) for row in links} == {(one["collective"], one["group"]) for one in sent}
    assert sum(float(row["payload_bytes"]) for row in links) == rank.totals["payload_bytes"]
    assert all(row["collective"] == row["group"] == "" for row in rows if row["unit"] != "link")

    for text in (as_md(rank), as_html(rank), as_text(rank)):
        assert "the busiest of 8 devices (tp 2, pp 2, fsdp 2)" in text
        assert "payload" in text
        assert re.search(r"\b\d+ all-reduces \(tp\)", text)
        assert re.search(r"\b\d+ all-gathers \(fsdp\)", text)
    for suffix in ("json", "csv", "md", "html"):
        rank.save(tmp_path / f"a.{suffix}")
    assert json.loads((tmp_path / "a.json").read_text()) == found
    assert (tmp_path / "a.csv").read_text() == as_csv(rank)


def test_files_of_a_rank_on_hardware_say_where_it_is() -> None:
    roofline = populate("llama-3.1-8b", seq_len=16, tp=8).on("h100-sxm", nodes=2, overlap=0.25)
    found = json.loads(as_json(roofline.analysis, roofline))
    assert found["roofline"]["communication"] == {"nodes": 2, "overlap": 0.25}
    assert 0 < found["roofline"]["link"] < found["roofline"]["time"]
    for text in (as_md(roofline.analysis, roofline=roofline), as_html(roofline.analysis, roofline)):
        assert "over 2 nodes, 25 % of the communication is hidden behind the rest" in text


def test_files_of_one_device_say_nothing_of_several() -> None:
    one = populate("gpt2", seq_len=16)
    found = json.loads(as_json(one, one.on("h100-sxm")))
    assert "devices" not in found
    assert "communication" not in found["roofline"]
    heads = as_csv(one).partition("\n")[0].split(",")
    assert {"collective", "group", "payload_bytes"}.isdisjoint(heads)


def _basics(kernels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for kernel in kernels:
        found += [kernel] if kernel["kernel_type"] == "basic" else _basics(kernel["sub_kernels"])
    return found


def test_an_explanation_has_its_formulas_in_symbols() -> None:
    """As MathML, which a browser sets by itself; the table has them as text, which many rows share the room of."""
    analysis = populate("gpt2", seq_len=8)
    html = analysis.explain("c_attn")._repr_mimebundle_()["text/html"]
    # 2 * B * S * d_model * 3 d_model multiply-adds of the product.
    assert "<math" in html
    assert html.count("<msub><mi>d</mi><mi>model</mi></msub>") >= 2
    assert "2 * {batch_size} * {seq_len} * {hidden_size} * 3 * {hidden_size}" in html
    assert "<math" not in analysis._repr_mimebundle_()["text/html"]
    total, *parts = analysis.explain("matmul_flops")._repr_mimebundle_()["text/html"].split("lm_head (head): ")
    assert "<math" not in total  # a sum of names
    assert "<mi>V</mi></math>" in parts[0]
