"""Pictures of sweeps: what they show, in which scale, and what they say in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation

from nbanalyzer import populate, sensitivity, sweep
from nbanalyzer.errors import InputError, NBAnalyzerError, UnknownNameError
from nbanalyzer.plots.sensitivity import elasticity_chart
from nbanalyzer.plots.sweep import MOST_LINES, MOST_POINTS, heatmap, line_chart
from nbanalyzer.report.sweep import fragment
from nbanalyzer.sweeps.sweep import Sweep

PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def found() -> Sweep:
    return sweep(
        "llama-3.1-8b", seq_len=[128, 32768, 1024, 8192], batch_size=[1, 8, 64], w_bit=4, hardware="h100-sxm",
        metrics=["time", "tokens_per_s", "fits", "parameters"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def cube() -> Sweep:
    return sweep(
        "gpt2", seq_len=[1, 2, 3], batch_size=[1, 2], w_bit=[16, 4], hardware=["h100-sxm", "rtx-4090"], metrics="time"
    )


def lines_of(figure: Figure) -> dict[str, tuple[list[float], list[float]]]:
    """Return label → (x, y); the labels stand at the lines' ends, each beside a piece of its line's colour.

    A line that does not fit somewhere is drawn broken, and over it what fits.
    """
    (ax,) = figure.axes
    found: dict[str, Any] = {}
    for line in reversed(ax.lines):
        name = next((name for name, color in names_of(figure).items() if color == to_rgba(line.get_color())), "")
        found[name] = (list(line.get_xdata()), list(line.get_ydata()))  # type: ignore[arg-type]
    return dict([*found.items()][::-1])


def names_of(figure: Figure) -> dict[str, Any]:
    """Return label → the colour of the piece of line beside it."""
    (ax,) = figure.axes
    keys = {round(key.get_y() + key.get_height() / 2, 6): key for key in ax.patches if isinstance(key, Rectangle)}
    texts = {round(float(text.xy[1]), 6): text.get_text() for text in ax.texts if isinstance(text, Annotation)}
    return {texts[height]: key.get_facecolor() for height, key in keys.items()}


def test_lines_show_the_numbers_in_order(found: Sweep) -> None:
    plot = found.plot()
    assert plot.png().startswith(PNG)
    lines = lines_of(plot.figure)
    assert list(lines) == ["1", "8", "64"]
    for batch, (xs, ys) in lines.items():
        assert xs == [128, 1024, 8192, 32768]
        exact = [populate("llama-3.1-8b", seq_len=x, batch_size=int(batch), w_bit=4).on("h100-sxm").time for x in xs]
        assert ys == pytest.approx(exact, rel=1e-12)


def test_the_text_is_the_picture_in_words(found: Sweep) -> None:
    assert repr(found.sel(batch_size=8).plot("tokens_per_s")) == repr(found.sel(batch_size=8).plot("tokens_per_s"))
    assert repr(found.plot("fits")) == (
        "fits along seq_len: meta-llama/Llama-3.1-8B\n"
        "  w_bit 4, hardware h100-sxm\n"
        "  seq_len  batch_size 1    8   64\n"
        "      128           yes  yes  yes\n"
        "    1,024           yes  yes  yes\n"
        "    8,192           yes  yes   no\n"
        "   32,768           yes   no   no"
    )
    assert repr(found.heatmap("fits")) == (
        "fits over batch_size and seq_len: meta-llama/Llama-3.1-8B\n"
        "  w_bit 4, hardware h100-sxm\n"
        "  batch_size \\ seq_len  128  1,024  8,192  32,768\n"
        "                     1  yes    yes    yes     yes\n"
        "                     8  yes    yes    yes      no\n"
        "                    64  yes    yes     no      no"
    )


@pytest.mark.parametrize(
    ("metric", "said"),
    [("time", "time (at the roofline)"), ("tokens_per_s", "tokens_per_s (at the roofline)"), ("fits", "fits"), ("parameters", "parameters")],
)  # fmt: skip
def test_the_title_says_what_and_at_what(found: Sweep, metric: str, said: str) -> None:
    for plot in (found.plot(metric), found.heatmap(metric)):
        title = plot.figure.axes[0].get_title(loc="left").removesuffix(", dashed: does not fit")
        assert (
            title.removesuffix(", hatched: does not fit")
            == f"meta-llama/Llama-3.1-8B: {said}\nw_bit 4, hardware h100-sxm"
        )


@pytest.mark.parametrize(("metric", "said"), [("time", "lower bound"), ("tokens_per_s", "upper bound")])
def test_only_times_of_fused_kernels_are_called_bounds(metric: str, said: str) -> None:
    for fusion in (["none", "engine"], "none", "engine", ["engine"]):
        part = sweep("gpt2", seq_len=[1, 2], fusion=fusion, hardware="h100-sxm", metrics=metric)
        is_bound = fusion in {"engine"} if isinstance(fusion, str) else fusion == ["engine"]
        titles = f"{part.plot(metric).figure.axes[0].get_title(loc='left')}{part.plot(metric)!r}"
        assert (f"({said})" in titles, f", {said}" in titles) == (is_bound, is_bound)
        assert ("at the roofline" in titles) == (not is_bound)
    both = sweep("gpt2", seq_len=[1, 2], fusion=["none", "engine"], hardware="h100-sxm", metrics=metric)
    assert said in repr(both.sel(fusion="engine").plot())
    assert said not in repr(both.sel(fusion="none").plot())


@pytest.mark.parametrize("metric", ["time", "tokens_per_s"])
def test_what_does_not_fit_is_broken_hatched_and_signed(found: Sweep, metric: str) -> None:
    """Where `fits` is false, which the sweep has as a metric too."""
    plot = found.plot(metric)
    order = np.argsort(found.axes["seq_len"])
    fits = np.asarray(found.arrays["fits"])[order]  # seq_len, batch_size
    assert 0 < fits.sum() < fits.size
    for index, batch in enumerate(found.axes["batch_size"]):
        own = names_of(plot.figure)[f"{batch}"]
        drawn = [line for line in plot.figure.axes[0].lines if to_rgba(line.get_color()) == own]
        assert len(drawn) == (1 if fits[:, index].all() else 2)
        assert (~np.isnan(np.asarray(drawn[-1].get_ydata(), dtype=float))).tolist() == fits[:, index].tolist()
    assert "dashed: does not fit" in plot.figure.axes[0].get_title(loc="left")
    signs = [["✗" in cell for cell in re.split(r"  +", line.strip())[1:]] for line in repr(plot).splitlines()[-4:]]
    assert (~np.asarray(signs)).tolist() == fits.tolist()

    drawing = found.heatmap(metric)
    ax = drawing.figure.axes[0]
    assert "hatched: does not fit" in ax.get_title(loc="left")
    (hatched,) = ax.collections
    assert isinstance(hatched, PatchCollection)
    assert hatched.get_hatch()
    boxes = [path.get_extents() for path in hatched.get_paths()]
    at = [[any(box.contains(x, y) for box in boxes) for x in range(fits.shape[0])] for y in range(fits.shape[1])]
    assert (~np.asarray(at)).tolist() == fits.T.tolist()
    assert sum("✗" in text.get_text() for text in ax.texts) == (~fits).sum()
    assert not found.heatmap("parameters").figure.axes[0].collections


def test_cells_of_a_table_that_do_not_fit_are_hatched(found: Sweep) -> None:
    part = found.sel(batch_size=64)
    html = str(
        fragment(Sweep(part.model, part.axes, ("time",), part.fixed, part.arrays, (), part.fitting))["text/html"]
    )
    assert html.count("repeating-linear-gradient") == (~part.arrays["fits"]).sum() == html.count(" ✗</td>")
    assert "✗ does not fit" in html
    assert "does not fit)" in repr(part)


def test_with_efficiencies_a_time_is_no_bound() -> None:
    plot = sweep("gpt2", seq_len=[1, 2], hardware="h100-sxm", metrics="time", launch_overhead=1e-5).plot()
    title = plot.figure.axes[0].get_title(loc="left")
    assert "time (assumed)" in title
    assert "launch_overhead 1e-05" in title


@pytest.mark.parametrize(
    ("lengths", "scale"),
    [([1, 2, 30], "linear"), ([1, 2, 40], "log"), ([100, 3200], "log"), ([0, 1000], "linear"), ([1, 1000, 4], "log")],
)
def test_what_spans_decades_is_logarithmic(lengths: list[int], scale: str) -> None:
    found = sweep("gpt2", seq_len=1, cache_len=lengths, metrics="kv_bytes_read")
    ax = found.plot().figure.axes[0]
    assert ax.get_xscale() == scale
    numbers = found.arrays["kv_bytes_read"]
    assert ax.get_yscale() == ("log" if numbers.max() > 31.6 * numbers.min() else "linear")


def test_few_values_are_the_ticks() -> None:
    ax = sweep("gpt2", seq_len=[128, 1024, 8192], metrics="flops").plot().figure.axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["128", "1,024", "8,192"]


def test_units_are_engineers(found: Sweep) -> None:
    figure = found.plot("time").figure
    figure.canvas.draw()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert any(re.fullmatch(r"\d+ ms", label) for label in labels)
    figure = found.plot("tokens_per_s").figure
    assert figure.axes[0].get_ylabel() == "tokens_per_s, tokens/s"


def test_labels_do_not_cover_each_other() -> None:
    plot = sweep("llama-3.1-8b", seq_len=[1, 10], num_kv_heads=[1, 2, 4, 8, 16, 32], metrics="flops").plot(
        hue="num_kv_heads"
    )
    heights = sorted(float(text.xy[1]) for text in plot.figure.axes[0].texts)
    assert len(heights) == 7  # the axis' name above them
    assert min(np.diff(heights)) > 0.05


@pytest.mark.slow
def test_of_many_values_eight_are_drawn_and_the_picture_says_so() -> None:
    found = sweep("gpt2", seq_len=range(1, 3_000), batch_size=range(1, 101), metrics="flops")
    plot = found.plot()
    lines = lines_of(plot.figure)
    assert len(lines) == MOST_LINES == 8
    assert {"1", "100"} <= set(lines)
    assert all(len(xs) == MOST_POINTS and xs[0] == 1 and xs[-1] == 2_999 for xs, _ in lines.values())
    assert "  8 of 100 values of batch_size" in repr(plot).splitlines()
    assert "8 of 100 values of batch_size" in plot.figure.axes[0].get_title(loc="left")
    assert heatmap(found).png().startswith(PNG)


def test_a_map_shows_the_numbers(found: Sweep) -> None:
    figure = found.heatmap("tokens_per_s").figure
    (image,) = figure.axes[0].images
    expected = found.arrays["tokens_per_s"][np.argsort(found.axes["seq_len"])].T
    assert np.array_equal(np.asarray(image.get_array()), expected)
    assert len(figure.axes[0].texts) == found.size
    swapped = found.heatmap("tokens_per_s", x="batch_size").figure
    assert np.array_equal(np.asarray(swapped.axes[0].images[0].get_array()), expected.T)


def test_what_fits_has_two_colours(found: Sweep) -> None:
    ax = found.heatmap("fits").figure.axes[0]
    assert set(np.unique(np.asarray(ax.images[0].get_array()))) == {0, 1}
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["fits", "does not fit"]


def test_words_are_axes_of_maps_and_hues(cube: Sweep) -> None:
    part = cube.sel(batch_size=1, w_bit=4)
    figure = part.heatmap().figure
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["h100-sxm", "rtx-4090"]
    assert list(lines_of(part.plot().figure)) == ["h100-sxm", "rtx-4090"]
    assert figure.axes[0].yaxis_inverted()


def test_a_large_map_has_a_bar_of_colours() -> None:
    figure = sweep("gpt2", seq_len=range(1, 200), batch_size=range(1, 100), metrics="bytes").heatmap().figure
    assert len(figure.axes) == 2
    assert figure.axes[1].get_ylabel() == "bytes"


def test_evenly_spaced_values_have_round_ticks() -> None:
    found = sweep("gpt2", seq_len=range(128, 32769, 128), batch_size=range(1, 100), metrics="bytes")
    ax = found.heatmap().figure.axes[0]
    texts = {text.get_text(): place for text, place in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True)}
    assert texts["10,000"] == (10_000 - 128) / 128
    assert all(int(text.replace(",", "")) % 1000 == 0 for text in texts)


def test_a_lazy_sweep_is_computed_where_it_is_drawn() -> None:
    options: dict[str, Any] = {"seq_len": range(1, 50), "batch_size": [4, 1], "metrics": "flops"}
    eager, lazy = sweep("gpt2", **options), sweep("gpt2", chunks=10, **options)
    assert repr(lazy.plot()) == repr(eager.plot())
    assert repr(lazy.heatmap()) == repr(eager.heatmap())


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda s: s.plot(), InputError, "the axes batch_size and w_bit and hardware are left over"),
        (lambda s: s.sel(w_bit=4).plot(hue="hardware"), InputError, "the axis batch_size is left over: lines have x and hue, so hold the rest at one value, as sel(batch_size=1) does"),
        (lambda s: s.sel(w_bit=4).heatmap(), InputError, "sel(hardware='h100-sxm')"),
        (lambda s: s.plot("nope"), UnknownNameError, "no metric of this sweep named 'nope'"),
        (lambda s: s.plot(x="nope"), UnknownNameError, "no axis named 'nope'"),
        (lambda s: s.plot(hue="nope"), UnknownNameError, "no axis named 'nope'"),
        (lambda s: s.plot(x="hardware"), InputError, "lines run along an axis of numbers, and hardware has 'h100-sxm'"),
        (lambda s: s.plot(x="w_bit", hue="w_bit"), InputError, "w_bit cannot be along the lines and tell them apart"),
        (lambda s: s.sel(seq_len=1, batch_size=1, w_bit=4).plot(), InputError, "lines need an axis of numbers"),
        (lambda s: s.heatmap(x="w_bit", y="w_bit"), InputError, "w_bit cannot be both sides of a map"),
        (lambda s: s.heatmap(y="nope"), UnknownNameError, "no axis named 'nope'"),
        (lambda s: s.heatmap("nope"), UnknownNameError, "no metric of this sweep named 'nope'"),
        (lambda s: s.sel(seq_len=1, batch_size=1, w_bit=4).heatmap(), InputError, "a map has two axes, and this sweep has hardware"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_one_line(
    cube: Sweep, ask: Callable[[Sweep], Any], kind: type[NBAnalyzerError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        ask(cube)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- what a sweep shows of itself


def test_the_fragment(cube: Sweep) -> None:
    bundle = cube._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/plain"] == repr(cube)
    html = bundle["text/html"]
    assert html == fragment(cube)["text/html"]
    assert "time (at the roofline), w_bit 16, hardware h100-sxm" in html
    assert html.count("<tr>") == 1 + 2  # batch sizes below, sequence lengths across
    assert not re.search(r"<(script|style|svg|img)|\bid=|\bclass=|(?<!-)color:(?!inherit)", html)


def test_the_first_picture_is_of_what_changes() -> None:
    found = sweep("gpt2", seq_len=[1, 2], metrics=["parameters", "flops"])
    assert ">flops<" in str(fragment(found)["text/html"])


def test_words_alone_are_a_table_and_a_point_is_neither() -> None:
    assert set(fragment(sweep("gpt2", attn=["sdpa", "eager"], metrics="bytes"))) == {"text/html"}
    assert fragment(sweep("gpt2", metrics="bytes")) == {}
    assert fragment(sweep("gpt2", seq_len=[1, 2], metrics="bytes", chunks="auto")) == {}


def test_names_are_escaped() -> None:
    found = Sweep("<b>$x$", {"seq_len": (1, 2)}, ("flops",), {"model": "<i>"}, {"flops": np.array([1.0, 2.0])})
    assert "<b>$x$" not in str(fragment(found)["text/html"])
    assert "<i>" not in str(fragment(found)["text/html"])
    assert line_chart(found).png().startswith(PNG)


def test_elasticities_are_bars() -> None:
    found = sensitivity("gpt2", "arithmetic_intensity", {"seq_len": 512})
    plot = elasticity_chart(found)
    assert plot.png().startswith(PNG)
    (ax,) = plot.figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == list(found.elasticities)
    assert min(found.elasticities.values()) < 0
    assert repr(plot) == repr(elasticity_chart(found))
