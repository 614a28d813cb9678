"""Pictures as drawings on a page: the page's colours, words on every dot and bar, the same every time."""

from __future__ import annotations

import base64
import itertools
import re
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Polygon
from pictures import PICTURES, html_of, picture, swept

from nbanalyzer import populate, sensitivity
from nbanalyzer.analysis.dots import dots
from nbanalyzer.analysis.link_dots import link_dots
from nbanalyzer.errors import InputError
from nbanalyzer.plots.analysis import BYTES_PARTS, FLOPS_PARTS
from nbanalyzer.plots.colors import COLORS, ORDERED, contrast, ink
from nbanalyzer.plots.figure import Plot, exact, say
from nbanalyzer.plots.svg import panels

Drawing = ElementTree.Element
PAGES = (((1.0, 1.0, 1.0), (0.13, 0.13, 0.13)), ((0.07, 0.07, 0.07), (0.88, 0.88, 0.88)))
"""JupyterLab's, light and dark: the ground, and the text on it."""


def drawings_of(html: str) -> list[Drawing]:
    """Return the drawings of a page, read as strictly as XML is."""
    return [one for one in ElementTree.fromstring(html).iter("svg") if "role" in one.attrib]


def words_of(drawing: Drawing) -> dict[str, Drawing]:
    """Return what is said of shapes → the shape."""
    return {"".join(title.itertext()): shape for shape in drawing.iter() for title in shape.findall("title")}


def texts_of(drawing: Drawing) -> list[tuple[Drawing, dict[str, str]]]:
    """Return the texts, and what they inherit from the group they stand in."""
    found = []
    for group in drawing.iter():
        own = group.attrib if group.tag == "g" else {}
        found += [(text, {**own, **text.attrib}) for text in group.findall("text")]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_a_page_takes_it_anywhere(name: str) -> None:
    """No ids, which would meet those of another drawing, no style sheet, no script; a name for those who do not see."""
    html = html_of(name)
    assert not re.search(r"<(script|style|use|defs|clipPath)|\bid=|xlink|url\(", html)
    assert set(re.findall(r'class="([^"]*)"', html)) == {"tex2jax_ignore mathjax_ignore"}
    for drawing in drawings_of(html):
        assert drawing.attrib["role"] == "img"
        assert drawing.attrib["aria-label"] == repr(picture(name)).splitlines()[0]
        assert "max-width:100%" in drawing.attrib["style"]
    (words,) = ElementTree.fromstring(html).iter("pre")
    assert "".join(words.itertext()) == repr(picture(name))


@pytest.mark.parametrize("name", PICTURES)
def test_it_is_the_same_every_time(name: str) -> None:
    assert picture(name).html() == html_of(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bars", "roofline", "ranks", "lines"])
def test_it_is_the_same_if_it_is_made_again(name: str) -> None:
    assert PICTURES[name]().html() == html_of(name)


@pytest.mark.parametrize("name", ["bars of bytes", "lines", "map", "large map"])
def test_it_is_shorter_than_its_png(name: str) -> None:
    """By a third at least: a notebook grows by neither."""
    assert 1.5 * len(html_of(name)) < len(base64.b64encode(picture(name).png()))


@pytest.mark.parametrize("name", PICTURES)
def test_all_text_is_legible_on_white_and_on_black(name: str) -> None:
    """4.5 : 1 in the page's colour, or in one of its own on a ground of its own."""
    count = 0
    for drawing in drawings_of(html_of(name)):
        for _, style in texts_of(drawing):
            fill, opacity = style.get("fill", "currentColor"), float(style.get("fill-opacity", 1))
            if fill != "currentColor":
                assert name in {"map", "fits"}
                assert fill in {"#fff", "#000001"}
                continue
            count += 1
            for ground, ink_ in PAGES:
                mixed = [opacity * one + (1 - opacity) * other for one, other in zip(ink_, ground, strict=True)]
                assert contrast(mixed, ground) >= 4.5
    assert count > 5


@pytest.mark.parametrize("name", PICTURES)
def test_no_text_lies_on_another(name: str) -> None:
    """In the widest of the fonts that a page may have; drawings shrink as a whole."""
    for drawing in drawings_of(html_of(name)):
        boxes = []
        for text, style in texts_of(drawing):
            size, said = float(style["font-size"]), "".join(text.itertext())
            width, x, y = 0.56 * size * len(said), float(style["x"]), float(style["y"])
            if "transform" in style:  # along the vertical axis
                boxes.append((x - 0.7 * size, y - width / 2, x, y + width / 2, said))
                continue
            left = x - width * {"middle": 0.5, "end": 1.0}.get(style.get("text-anchor", ""), 0.0)
            boxes.append((left, y - 0.7 * size, left + width, y, said))
        for one, other in itertools.combinations(boxes, 2):
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, (one, other)


@pytest.mark.parametrize("name", PICTURES)
def test_at_900_pixels_no_text_is_smaller_than_ten(name: str) -> None:
    """Beside it JupyterLab has its file browser, 300 pixels wide."""
    for drawing in drawings_of(html_of(name)):
        width = float(drawing.attrib["viewBox"].split()[2])
        for _, style in texts_of(drawing):
            assert float(style["font-size"]) * min(1, 590 / width) >= 9.3
            assert float(style["font-size"]) >= 11


def test_panels_stand_where_there_is_room() -> None:
    assert len(drawings_of(html_of("bars"))) == 2
    assert len(drawings_of(html_of("roofline"))) == 2
    assert len(drawings_of(html_of("large map"))) == 1  # with its bar of colours
    assert "flex-wrap:wrap" in html_of("bars")


# ---- what is drawn, and what is said


def extent(path: Drawing) -> tuple[float, float]:
    """Return the left and the right end of a bar: ``M10 20H30V40H10z``."""
    found = re.fullmatch(r"M([\d.]+) [\d.]+H([\d.]+)V[\d.]+(?:H|L)[\d.]+.*z", path.attrib["d"])
    assert found, path.attrib["d"]
    return float(found[1]), float(found[2])


@pytest.mark.parametrize(("panel", "parts"), [(0, FLOPS_PARTS), (1, BYTES_PARTS)])
def test_bars_are_as_long_as_they_say(panel: int, parts: dict[str, tuple[str, str]]) -> None:
    """Their exact numbers are those of the analysis, and their lengths in proportion."""
    analysis = populate("gpt2", seq_len=1024)
    drawing = drawings_of(html_of("bars"))[panel]
    said = {words: shape for words, shape in words_of(drawing).items() if shape.tag == "path"}
    bars: list[tuple[float, float]] = []
    for words, shape in said.items():
        found = re.fullmatch(r"(.*): (\w+) ([\d,.]+) (?:FLOP|B), ([\d.]+) % of all", words)
        assert found, words
        left, right = extent(shape)
        bars.append((float(found[3].replace(",", "")), right - left))
    assert len(bars) >= 8
    number, width = max(bars)
    assert all(abs(one / number * width - wide) <= 0.15 for one, wide in bars)
    texts = [words for words, shape in words_of(drawing).items() if shape.tag == "text"]
    total = sum(Fraction(words.split()[-2].replace(",", "")) for words in texts)
    assert total == sum(getattr(analysis.cost_of_all, attribute) for attribute, _ in parts.values())


@pytest.mark.parametrize("name", ["roofline", "roofline of a step"])
def test_every_dot_says_what_it_is(name: str) -> None:
    model, options, card = (
        ("llama-3.1-8b", {"seq_len": 2048}, "h100-sxm") if name == "roofline"
        else ("gpt2", {"seq_len": 1, "cache_len": 512}, "rtx-4090")
    )  # fmt: skip
    found = dots(populate(model, **options).on(card))  # type: ignore[arg-type]
    left = drawings_of(html_of(name))[0]
    circles = {words: shape for words, shape in words_of(left).items() if shape.tag == "circle"}
    assert len(circles) == len(found)
    for dot in found:
        words = next(words for words in circles if words.startswith(f"{dot.node.path}: "))
        assert f"({dot.time:.6g} s), {100 * dot.share:.1f} % of the time" in words
        assert f"{dot.intensity:.6g} FLOP/B" in words
    hidden = [words for words in circles if "; also here: " in words]
    assert hidden  # layers' products lie on one another
    for words in hidden:
        first, _, others = words.partition("; also here: ")
        dot = next(dot for dot in found if first.startswith(f"{dot.node.path}: "))
        names = {name.rsplit(" ", 2)[0] for name in others.partition(" and ")[0].split(", ")}
        alike = {other.node.path for other in found if abs(other.intensity / dot.intensity - 1) < 0.1}
        assert names <= alike
    # What is further to the right has more FLOPs per byte, and what is higher reaches more FLOP/s.
    for value, key, sign in (("intensity", "cx", 1), ("rate", "cy", -1)):
        places = [
            sign
            * float(next(one for words, one in circles.items() if words.startswith(f"{dot.node.path}: ")).attrib[key])
            for dot in sorted(found, key=lambda dot: getattr(dot, value))
        ]
        assert all(after > before - 0.2 for before, after in itertools.pairwise(places))


def test_every_point_of_a_line_and_every_cell_says_its_number() -> None:
    found = swept()
    lines = words_of(drawings_of(html_of("lines"))[0])
    cells = words_of(drawings_of(html_of("map"))[0])
    assert len(cells) == found.size
    for column, length in enumerate(found.axes["seq_len"]):
        for row, batch in enumerate(found.axes["batch_size"]):
            time, fits = found.arrays["time"][column, row], found.arrays["fits"][column, row]
            end = f"({time:.6g} s){'' if fits else ', does not fit'}"
            assert any(
                words.startswith(f"seq_len {length:,}, batch_size {batch}: ") and words.endswith(end) for words in lines
            )
            assert any(
                words.startswith(f"seq_len {length:,}, batch_size {batch}: ") and words.endswith(end) for words in cells
            )
    assert len(lines) == found.size  # a point that fits is said once


def test_other_pictures_say_their_numbers() -> None:
    linked = words_of(drawings_of(html_of("link"))[0])
    found = link_dots(populate("llama-3.1-8b", seq_len=512).on("h100-sxm"))
    assert [words.partition(":")[0] for words in linked] == [f"tp {dot.tp}" for dot in found]
    assert all(
        f"{100 * dot.share:.1f} % of it in communication" in words for dot, words in zip(found, linked, strict=True)
    )
    elastic = sensitivity("gpt2", "arithmetic_intensity", {"seq_len": 512}).elasticities
    bars = words_of(drawings_of(html_of("elasticities"))[0])
    said = {f"arithmetic_intensity by {name}: {value:.6g} % for 1 %" for name, value in elastic.items() if value}
    assert said == {*bars}
    compared = words_of(drawings_of(html_of("comparison"))[0])
    assert any(", w_bit 16: " in words and words.endswith("does not fit") for words in compared)
    memory, time = (words_of(drawing) for drawing in drawings_of(html_of("ranks")))
    assert any(re.match(r"rank 0 to 1, stage 0: attention [\d,]+ B, ", words) for words in memory)
    assert any(re.match(r"rank 2 to 3, stage 1: link .* s\), ", words) for words in time)


def test_numbers_are_exact() -> None:
    assert exact(1024, "B") == "1,024 B"
    assert exact(0.5, "B") == "0.5 B"
    assert exact(0.00123456789, "s") == "1.235 ms (0.00123457 s)"
    assert exact(3, "") == "3"


def test_lines_and_dots_are_seen_on_white_and_on_black() -> None:
    """3 : 1, as for all that is needed to understand a picture."""
    chosen = [to_rgb(color) for color in COLORS if len(set(to_rgb(color))) > 1]
    chosen += [ORDERED(share)[:3] for share in np.linspace(0, 1, 30)]
    for color in chosen:
        assert all(contrast(color, ground) >= 3 for ground, _ in PAGES), color
    assert contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21)
    assert contrast((1, 0, 0), (1, 1, 1)) == pytest.approx(3.998, abs=0.001)  # W3C's own example


def test_text_on_a_colour_is_legible() -> None:
    for color in itertools.product(np.linspace(0, 1, 12), repeat=3):
        assert contrast(to_rgb(ink(color)), color) >= 4.5


# ---- the drawing itself, by hand


def drawn(figure: Figure) -> Drawing:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    (text,) = panels(figure, "by hand")
    return ElementTree.fromstring(text)


@pytest.fixture
def ax() -> Any:
    """Return axes of 100 by 100 units and as many pixels, 10 from the left and 20 from below, without any frame."""
    figure = Figure(figsize=(2, 2), dpi=100)
    found = figure.add_axes((0.05, 0.1, 0.5, 0.5))
    found.set(xlim=(0, 100), ylim=(0, 100))
    found.set_axis_off()
    return found


def paths(drawing: Drawing) -> list[dict[str, str]]:
    return [path.attrib for path in drawing.iter("path")]


def test_a_line_ends_with_the_axes(ax: Any) -> None:
    ax.plot([-50, 50, 150], [50, 50, 150], color="red", linewidth=1.44)
    (line,) = paths(drawn(ax.figure))
    assert line["d"] == "M10 130H60L110 80"  # from above: 200 - 20 - 50, and 100 more is the edge
    assert (line["stroke"], line["stroke-width"], line["fill"]) == ("#ff0000", "2", "none")


def test_lines_that_look_alike_are_one_path(ax: Any) -> None:
    for height in (25, 75):
        ax.plot([0, 100], [height, height], color="black", linewidth=0.72)
    (line,) = paths(drawn(ax.figure))
    assert line["d"] == "M10 155H110M10 105H110"
    assert line["stroke"] == "currentColor"


@pytest.mark.parametrize(("grey", "opacity"), [("0.2", "0.8"), ("0.75", "0.25"), ("black", None)])
def test_greys_are_shades_of_the_page(ax: Any, grey: str, opacity: str | None) -> None:
    ax.plot([0, 100], [0, 0], color=grey)
    (line,) = paths(drawn(ax.figure))
    assert line["stroke"] == "currentColor"
    assert line.get("stroke-opacity") == opacity


def test_bars_have_words_and_an_edge(ax: Any) -> None:
    long, short = ax.barh([20, 60], [50, 1], height=20, color="#0072B2")
    say(long, "a <b> & $x$")
    say(short, "short")
    drawing = drawn(ax.figure)
    words = words_of(drawing)
    assert [*words] == ["a <b> & $x$", "short"]
    assert extent(words["a <b> & $x$"]) == (10, 60)
    (edged,) = [group for group in drawing.iter("g") if "stroke" in group.attrib]
    assert len(edged) == 1  # a bar of a pixel would be all edge


def test_dots_are_circles_and_stay_inside(ax: Any) -> None:
    found = ax.scatter([0, 50], [0, 50], s=72, color="#D55E00")
    say(found, "corner", "middle")
    drawing = drawn(ax.figure)
    corner, middle = words_of(drawing).values()
    assert (middle.attrib["cx"], middle.attrib["cy"]) == ("60", "130")
    assert float(middle.attrib["r"]) == pytest.approx((72**0.5 / 2) * 100 / 72, abs=0.05)
    (frame,) = [one for one in drawing.iter("svg") if one is not drawing]
    assert frame.attrib["viewBox"] == "10 80 100 100"
    assert list(frame) == [corner]


def test_markers_have_words_and_the_line_has_none(ax: Any) -> None:
    (line,) = ax.plot([20, 40, 60], [20, 40, np.nan], "o-")
    say(line, "one", "two")
    drawing = drawn(ax.figure)
    assert [shape.tag for shape in words_of(drawing).values()] == ["circle", "circle"]
    assert [*words_of(drawing)] == ["one", "two"]


def test_hatches_are_lines_in_the_box(ax: Any) -> None:
    ax.barh([50], [40], height=20, color="#009E73", hatch="///", edgecolor="white", linewidth=0)
    drawing = drawn(ax.figure)
    (frame,) = [one for one in drawing.iter("svg") if one is not drawing]
    assert frame.attrib["viewBox"] == "10 120 40 20"
    assert frame[0].attrib["stroke"] == "#ffffff"


def test_small_images_are_cells_and_large_ones_an_image(ax: Any) -> None:
    ax.imshow([[0, 1]], extent=(0, 100, 0, 50), aspect="auto", interpolation="none", cmap="gray")
    say(ax, "left", "right")
    cells = words_of(drawn(ax.figure))
    assert {words: cell.attrib["d"] for words, cell in cells.items()} == {
        "left": "M10 130H60V180H10z", "right": "M60 130H110V180H60z",
    }  # fmt: skip
    assert [cell.attrib["fill"] for cell in cells.values()] == ["#000000", "#ffffff"]
    ax.images[0].remove()
    ax.imshow(np.arange(10_000).reshape(100, 100), extent=(0, 100, 0, 50), aspect="auto", interpolation="none")
    ax.set_gid(None)
    (image,) = drawn(ax.figure).iter("image")
    assert [image.attrib[key] for key in ("x", "y", "width", "height")] == ["10", "130", "100", "50"]
    assert image.attrib["href"].startswith("data:image/png;base64,")


def test_text_stays_where_it_was_meant_to_be(ax: Any) -> None:
    for side, place in (("left", 0), ("center", 50), ("right", 100)):
        ax.text(place, 50, side, ha=side, va="baseline", fontsize=7.2)
    ax.text(50, 50, "up", rotation=90, ha="center", va="center", color="0.4")
    ax.text(50, 0, "bold", fontweight="bold", color="white")
    drawing = drawn(ax.figure)
    styles = {text.text: style for text, style in texts_of(drawing)}
    for side, anchor, x in (("left", None, 10), ("center", "middle", 60), ("right", "end", 110)):
        assert styles[side].get("text-anchor") == anchor
        assert float(styles[side]["x"]) == pytest.approx(x, abs=1)
        assert float(styles[side]["y"]) == pytest.approx(130, abs=1)
        assert float(styles[side]["font-size"]) == pytest.approx(10)
    assert styles["up"]["transform"].startswith("rotate(-90 ")
    assert styles["up"]["fill-opacity"] == "0.6"
    assert (styles["bold"]["font-weight"], styles["bold"]["fill"]) == ("bold", "#fff")


def test_what_a_person_adds_is_drawn_too(ax: Any) -> None:
    ax.text(10, 10, r"$\frac{a}{b}$")
    ax.add_patch(Ellipse((50, 50), 40, 20, color="#CC79A7"))
    ax.add_patch(Polygon([(0, 0), (50, 100), (100, 0)], facecolor="#E69F00", edgecolor="black", linestyle="--"))
    drawing = drawn(ax.figure)
    assert any("C" in path["d"] for path in paths(drawing))
    assert [path["stroke-dasharray"] for path in paths(drawing) if "stroke-dasharray" in path] != []
    assert not [*drawing.iter("text")]  # mathematics is drawn as shapes


# ---- for programs that want another format


@pytest.mark.slow
def test_formats_are_there_for_those_who_ask() -> None:
    plot = picture("link")
    assert {*plot._repr_mimebundle_()} == {"text/plain", "text/html"}
    bundle = plot._repr_mimebundle_(include=["image/png", "image/svg+xml"])
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert bundle["image/svg+xml"] == plot.svg()


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "begins"), [("svg", b"<svg xmlns="), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_it_is_saved_whole_and_the_same_every_time(tmp_path: Path, suffix: str, begins: bytes) -> None:
    plot = picture("bars")
    plot.save(tmp_path / f"a.{suffix}")
    content = (tmp_path / f"a.{suffix}").read_bytes()
    assert content.startswith(begins)
    plot.save(tmp_path / f"b.{suffix}")
    assert (tmp_path / f"b.{suffix}").read_bytes() == content
    if suffix == "svg":
        texts = [text.text for text in ElementTree.fromstring(content).iter("{http://www.w3.org/2000/svg}text")]
        assert "openai-community/gpt2: batch 1, 1,024 tokens" in texts  # which a page has above the drawing
        assert {"matmul", "weights"} <= {*texts}


def test_another_suffix_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"save as \.svg, \.png, \.pdf"):
        picture("link").save(tmp_path / "a.gif")


def test_a_plot_of_ones_own_is_a_drawing_too() -> None:
    figure = Figure(figsize=(3, 2), dpi=100, layout="constrained")
    figure.subplots().plot([1, 2], [3, 4])
    plot = Plot(figure, "my own\n  in two lines")
    (drawing,) = drawings_of(plot.html())
    assert drawing.attrib["aria-label"] == "my own"
