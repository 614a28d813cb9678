"""What the buttons of the form do: go back, put models side by side, find the largest that fits, plot along a size."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from forms import Make, forms, panel_of
from IPython.core.interactiveshell import InteractiveShell

import nbanalyzer
from nbanalyzer.errors import InputError, NBAnalyzerError, UnknownNameError
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.notebook.form.lines import lines
from nbanalyzer.notebook.form.whatif import WhatIf


@pytest.fixture
def make() -> Iterator[Make]:
    """Return a function that makes forms; they are closed afterwards."""
    yield from forms("llama-3.1-8b")


def put(form: WhatIf, **sizes: int) -> None:
    for name, size in sizes.items():
        panel_of(form).inputs.sizes[name].entry.value = str(size)


# ---- going back


def test_undo_goes_back_control_by_control(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("nbanalyzer.notebook.form.whatif.monotonic", lambda: now[0])
    form = make(hardware="h100-sxm", phase="decode")
    panel, begun = panel_of(form), form.state
    assert panel.undo.disabled
    for batch in (2, 3, 4):  # a slider that is dragged
        now[0] += 0.1
        put(form, batch_size=batch)
    now[0] += 2  # and again, after a while
    put(form, batch_size=16)
    panel.inputs.bits["w_bit"].value = 4
    put(form, batch_size=8)
    assert not panel.undo.disabled
    found = []
    for _ in range(5):  # once more than there is
        panel.undo.click()
        found.append((form.state.run["batch_size"], form.state.run["w_bit"]))
    assert found == [(16, 4), (16, None), (4, None), (1, None), (1, None)]
    assert form.state == begun
    assert panel.undo.disabled
    assert panel.inputs.bits["w_bit"].label == "as stored, 16 bits"


def test_undo_after_a_mistake_is_the_last_good_state(make: Make) -> None:
    form = make()
    put(form, batch_size=2)
    panel_of(form).inputs.sizes["batch_size"].entry.value = "many"
    assert form.error
    panel_of(form).undo.click()
    assert (form.error, panel_of(form).error.value) == ("", "")
    assert panel_of(form).inputs.sizes["batch_size"].entry.value == "2"
    panel_of(form).undo.click()
    assert form.state.run["batch_size"] == 1


def test_reset_is_a_step_too(make: Make) -> None:
    form = make(phase="decode", batch_size=4)
    form.change(model="gpt2", phase="prefill")
    form.change(seq_len=7)
    panel_of(form).reset_all.click()
    assert repr(form.state) == "llama-3.1-8b, decode"
    assert form.state.run["batch_size"] == 4
    panel_of(form).undo.click()
    assert (form.state.model, form.state.run["seq_len"]) == ("gpt2", 7)


# ---- figures that are not what the controls say


def test_figures_are_stale_while_an_error_stands(make: Make) -> None:
    form = make()
    browser = panel_of(form).browser
    assert not browser.is_stale
    put(form, batch_size=0)
    assert browser.is_stale
    assert browser.lines == []  # nothing to copy that the controls do not say
    put(form, batch_size=2)
    assert not browser.is_stale
    assert len(browser.lines) == 2


def test_a_question_without_an_answer_is_no_error(make: Make) -> None:
    form = make("deepseek-v3", hardware="h100-sxm", phase="decode")
    panel_of(form).inputs.sizes["batch_size"].actions["max"].click()
    assert "does not fit even at batch_size = 1" in panel_of(form).status.value
    assert 'role="status"' in panel_of(form).status.value
    assert (form.error, panel_of(form).browser.is_stale) == ("", False)
    put(form, batch_size=2)
    assert panel_of(form).status.value == ""


# ---- efficiencies and a price


def test_efficiencies_and_price(make: Make, shell: InteractiveShell) -> None:
    form = make(hardware="h100-sxm", phase="decode", profile="vllm")
    assumed = panel_of(form).inputs.assumed
    assert assumed.numbers == {}  # made when somebody looks
    assumed.toggle.value = True
    for name, text in (("bandwidth_efficiency", "0.8"), ("launch_overhead", "2e-6"), ("price", "3.6")):
        assumed.numbers[name].entry.value = text
    assert form.error == ""
    plain = nbanalyzer.populate("llama-3.1-8b", seq_len=1, cache_len=2048)
    expected = plain.on("h100-sxm", bandwidth_efficiency=0.8, launch_overhead=2e-6, profile="vllm")
    assert form.roofline is not None
    assert form.roofline.time == expected.time > plain.on("h100-sxm").time
    # $3.6 an hour is a tenth of a cent a second: at one token in the time that is expected.
    cost = form._answer.figures["cost"]
    assert cost.value == pytest.approx(0.001 * expected.estimate.value * 1e6)
    assert cost.text == f"${cost.value:.2f}"
    found = lines(form.state)
    assert found["populate"].endswith("--bandwidth_efficiency 0.8 --launch_overhead 2e-06")
    assert found["whatif"] == f"{found['populate'].replace('populate', 'whatif')} --price 3.6"
    for magic, line in found.items():
        again = shell.run_line_magic(magic, line.partition(" ")[2] + (" --plot none" if magic == "populate" else ""))
        assert getattr(again, "roofline", again).time == expected.time
    assert shell.run_line_magic("whatif", found["whatif"].partition(" ")[2]).figures == form.figures
    assert assumed.toggle.description.startswith("▾ efficiency and price: bandwidth=0.8")
    form.change(hardware=None)
    assert form.state.assumed.options == {}
    assert assumed.toggle.layout.display == "none"


def test_the_price_of_a_request_and_of_several_devices(make: Make) -> None:
    form = make(hardware="h100-sxm", prompt_len=256, output_len=32, price=2.0, fusion="engine", tp=2)
    timing = nbanalyzer.request("llama-3.1-8b", prompt_len=256, output_len=32, tp=2).on("h100-sxm", price=2.0)
    assert form._answer.figures["cost"].value == pytest.approx(timing.cost_per_million_tokens)
    form.change(phase="decode")
    one = form._answer.figures["cost"]
    assert "2 devices, $2 an hour each" in one.note


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"price": -1}, "price is a number of $ an hour"),
        ({"compute_efficiency": 1.5}, "the compute efficiency is a share above 0 and at most 1, not 1.5"),
        ({"launch_overhead": -1}, "the launch overhead is a number of seconds"),
        ({"hardware": None, "price": 3}, "price=3 is of hardware, and there is none: choose an accelerator"),
    ],
)
def test_what_cannot_be_assumed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        WhatIf("gpt2", **{"hardware": "h100-sxm", **options})
    assert message in str(caught.value)


def test_no_estimate_has_no_cost(make: Make) -> None:
    form = make("mamba-2.8b", hardware="h100-sxm", phase="decode", price=2)
    assert form.figures["cost"] == "not modelled"
    assert math.isnan(form._answer.figures["cost"].value)


# ---- side by side


def test_two_models_side_by_side(make: Make) -> None:
    form = make(hardware="h100-sxm", phase="decode")
    panel = panel_of(form)
    assert panel.compared.layout.display == "none"
    panel.beside.value = "gpt2"
    assert panel.compared.layout.display == ""
    table = ElementTree.fromstring(re.findall("(?s)<table.*</table>", panel.compared.value)[0])
    cells = [["".join(cell.itertext()) for cell in row] for row in table]
    rows = {row[0]: row[1:] for row in cells}
    assert rows["side by side"][:2] == ["Llama-3.1-8B", "gpt2"]
    other = nbanalyzer.whatif("gpt2", hardware="h100-sxm", phase="decode")
    for name in ("bytes", "time", "memory"):
        label = form._answer.figures[name].label
        assert rows[label][:2] == [form.figures[name], other.figures[name]]
    put(form, batch_size=16)  # both follow
    assert other.figures["bytes"] not in panel.compared.value
    other.change(batch_size=16)
    assert other.figures["bytes"] in panel.compared.value
    panel.beside.value = ""
    assert panel.compared.layout.display == "none"


def test_what_cannot_stand_beside_says_why(make: Make) -> None:
    form = make("mixtral-8x7b-v0.1")
    panel_of(form).beside.value = "gtp2"
    assert "no model named" in panel_of(form).status.value
    panel_of(form).beside.value = "gpt2"
    form.change(tp=8)  # 12 heads are not divided by 8
    assert "tp=8 does not divide" in panel_of(form).compared.value
    assert form.error == ""
    with pytest.raises(UnknownNameError):
        form.beside("gtp2")


# ---- the largest that fits


@pytest.mark.parametrize(("options", "name"), [({"phase": "decode"}, "batch_size"), ({"tp": 2}, "seq_len")])
def test_the_largest_that_fits(make: Make, options: dict[str, Any], name: str) -> None:
    form = make(hardware="h100-sxm", **options)
    panel_of(form).inputs.sizes[name].actions["max"].click()
    value = form.state.run[name]
    assert bool(form._answer.fit)
    form.change(**{name: value + 1})
    assert not form._answer.fit


@pytest.mark.slow
def test_the_largest_request_that_fits(make: Make) -> None:
    form = make(hardware="h100-sxm", prompt_len=1000, output_len=24)
    form.largest("batch_size")
    batch = form.state.run["batch_size"]
    assert bool(form._answer.fit)
    form.change(batch_size=batch + 1)
    assert not form._answer.fit
    form.change(model="mamba-2.8b", batch_size=1)
    with pytest.raises(InputError, match="largest output_len of a request that fits h100-sxm: any output_len fits"):
        form.largest("output_len")
    form.change(model="deepseek-v3")
    with pytest.raises(InputError, match="does not fit even at batch_size = 1"):
        form.largest("batch_size")


def test_without_hardware_nothing_is_too_large(make: Make) -> None:
    form = make()
    assert panel_of(form).inputs.sizes["batch_size"].actions["max"].layout.display == "none"
    with pytest.raises(InputError, match="choose an accelerator"):
        form.largest("batch_size")
    unknown = Accelerator(name="mine", bandwidth=1e12, peaks={"bf16": 1e14})
    form.change(hardware=unknown)
    panel_of(form).inputs.sizes["batch_size"].actions["max"].click()
    assert "memory of mine is not known" in panel_of(form).status.value


# ---- along a size


def titles(html: str) -> list[str]:
    return [title.text or "" for text in re.findall(r"<svg viewBox.*?</svg>", html) for title in ElementTree.fromstring(text).iter("title")]  # fmt: skip


def test_a_plot_along_a_size(make: Make) -> None:
    form = make(hardware="h100-sxm", phase="decode", profile="vllm")
    panel = panel_of(form)
    size = panel.inputs.sizes["batch_size"]
    size.actions["∿"].click()
    found = titles(panel.along.value)
    batch = nbanalyzer.populate("llama-3.1-8b", seq_len=1, cache_len=2048, batch_size=64).on("h100-sxm", profile="vllm")
    from nbanalyzer.quantities import rate, seconds

    assert f"at the roofline at 64: {seconds(batch.time)}" in found
    assert f"estimate at 64: {seconds(batch.estimate.value)}" in found
    assert f"bound at 64: {seconds(batch.lower_bound)}" in found
    assert f"tokens/s at 64: {rate(batch.tokens_per_second)}" in found
    assert "now: 1" in found
    assert "does not fit" in found
    size.entry.value = "64"  # the same plot, another place
    assert "now: 64" in titles(panel.along.value)
    assert "earlier" not in panel.along.value
    panel.inputs.bits["w_bit"].value = 4
    assert "Of an earlier state: press ∿ beside batch again" in panel.along.value
    assert not any(title.startswith("now") for title in titles(panel.along.value))
    panel.close_along.click()
    assert (panel.along.value, panel.along.layout.display) == ("", "none")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "options", "name", "labels"),
    [
        ("gpt2", {}, "seq_len", {"FLOPs", "bytes moved"}),
        ("gpt2", {"phase": "request", "hardware": "h100-sxm"}, "output_len", {"estimate", "bound", "at the roofline", "tokens/s"}),
        # No estimate of it: the rest stands.
        ("mamba-2.8b", {"phase": "decode", "hardware": "h100-sxm"}, "cache_len", {"bound", "at the roofline", "tokens/s"}),
    ],
)  # fmt: skip
def test_what_is_plotted(make: Make, model: str, options: dict[str, Any], name: str, labels: set[str]) -> None:
    form = make(model, **options)
    form.sweep(name)
    found = titles(panel_of(form).along.value)
    assert {title.partition(" at ")[0] for title in found if " at " in title and title.partition(":")[2]} >= labels - {
        "at the roofline"
    }
    assert form._along is not None
    assert {label for lines in form._along.panels.values() for label in lines} == labels
    assert [*form._along.values] == panel_of(form).inputs.sizes[name].places


def test_a_plot_that_cannot_be(make: Make) -> None:
    form = make(hardware="h100-sxm", fsdp=2)
    panel_of(form).inputs.sizes["batch_size"].actions["∿"].click()
    assert panel_of(form).along.value or panel_of(form).status.value
    with pytest.raises(NBAnalyzerError):
        form.change(batch_size=0)


# ---- a flag is a box to tick


def test_a_config_value_of_0_or_1_is_a_box(make: Make) -> None:
    form = make("gpt2")
    inputs = panel_of(form).inputs
    inputs.architecture.value = True
    tie = inputs._variables["tie_word_embeddings"]
    assert type(tie.box).__name__ == "Checkbox"
    assert tie.box.value is True
    tie.box.value = False
    assert form.analysis.totals == nbanalyzer.populate("gpt2", set={"tie_word_embeddings": 0}).totals
    inputs.reset.click()
    assert tie.box.value is True
    assert form.state.changes == {}


# ---- as a page


def test_a_visitor_names_no_file(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    form = make("gpt2")
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5.13")
    for name in (str(tmp_path / "config.json"), "/etc/none.json"):
        for field in (panel_of(form).inputs.model, panel_of(form).beside):
            field.value = name
            said = form.error or panel_of(form).status.value
            assert "no model named" in said
            assert ".json" not in said.split("named")[1].replace(name, "").replace("&#x27;", "'")
            form.undo()
    assert not hasattr(panel_of(form), "file")


def test_every_slider_says_its_stops(make: Make) -> None:
    form = make(hardware="h100-sxm")
    inputs = panel_of(form).inputs
    inputs.architecture.value = inputs.mesh.toggle.value = inputs.assumed.toggle.value = True
    form.change(batch_size=3)
    places = panel_of(form).browser.places
    assert places["seq_len"][:3] == ["1", "2", "3"]
    assert places["seq_len"][-1] == "1,048,576"
    assert {"tp", "nodes", "price", "hidden_size"} <= {*places}
    assert "tie_word_embeddings" not in places


# ---- what was pinned


def test_what_was_pinned_is_seen_in_every_picture(make: Make) -> None:
    form = make(hardware="h100-sxm", phase="decode")
    panel = panel_of(form)
    assert "nb-pinned" not in panel.bars.value + panel.memory.value
    panel.pin.click()
    whole = form._answer.memory.total
    panel.inputs.bits["w_bit"].value = 8
    assert "Pinned: Llama-3.1-8B on h100-sxm; batch_size 1, seq_len 1, cache_len 2048, w_bit 16" in panel.changes.value
    (place,) = re.findall(r"nb-pinned[^>]*left:calc\(([\d.]+)%", panel.memory.value)
    assert float(place) == pytest.approx(100 * float(whole) / (80 * 2**30), abs=1e-3)
    marks = [float(place) for place in re.findall(r"nb-pinned[^>]*left:calc\(([\d.]+)%", panel.bars.value)]
    assert max(marks) == 100  # the longest bar was twice as long
    widths = [float(place) for place in re.findall(r"flex:0 0 ([\d.]+)%;background", panel.bars.value)]
    assert max(widths) < 60
    form.change(hardware=None)
    form.change(model="gpt2")  # of its modules only the head has the name of one that was pinned
    assert panel.bars.value.count("nb-pinned") == 2
    panel.unpin.click()
    assert "nb-pinned" not in panel.memory.value


# ---- how weights are stored


def test_weights_are_as_stored_in_bits_or_in_a_scheme(make: Make, shell: InteractiveShell) -> None:
    form = make("deepseek-v3", phase="decode")
    weights = panel_of(form).inputs.bits["w_bit"]
    plain: dict[str, Any] = {"seq_len": 1, "cache_len": 2048}
    assert weights.label == "as stored, fp8-block"
    assert form.analysis.totals == nbanalyzer.populate("deepseek-v3", **plain).totals
    for choice, options in ((16, {"w_bit": 16}), ("awq-4-g128", {"quant": "awq-4-g128"}), (4, {"w_bit": 4}), (0, {})):
        weights.value = choice
        assert form.error == ""
        expected = nbanalyzer.populate("deepseek-v3", **plain, **options)
        assert form.analysis.totals == expected.totals
        again = shell.run_line_magic("populate", f"{form.magic.partition(' ')[2]} --plot none")
        assert again.totals == expected.totals
    form.change(model="llama-3.1-8b")
    assert weights.label == "as stored, 16 bits"


def test_a_scheme_goes_with_requests_plots_and_what_fits(make: Make) -> None:
    form = make(hardware="h100-sxm", prompt_len=256, output_len=16, quant="fp8-block")
    expected = nbanalyzer.request("llama-3.1-8b", prompt_len=256, output_len=16, quant="fp8-block")
    assert form._answer.figures["bytes"].value == expected.totals["bytes"]
    form.change(phase="decode")
    form.largest("batch_size")
    assert bool(form._answer.fit)
    form.sweep("batch_size")
    assert panel_of(form).along.value


def test_a_form_begins_with_no_more_tokens_than_the_model_has(make: Make) -> None:
    form = make("bert-base-uncased")
    assert form.state.run["seq_len"] == 512
    assert not form._answer.warnings
