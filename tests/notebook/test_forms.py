"""The what-if form, from the kernel's side: what a person moves, and what is then shown."""

from __future__ import annotations

import csv
import gc
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from forms import Make, forms, panel_of
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets.widgets.widget import _instances
from matplotlib.figure import Figure

import nbanalyzer
from nbanalyzer.analysis.comparison import ratio
from nbanalyzer.analysis.dots import NAMED, dots, named, roofs, spots
from nbanalyzer.costs.run import MESH
from nbanalyzer.errors import InputError, NBAnalyzerError, UnknownNameError
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.profiles import profile
from nbanalyzer.notebook import settings
from nbanalyzer.notebook.form import lifecycle
from nbanalyzer.notebook.form.controls import Size, stops
from nbanalyzer.notebook.form.inputs import Inputs
from nbanalyzer.notebook.form.lines import lines
from nbanalyzer.notebook.form.panel import Panel
from nbanalyzer.notebook.form.roofline_svg import _axes, roofline_svg
from nbanalyzer.notebook.form.state import begin, changed
from nbanalyzer.notebook.form.whatif import WIDGET, WhatIf
from nbanalyzer.quantities import seconds


@pytest.fixture
def make() -> Iterator[Make]:
    """Return a function that makes forms; they are closed afterwards."""
    yield from forms("gpt2")


def inputs_of(form: WhatIf) -> Inputs:
    return panel_of(form).inputs


def variable(inputs: Inputs, name: str) -> Size:
    found = inputs._variables[name]
    assert isinstance(found, Size)
    return found


def drag(size: Size, value: int) -> None:
    size.slider.index = [place for _, place in size.slider.options].index(value)


def type_in(size: Size, text: str) -> None:
    size.entry.value = text


def png_size(content: bytes | memoryview) -> tuple[int, int]:
    content = bytes(content)
    assert content.startswith(b"\x89PNG")
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def svg_of(html: str) -> ElementTree.Element:
    """Return the one drawing in a text of HTML."""
    (text,) = re.findall(r"<svg.*</svg>", html)
    return ElementTree.fromstring(text)


def axes_of(html: str) -> list[dict[str, str]]:
    """Return the lines of a roofline: grid, axes and roofs."""
    return [line.attrib for line in svg_of(html).iter("line")]


# ---- what follows what


def test_a_slider_gives_the_numbers_of_populate(make: Make) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm", phase="decode", cache_len=2048)
    drag(inputs_of(form).sizes["batch_size"], 16)
    drag(inputs_of(form).sizes["cache_len"], 6144)
    expected = nbanalyzer.populate("llama-3.1-8b", seq_len=1, cache_len=6144, batch_size=16)
    assert form.analysis.totals == expected.totals
    assert form.roofline is not None
    assert form.roofline.time == expected.on("h100-sxm").time
    html = panel_of(form).headline.value
    assert f"{expected.totals['flops']:,}" in html
    assert f"{expected.totals['kv_cache_bytes']:,}" in html
    assert "operation by operation: no bound, for fused kernels move less" in html
    assert "at most " not in html
    assert html.count("at least ") == 1  # the bound alone
    assert "fits h100-sxm" in html


def test_a_number_is_typed_exactly_or_as_arithmetic(make: Make) -> None:
    form = make("gpt2")
    size = inputs_of(form).sizes["seq_len"]
    for text, value in (("1000", 1000), ("4 * 250 + 1", 1001), ("1,002", 1002), ("2**21", 2**21)):
        type_in(size, text)
        assert form.analysis.run.seq_len == value
        assert form.error == ""
        assert size.entry.value == str(value)
    assert size.slider.value == 2**20  # its end


def test_the_slider_stops_at_every_power_of_two() -> None:
    places = stops(0, 2**20)
    assert {0, *(2**power for power in range(21))} <= {*places}
    assert {3, 6, 12, 1536} <= {*places}
    assert places == sorted(places)
    assert len(places) > 40
    assert stops(1, 8, 5) == [1, 2, 3, 4, 5, 6, 8]


def test_a_slider_moves_from_what_was_typed(make: Make) -> None:
    size = inputs_of(make("gpt2")).sizes["seq_len"]
    type_in(size, "1000")
    assert size.slider.value == 1024
    size.slider.index += 1
    assert size.entry.value == "1536"


def test_every_choice_reaches_the_run(make: Make) -> None:
    form = make("llama-3.1-8b")
    inputs = inputs_of(form)
    inputs.bits["w_bit"].value = 4
    inputs.bits["a_bit"].value = 8
    assert form.analysis.run.kv_bit == 8  # as activations
    inputs.bits["kv_bit"].value = 16
    inputs.switches["attn"].value = "eager"
    inputs.switches["logits"].value = "last"
    inputs.switches["causal"].value = True
    run = form.analysis.run
    assert (run.w_bit, run.a_bit, run.kv_bit, run.attn, run.logits, run.causal) == (4, 8, 16, "eager", "last", "on")
    options: dict[str, Any] = {"w_bit": 4, "a_bit": 8, "kv_bit": 16, "attn": "eager", "logits": "last", "causal": True}
    assert form.analysis.totals == nbanalyzer.populate("llama-3.1-8b", **options).totals


def test_hardware_comes_and_goes(make: Make) -> None:
    form = make("gpt2")
    panel = panel_of(form)
    assert panel.roofline.layout.display == "none"
    assert form.roofline is None
    assert "FLOPs by module" in panel.bars.value
    inputs_of(form).hardware.value = "rtx-4090"
    assert panel.roofline.layout.display == ""
    assert form.roofline is not None
    assert len([*svg_of(panel.roofline.value).iter("circle")]) == len(dots(form.roofline))
    assert "gpt2 on rtx-4090" in panel.roofline.value
    assert "time by module" in panel.bars.value
    assert "of 24 GiB (25.77 GB) on rtx-4090" in panel.memory.value
    inputs_of(form).hardware.value = "none"
    assert form.state.hardware is None
    assert "time" not in form.figures


def test_phases_go_on_where_the_last_one_was(make: Make) -> None:
    form = make("llama-3.1-8b", seq_len=4096)
    inputs = inputs_of(form)

    def shown() -> set[str]:
        return {name for name, size in inputs.sizes.items() if size.box.layout.display != "none"}

    assert shown() == {"batch_size", "seq_len", "cache_len"}
    inputs.phase.value = "decode"
    assert shown() == {"batch_size", "cache_len"}
    assert (form.analysis.run.seq_len, form.analysis.run.cache_len) == (1, 4096)
    inputs.phase.value = "request"
    assert shown() == {"batch_size", "prompt_len", "output_len"}
    assert form.request is not None
    assert {one.run.logits for one in (form.request.prefill, form.request.last)} == {"last"}
    assert inputs.switches["logits"].value == "last"
    assert (form.request.prompt_len, form.request.output_len) == (4096, 256)
    inputs.phase.value = "prefill"
    assert (form.analysis.run.seq_len, form.analysis.run.cache_len, form.analysis.run.logits) == (4096, 0, "all")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["llama-3.1-8b", "deepseek-v3", "gemma-3-4b-it", "t5-small", "mamba-2.8b"])
def test_a_request_has_the_numbers_of_request(make: Make, model: str) -> None:
    form = make(model, hardware="h200-sxm", prompt_len=100, output_len=20)
    drag(inputs_of(form).sizes["batch_size"], 3)
    drag(inputs_of(form).sizes["prompt_len"], 192)
    expected = nbanalyzer.request(model, prompt_len=192, output_len=20, batch_size=3)
    timing = expected.on("h200-sxm")
    assert form.request is not None
    assert form.request.totals == expected.totals
    assert form.request.decode == expected.decode
    values = form._answer.figures
    assert values["time"].value == pytest.approx(timing.time, rel=1e-12)
    assert values["first"].value == timing.time_to_first_token
    assert values["token"].value == pytest.approx(timing.time_per_output_token, rel=1e-12)
    assert values["memory"].value == expected.memory.total


def test_another_model_brings_its_own_architecture(make: Make) -> None:
    form = make("llama-3.1-8b", phase="decode", set={"num_layers": 8}, batch_size=4)
    inputs = inputs_of(form)
    inputs.model.value = "deepseek-v3"
    assert form.error == ""
    assert (form.state.changes, form.state.phase, form.analysis.run.batch_size) == ({}, "decode", 4)
    assert inputs.switches["mla"].layout.display == ""
    inputs.switches["mla"].value = "absorbed"
    absorbed = nbanalyzer.populate("deepseek-v3", seq_len=1, cache_len=2048, batch_size=4, mla="absorbed")
    assert form.analysis.totals == absorbed.totals
    inputs.model.value = "gpt2"  # has no latent attention: the choice goes
    assert form.error == ""
    assert inputs.switches["mla"].layout.display == "none"
    assert form.analysis.run.mla == "expanded"


def test_the_architecture_follows_too(make: Make) -> None:
    form = make("gpt2")
    inputs = inputs_of(form)
    assert not inputs._variables  # made when somebody looks
    inputs.architecture.value = True
    assert {*inputs._variables} == {name for name in form.analysis.variables if name in form.analysis.params}
    drag(variable(inputs, "num_layers"), 24)
    assert form.analysis.totals == nbanalyzer.populate("gpt2", set={"num_layers": 24}).totals
    type_in(variable(inputs, "hidden_size"), "1536")
    assert form.state.changes == {"num_layers": 24, "hidden_size": 1536}
    assert inputs._variables["intermediate_size"].value == 4 * 1536  # what follows is shown
    assert inputs.architecture.description.startswith("▾ architecture: num_layers=24")
    inputs.reset.click()
    assert form.state.changes == {}
    assert form.analysis.totals == nbanalyzer.populate("gpt2").totals
    assert inputs._variables["num_layers"].value == 12


def test_the_architecture_of_a_model_that_reads_images_is_what_may_differ(make: Make) -> None:
    model = "qwen2-vl-2b-instruct"
    run: dict[str, Any] = {"images": 2, "image_size": "448x672", "seq_len": 832}
    form = make(model, **run)
    inputs = inputs_of(form)
    inputs.architecture.value = True
    assert {"num_layers", "vision_depth", "vision_embed_dim"} <= {*inputs._variables}
    assert not {"hidden_size", "num_images", "vision_head_dim"} & {*inputs._variables}  # held, of a run, and derived
    drag(variable(inputs, "vision_depth"), 16)
    assert form.error == ""
    assert form.analysis.totals == nbanalyzer.populate(model, set={"vision_depth": 16}, **run).totals
    assert form.analysis.totals != nbanalyzer.populate(model, **run).totals
    type_in(variable(inputs, "vision_num_heads"), "7")  # of 1280
    assert "vision_num_heads" in form.error


# ---- what to expect

SPREAD = {"n": 40, "ratio": [0.5, 0.75, 1.0, 1.5, 2.0]}  # of times around estimates; from 10 to 90 % in the middle
DECODE: dict[str, Any] = {"seq_len": 1, "cache_len": 2048}


@pytest.fixture
def tried(tmp_path: Path) -> str:
    """Return the path of a profile that was compared with measurements, of dense models only."""
    content = json.loads(msgspec.json.encode(profile()))
    path = tmp_path / "tried.json"
    own = {"engine": "mine", "intervals": {"dense": {"1": SPREAD}}, "widened": 1}
    path.write_text(json.dumps({**content, **own}))
    return str(path)


def test_the_first_thing_to_know_is_estimate_bound_and_fit(make: Make, tried: str) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm", profile=tried, phase="decode", cache_len=2048)
    for batch in (1, 64, 4096):
        drag(inputs_of(form).sizes["batch_size"], batch)
        on_card = nbanalyzer.populate("llama-3.1-8b", batch_size=batch, **DECODE).on("h100-sxm", profile=tried)
        heading = panel_of(form).heading.value
        assert re.findall('nb-first"[^>]*>(.*?)</div>', heading) == [on_card.answer]
        assert re.findall('nb-sentence"[^>]*>(.*?)</div>', heading) == [on_card.sentence]
        assert on_card.answer.startswith("estimate ")
        value = on_card.estimated.time
        figures = form._answer.figures
        assert figures["estimate"].value == pytest.approx(value, rel=1e-12)
        assert form.figures["estimate"] == seconds(value)
        low = max(0.75 * value, on_card.lower_bound)
        assert figures["estimate"].note.startswith(f"{seconds(low)} … {seconds(1.5 * value)} (80 %), mine")
        fused = nbanalyzer.populate("llama-3.1-8b", batch_size=batch, fusion="engine", **DECODE).on("h100-sxm").time
        assert form.figures["bound"] == f"at least {seconds(fused)}"
        assert figures["bound"].value <= figures["estimate"].value


def test_a_request_is_estimated_too(make: Make, tried: str) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm", profile=tried, prompt_len=100, output_len=20)
    timing = nbanalyzer.request("llama-3.1-8b", prompt_len=100, output_len=20).on("h100-sxm", profile=tried)
    assert form._answer.figures["estimate"].value == pytest.approx(timing.estimate.value, rel=1e-12)
    line = f"whole request: estimate {timing.estimate} · bound {seconds(timing.lower_bound)} · fits"
    assert line in panel_of(form).heading.value
    assert form.figures["bound"] == f"at least {seconds(timing.lower_bound)}"
    form.change(fusion="engine")
    assert f" · bound {form.figures['time'].removeprefix('at least ')} · fits" in panel_of(form).heading.value
    assert "bound" not in form.figures  # it is the time


@pytest.mark.parametrize(
    ("model", "why"), [("mixtral-8x7b-v0.1", "no estimate of experts models"), ("mamba-2.8b", "state-space")]
)
def test_what_is_not_modelled_says_why(make: Make, tried: str, model: str, why: str) -> None:
    form = make(model, hardware="h100-sxm", profile=tried, phase="decode")
    assert form.figures["estimate"] == "not modelled"
    assert form._answer.figures["estimate"].note.startswith(why)
    assert f"estimate not modelled: {why}" in panel_of(form).heading.value
    assert form.figures["bound"].startswith("at least ")
    form.change(phase="request", prompt_len=10, output_len=3)
    assert form.figures["estimate"] == "not modelled"
    assert form.figures["bound"].startswith("at least ")
    routing = " if tokens are routed evenly" if "mixtral" in model else ""
    bound = f" · bound {form.figures['bound'].removeprefix('at least ')}{routing} · "
    assert bound in panel_of(form).heading.value
    form.change(phase="decode")
    form.pin()
    form.change(model="llama-3.1-8b")
    card = panel_of(form).headline.value.split("nb-figure-estimate")[1].split("nb-figure-")[0]
    assert ">new<" in card
    form.change(model=model)
    assert ">=<" in panel_of(form).headline.value.split("nb-figure-estimate")[1].split("nb-figure-")[0]


def test_without_hardware_nothing_is_said_of_time(make: Make) -> None:
    form = make("gpt2")
    assert "nb-first" not in panel_of(form).heading.value
    assert not {"estimate", "bound", "time"} & form.figures.keys()
    assert inputs_of(form).profile.layout.display == "none"


@pytest.mark.parametrize("phase", ["prefill", "decode", "request"])
def test_a_fused_list_is_a_bound_and_the_eager_one_is_not(make: Make, phase: str) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm", phase=phase)
    inputs, panel = inputs_of(form), panel_of(form)
    timed = {"first", "token", "time"} & form.figures.keys()
    eager = {name: form._answer.figures[name].value for name in timed}
    assert "operation by operation: no bound" in panel.headline.value
    assert not any(form.figures[name].startswith("at") for name in (*timed, "tokens_per_second"))
    inputs.switches["fusion"].value = "engine"
    assert "lower bound: every fused kernel at its roofline" in panel.headline.value
    assert all(form.figures[name].startswith("at least ") for name in timed)
    assert form.figures["tokens_per_second"].startswith("at most ")
    assert all(form._answer.figures[name].value < eager[name] for name in timed)
    assert "bound" not in form.figures  # it is the time


def test_switches_follow_the_fusion_until_somebody_chooses(make: Make, shell: InteractiveShell) -> None:
    form = make("deepseek-v3", hardware="h200-sxm", phase="decode", cache_len=100)
    inputs = inputs_of(form)

    def shown() -> tuple[Any, ...]:
        return tuple(inputs.switches[name].value for name in ("fusion", "logits", "mla", "causal"))

    assert shown() == ("none", "all", "expanded", False)
    bound = form._answer.figures["bound"].value
    inputs.switches["fusion"].value = "engine"
    assert shown() == ("engine", "last", "absorbed", True)
    expected = nbanalyzer.populate("deepseek-v3", seq_len=1, cache_len=100, fusion="engine")
    assert form.analysis.totals == expected.totals
    assert form._answer.figures["time"].value == bound == expected.on("h200-sxm").time
    assert form.magic == "%populate deepseek-v3 --hardware h200-sxm --seq_len 1 --cache_len 100 --fusion engine"
    inputs.switches["mla"].value = "expanded"
    assert shown() == ("engine", "last", "expanded", True)
    assert form.magic.endswith("--fusion engine --mla expanded")
    drag(inputs.sizes["batch_size"], 2)  # what was chosen stays
    assert form.analysis.run.mla == "expanded"
    again = shell.run_line_magic("populate", form.magic.removeprefix("%populate ") + " --plot none")
    assert again.analysis.totals == form.analysis.totals
    inputs.switches["mla"].value = "absorbed"  # which is what follows
    assert "--mla" not in form.magic
    inputs.switches["fusion"].value = "none"
    assert shown() == ("none", "all", "expanded", False)


def test_the_profile_is_chosen_saved_and_in_the_line(make: Make, shell: InteractiveShell, tmp_path: Path) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm", phase="decode", cache_len=512)
    inputs = inputs_of(form)
    assert inputs.profile.layout.display == ""
    assert inputs.profile.value == "typical"
    assert "--profile" not in form.magic
    inputs.profile.value = "vllm"
    assert form.error == ""
    assert form.roofline is not None
    expected = nbanalyzer.populate("llama-3.1-8b", seq_len=1, cache_len=512).on("h100-sxm", profile="vllm")
    assert form.roofline.profile == expected.profile
    assert form.magic.startswith("%populate llama-3.1-8b --hardware h100-sxm --profile vllm --seq_len 1")
    again = shell.run_line_magic("populate", form.magic.removeprefix("%populate ") + " --plot none")
    assert again.answer == form.roofline.answer
    made = shell.run_line_magic("whatif", form.magic.removeprefix("%populate "))
    assert made.state == form.state
    form.save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["roofline"]["profile"] == expected.profile.name
    drag(inputs.sizes["batch_size"], 8)
    assert form.state.profile == "vllm"
    inputs.phase.value = "request"
    assert form._answer.timing is not None
    assert form._answer.timing.profile == expected.profile
    assert form.magic.startswith("%request llama-3.1-8b --hardware h100-sxm --profile vllm --batch_size 8 --prompt_len")


def test_only_profiles_of_the_card_are_offered(make: Make) -> None:
    form = make("gpt2", hardware="h100-sxm", profile="VLLM")
    inputs = inputs_of(form)
    assert form.state.profile == "vllm"
    assert {"typical", "vllm", "sglang", "trtllm"} == {*inputs.profile.options}
    inputs.hardware.value = "mi300x"  # of another architecture
    assert form.error == ""
    assert (inputs.profile.value, inputs.profile.options) == ("typical", ("typical",))
    assert form.state.profile is None
    inputs.hardware.value = "b200-sxm"
    inputs.profile.value = "sglang"
    inputs.hardware.value = "b300-sxm"  # has one of its own
    assert form.state.profile == "sglang"
    inputs.profile.value = "typical"
    assert form.state.profile is None
    inputs.hardware.value = "none"
    assert form.state.profile is None
    with pytest.raises(UnknownNameError, match="no profile named 'vllm on mi300x'"):
        form.change(hardware="mi300x", profile="vllm")
    with pytest.raises(InputError, match="a profile is for hardware, and there is none"):
        form.change(hardware=None, profile="vllm")
    with pytest.raises(UnknownNameError, match="no engine named 'vlmm'"):
        WhatIf("gpt2", hardware="h100-sxm", profile="vlmm")


def test_a_profile_of_ones_own(make: Make, tried: str) -> None:
    form = make("gpt2", hardware="h100-sxm", profile=tried)
    assert inputs_of(form).profile.value == tried
    assert f"--profile {tried}" in form.magic
    own = msgspec.structs.replace(profile(), engine="mine")
    form.change(profile=own)
    assert inputs_of(form).profile.value == "mine"
    drag(inputs_of(form).sizes["batch_size"], 2)
    assert form.state.profile is own
    with pytest.raises(InputError, match="no line reproduces this: 'mine' is an object"):
        _ = form.magic


# ---- what cannot be


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "batch_size is a whole number from 1"),
        ("-3", "batch_size is a whole number from 1"),
        ("1.5", "whole number"),
        ("many", "batch_size is no number"),
        ("", "the entry is empty"),
        ("9**9**9", "batch_size is no number"),
    ],
)
def test_an_error_is_one_line_and_the_last_good_state_stays(make: Make, text: str, message: str) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm")
    panel, before = panel_of(form), form.analysis
    picture, headline = panel.roofline.value, panel.headline.value
    type_in(inputs_of(form).sizes["batch_size"], text)
    assert message in form.error
    assert "\n" not in form.error
    assert form.error.split("'")[0].replace("<", "") in re.sub("<[^>]*>", "", panel.error.value).replace("&#x27;", "'")
    assert form.analysis is before
    assert (panel.roofline.value, panel.headline.value) == (picture, headline)
    inputs_of(form).bits["w_bit"].value = 8  # the entry is still wrong
    assert message in form.error
    type_in(inputs_of(form).sizes["batch_size"], "2")
    assert (form.error, panel.error.value) == ("", "")
    assert (form.analysis.run.batch_size, form.analysis.run.w_bit) == (2, 8)


def test_a_model_that_is_not_known(make: Make) -> None:
    form = make("gpt2")
    inputs_of(form).model.value = "lama-3.1-8b"
    assert "no model named 'lama-3.1-8b'. Did you mean" in form.error
    assert "llama-3.1-8b" in form.error
    assert form.analysis.template.model_id == "openai-community/gpt2"
    inputs_of(form).model.value = "<img src=x onerror=alert(1)>"
    assert "<img" not in panel_of(form).error.value
    inputs_of(form).model.value = "gpt2-xl"
    assert form.error == ""
    with pytest.raises(UnknownNameError, match="gpt2"):
        WhatIf("gtp2")


def test_a_peak_that_is_not_known(make: Make) -> None:
    form = make("gpt2", hardware="h100-sxm")
    inputs_of(form).hardware.value = "apple-m5"
    assert form.error == ""
    assert any(text.startswith("compute unknown: apple-m5's 16-bit peak") for text in form._answer.warnings)
    assert form._answer.figures["time"].note.endswith("compute unknown")
    assert form._answer.figures["tokens_per_second"].note.endswith("compute unknown")
    inputs_of(form).hardware.value = "a100-sxm-80gb"
    assert "compute unknown" not in f"{form._answer.warnings}{form._answer.figures}"


@pytest.mark.parametrize("phase", ["prefill", "decode", "request"])
def test_times_that_do_not_fit_say_so(make: Make, phase: str) -> None:
    form = make("llama-3.1-8b", hardware="rtx-3060", phase=phase)  # 16 GB of weights, 12 GiB of memory
    timed = {"estimate", "bound", "time", "tokens_per_second", "first", "token"} & form._answer.figures.keys()
    assert len(timed) == (6 if phase == "request" else 4)
    for name, figure in form._answer.figures.items():
        assert figure.note.endswith("does not fit") == (name in timed), name


def test_sizes_that_contradict_each_other_are_explained(make: Make) -> None:
    form = make("llama-3.1-8b")
    inputs_of(form).architecture.value = True
    type_in(variable(inputs_of(form), "num_kv_heads"), "7")
    assert "num_heads 32 is not a multiple of num_kv_heads 7" in form.error
    assert form.state.changes == {}
    type_in(variable(inputs_of(form), "num_kv_heads"), "4")
    assert form.state.changes == {"num_kv_heads": 4}


def test_what_does_not_fit_says_by_how_much(make: Make) -> None:
    form = make("llama-3.1-8b", hardware="rtx-4090", phase="decode", cache_len=8192)
    type_in(inputs_of(form).sizes["batch_size"], "64")
    fit = form.analysis.fits("rtx-4090")
    assert not fit
    assert form._answer.figures["fits"].value == float(fit.free)
    assert form._answer.figures["fits"].value < 24 * 2**30 - 64 * 8193 * 131_072 - 2 * 8_030_261_248  # less activations
    assert form.figures["fits"] == "✗ 59.04 GB short"
    assert "does not fit rtx-4090" in panel_of(form).headline.value
    assert "short" in panel_of(form).memory.value
    assert form.error == ""  # it is an answer


def test_memory_that_is_not_known_is_said(make: Make) -> None:
    card = Accelerator(name="mine", bandwidth=1e12, peaks={"bf16": 1e14})
    form = make("gpt2", hardware=card)
    assert "fits" not in form.figures
    assert "memory unknown: nobody can say whether this fits mine" in panel_of(form).heading.value
    assert "vector peak is not known" in panel_of(form).heading.value
    assert inputs_of(form).hardware.value == "mine"
    drag(inputs_of(form).sizes["batch_size"], 2)
    assert form.state.hardware is card
    with pytest.raises(InputError, match="no line reproduces this: 'mine' is an object"):
        _ = form.magic
    (said,) = panel_of(form).browser.lines
    assert said["line"].startswith("no line reproduces this")


def test_wrong_combinations_cannot_be_chosen(make: Make) -> None:
    assert [value for _, value in inputs_of(make("mamba-2.8b")).switches["attn"].options] == ["sdpa"]
    offered = inputs_of(make("gpt2")).switches["attn"].options
    assert offered == (("sdpa, one kernel", "sdpa"), ("eager, step by step", "eager"))
    assert inputs_of(make("gpt2")).switches["mla"].layout.display == "none"
    bert = make("bert-base-uncased")
    assert tuple(inputs_of(bert).phase.options) == ("prefill",)
    with pytest.raises(InputError, match="keeps nothing"):
        bert.change(phase="decode")
    assert inputs_of(make("t5-small")).sizes["encoder_len"].box.layout.display == ""
    assert inputs_of(make("gpt2")).sizes["encoder_len"].box.layout.display == "none"


def test_the_encoder_follows_until_somebody_says_otherwise(make: Make) -> None:
    form = make("t5-small", seq_len=64)
    assert form.analysis.run.encoder_len == 64
    type_in(inputs_of(form).sizes["encoder_len"], "500")
    assert form.analysis.run.encoder_len == 500
    type_in(inputs_of(form).sizes["encoder_len"], "")
    assert (form.error, form.analysis.run.encoder_len) == ("", 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phase": "train"}, "phase is prefill, decode or request, not 'train'"),
        ({"phase": "decode", "seq_len": 4}, "decode is one new token after the cache: seq_len is 1, not 4"),
        ({"phase": "request", "seq_len": 4}, "a request takes prompt_len and output_len, not seq_len"),
        ({"phase": "prefill", "prompt_len": 4}, "a pass takes seq_len and cache_len, not prompt_len"),
        ({"batch": 4}, "no option named 'batch'. Did you mean 'batch_size'"),
        ({"hardware": "h1000"}, "no accelerator named 'h1000'"),
        ({"mla": "absorbed"}, "absorbed"),
        ({"batch_size": 0}, "batch_size is a whole number from 1"),
        ({"prompt_len": 0}, "prompt_len is a whole number from 1"),
        ({"set": {"hidden_sise": 3}}, "hidden_sise"),
    ],
)
def test_what_a_form_cannot_begin_with(options: dict[str, Any], message: str) -> None:
    with pytest.raises(NBAnalyzerError) as caught:
        WhatIf("gpt2", **options)
    assert message in str(caught.value)


def test_the_phase_follows_from_the_sizes() -> None:
    assert begin("gpt2").phase == "prefill"
    assert begin("gpt2", seq_len=512, cache_len=512).phase == "prefill"
    assert begin("gpt2", cache_len=512).run["seq_len"] == 1
    assert begin("gpt2", prompt_len=3).phase == "request"
    assert begin("gpt2", phase="decode").run["cache_len"] == 2048
    assert changed(begin("gpt2", seq_len=100, cache_len=50), phase="decode").run["cache_len"] == 150


# ---- several devices


def test_a_mesh_is_folded_and_made_when_somebody_looks(make: Make) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm")
    mesh = inputs_of(form).mesh
    assert (mesh.sizes, mesh.body.layout.display, mesh.toggle.description) == ({}, "none", "▸ devices")
    mesh.toggle.value = True
    assert mesh.body.layout.display == ""
    assert {name: size.value for name, size in mesh.sizes.items()} == {**dict.fromkeys(MESH, 1), "nodes": 1}
    assert [size.entry.tooltip for name, size in mesh.sizes.items() if name in MESH] == [*MESH.values()]
    mesh.toggle.value = False
    assert mesh.body.layout.display == "none"
    assert form.magic == "%populate llama-3.1-8b --hardware h100-sxm --seq_len 1024"
    assert "communication" not in panel_of(form).headline.value


def test_the_controls_of_a_mesh_reach_the_run(make: Make, shell: InteractiveShell) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm", seq_len=512)
    mesh = inputs_of(form).mesh
    mesh.toggle.value = True
    assert mesh.overlap is not None
    drag(mesh.sizes["tp"], 8)
    assert form.error == ""
    assert form.analysis.totals["parameters"] == 1_004_015_616  # the study's number for a rank
    drag(mesh.sizes["nodes"], 2)
    mesh.overlap.value = 0.5
    inputs_of(form).switches["comm"].value = "megatron"
    expected = nbanalyzer.populate("llama-3.1-8b", seq_len=512, tp=8, comm="megatron")
    assert form.analysis.totals == expected.totals
    assert form.roofline is not None
    assert form.roofline.time == expected.on("h100-sxm", nodes=2, overlap=0.5).time
    assert form.roofline.time != expected.on("h100-sxm", nodes=2).time != expected.on("h100-sxm").time
    assert "the busiest of 8 devices (tp 8), divided by Megatron" in panel_of(form).heading.value
    assert f"{expected.totals['payload_bytes']:,}" in panel_of(form).headline.value
    assert "link-bound" in panel_of(form).bars.value
    assert mesh.toggle.description == "▾ devices: tp=8, nodes=2"
    line = "%populate llama-3.1-8b --hardware h100-sxm --seq_len 512 --tp 8 --comm megatron --nodes 2 --overlap 0.5"
    assert form.magic == line
    again = shell.run_line_magic("populate", line.removeprefix("%populate ") + " --plot none")
    assert again.time == form.roofline.time
    inputs_of(form).hardware.value = "none"
    assert form.error == ""
    assert form.magic == "%populate llama-3.1-8b --seq_len 512 --tp 8 --comm megatron"
    assert (mesh.sizes["nodes"].box.layout.display, mesh.overlap.layout.display) == ("none", "none")


@pytest.mark.parametrize("axis", MESH)
def test_every_axis_has_a_control(make: Make, axis: str) -> None:
    other = {"dp": 2} if axis == "ep" else {}
    form = make("mixtral-8x7b-v0.1", seq_len=64, **other)
    inputs_of(form).mesh.toggle.value = True
    type_in(inputs_of(form).mesh.sizes[axis], "2")
    assert form.error == ""
    assert form.analysis.run.axes == {axis: 2, **other}
    options: dict[str, Any] = {axis: 2, **other}
    assert form.analysis.totals == nbanalyzer.populate("mixtral-8x7b-v0.1", seq_len=64, **options).totals
    assert f"--{axis} 2" in form.magic


def test_the_plan_follows_the_fusion_until_somebody_chooses(make: Make) -> None:
    form = make("llama-3.1-8b", tp=4)
    comm = inputs_of(form).switches["comm"]
    assert comm.value == "transformers"
    inputs_of(form).switches["fusion"].value = "engine"
    assert comm.value == form.analysis.run.comm == "megatron"
    assert "--comm" not in form.magic
    comm.value = "transformers"
    assert "--comm transformers" in form.magic


def test_a_request_of_several_devices_is_an_engines(make: Make, shell: InteractiveShell) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm", prompt_len=100, output_len=10)
    mesh = inputs_of(form).mesh
    mesh.toggle.value = True
    assert mesh.overlap is not None
    assert mesh.overlap.layout.display == "none"
    drag(mesh.sizes["tp"], 16)
    assert "tp=16 needs 16 devices, a node of h100-sxm has 8: give --nodes 2" in form.error
    drag(mesh.sizes["nodes"], 2)
    assert form.error == ""
    expected = nbanalyzer.request("llama-3.1-8b", prompt_len=100, output_len=10, tp=16)
    assert form.request is not None
    assert form.request.totals == expected.totals
    assert form._answer.figures["time"].value == pytest.approx(expected.on("h100-sxm", nodes=2).time, rel=1e-12)
    assert inputs_of(form).switches["fusion"].value == "engine"
    assert "of 16 devices (tp 16)" in panel_of(form).heading.value
    assert "--fusion engine" in form.magic
    assert "--tp 16" in form.magic
    again = shell.run_line_magic("whatif", lines(form.state)["whatif"].removeprefix("%whatif "))
    assert again.state == form.state
    assert again.figures == form.figures
    inputs_of(form).switches["fusion"].value = "none"
    assert "tp=16 is of a serving engine, which fuses kernels" in form.error
    inputs_of(form).switches["fusion"].value = "engine"
    inputs_of(form).phase.value = "decode"
    assert form.error == ""
    assert mesh.overlap.layout.display == ""


@pytest.mark.parametrize("options", [{}, {"prompt_len": 64, "output_len": 4}])
def test_what_nobody_measured_is_expected_without_an_interval(make: Make, options: dict[str, Any]) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm", tp=4, nodes=2, **options)
    figure = form._answer.figures["estimate"]
    timed = form._answer.timing or form.roofline
    assert timed is not None
    assert figure.value == timed.expected >= timed.lower_bound
    assert figure.note.startswith("no interval: ")
    assert f"estimate {figure.text} (no interval: several nodes not measured) · " in panel_of(form).heading.value


def test_what_a_rank_gathers_has_a_colour(make: Make) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm", fsdp=8, seq_len=16)
    html = panel_of(form).memory.value
    widths = [float(text) for text in re.findall(r"flex:0 0 ([\d.]+)%", html)]
    memory = form.analysis.memory
    assert memory.buffers > 0
    assert [*memory.parts] == ["weights", "state", "activations", "buffers"]
    assert re.findall(r"</span>(\w+) [^<]+</span>", html) == [*memory.parts]  # the legend
    capacity = 80 * 2**30
    assert widths[-1] == pytest.approx(100 * float(memory.buffers) / capacity, abs=1e-3)
    assert sum(widths) == pytest.approx(100 * float(memory.total) / capacity, abs=4e-3)
    form.change(fsdp=1)
    assert "buffers" not in panel_of(form).memory.value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tp", "0", "tp is a whole number from 1 to 1,048,576, not 0"),
        ("tp", "two", "tp is no number"),
        ("tp", "", "tp is a whole number, and the entry is empty"),
        ("tp", "16", "tp=16 needs 16 devices, a node of h100-sxm has 8: give --nodes 2"),
        ("ep", "3", "ep=3 is a multiple of tp=1 that divides the 1 device of a stage"),
        ("pp", "100", "pp=100: a model of 32 layers has 1 to 32 pipeline stages"),
        ("nodes", "0", "nodes is a whole number from 1 to 100,000, not 0"),
    ],
)
def test_a_mesh_that_cannot_be_is_one_line(make: Make, name: str, text: str, message: str) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm")
    mesh, before = inputs_of(form).mesh, form.analysis
    mesh.toggle.value = True
    type_in(mesh.sizes[name], text)
    assert message in form.error
    assert "\n" not in form.error
    assert message.split(" ")[0] in panel_of(form).error.value
    assert form.analysis is before
    type_in(mesh.sizes[name], "1")
    assert form.error == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": 2}, "nodes=2 is of links, and there is no hardware: choose an accelerator"),
        ({"overlap": 0.5}, "overlap=0.5 is of links"),
        ({"overlap": 2, "hardware": "h100-sxm"}, "overlap is a share from 0 to 1 of the communication that is hidden, not 2"),
        ({"overlap": 0.5, "hardware": "h100-sxm", "prompt_len": 4}, "a request takes no overlap"),
        ({"nodes": 2, "tp": 3, "hardware": "h100-sxm"}, "3 devices do not spread evenly over 2 nodes: give another --nodes"),
        ({"rank": 3}, "no option named 'rank'"),
        ({"comm": "nccl"}, "comm is transformers or megatron, not 'nccl'"),
        ({"tp": 2, "fusion": "none", "prompt_len": 4}, "tp=2 is of a serving engine"),
    ],
)  # fmt: skip
def test_a_form_cannot_begin_with_such_a_mesh(options: dict[str, Any], message: str) -> None:
    with pytest.raises(NBAnalyzerError) as caught:
        WhatIf("gpt2", **options)
    assert message in str(caught.value)


@pytest.mark.parametrize("options", [{"tp": 2, "nodes": 2}, {"tp": 2, "prompt_len": 64}])
def test_a_mesh_is_in_what_is_saved(make: Make, tmp_path: Path, options: dict[str, Any]) -> None:
    form = make("gpt2", hardware="h100-sxm", **options)
    for suffix in ("json", "html"):
        form.save(tmp_path / f"a.{suffix}")
        assert "the busiest of 2 devices (tp 2)" in (tmp_path / f"a.{suffix}").read_text()
    form.save(tmp_path / "a.csv")
    assert "payload_bytes" in (tmp_path / "a.csv").read_text()


# ---- pin, copy, save


def test_pin_shows_the_numbers_of_compare(make: Make) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm", phase="decode", cache_len=2048)
    panel = panel_of(form)
    assert "nb-change" not in panel.headline.value
    panel.pin.click()
    assert "No module differs" in panel.changes.value
    inputs_of(form).bits["w_bit"].value = 8
    comparison = form.comparison
    assert comparison is not None
    expected = nbanalyzer.compare("llama-3.1-8b", hardware="h100-sxm", seq_len=1, cache_len=2048, w_bit=[16, 8])
    for name in expected.metrics:
        pair = [one.metric(name) for one in expected.variants]
        assert [one.metric(name) for one in comparison.variants] == pair
        card = panel.headline.value.split(f"nb-figure-{name}")
        if len(card) > 1:
            assert ratio(*pair) in card[1].split("nb-figure-")[0]
    ranked = [change for change in expected.changes("time") if change.difference]
    assert comparison.changes("time")[: len(ranked)] == ranked
    places = [panel.changes.value.index(change.path.rpartition(".")[2]) for change in ranked[:8]]
    assert places == sorted(places)
    assert panel.unpin.layout.display == ""
    panel.unpin.click()
    assert form.comparison is None
    assert panel.changes.value == ""
    assert "nb-change" not in panel.headline.value


def test_a_pin_holds_across_models_and_phases(make: Make) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm")
    form.pin()
    for options in ({"model": "gpt2"}, {"phase": "request"}, {"hardware": None}, {"phase": "decode"}):
        form.change(**options)
        assert panel_of(form).changes.value
        assert "nb-change" in panel_of(form).headline.value


def test_a_form_that_was_pinned_before_it_was_shown() -> None:
    form = WhatIf("gpt2")
    form.pin()
    form.change(batch_size=2)
    assert "×2" in panel_of(form).headline.value
    form.close()


@pytest.mark.parametrize(
    "options",
    [
        {"model": "gpt2"},
        {"model": "llama-3.1-8b", "phase": "decode", "cache_len": 3000, "batch_size": 7, "w_bit": 4, "kv_bit": 8},
        {"model": "deepseek-v3", "phase": "decode", "mla": "absorbed", "logits": "last", "causal": True},
        {"model": "gpt2", "set": {"num_layers": 3, "hidden_size": 96}, "attn": "eager", "a_bit": 32},
        {"model": "t5-small", "seq_len": 5, "encoder_len": 77},
        {"model": "mixtral-8x7b-v0.1", "tp": 2, "ep": 4, "pp": 2, "dp": 2, "comm": "megatron"},
        {"model": "gpt2", "fsdp": 2, "cp": 2},
    ],
)
def test_the_magic_gives_the_same_numbers(make: Make, shell: InteractiveShell, options: dict[str, Any]) -> None:
    form = make(**options)
    line, whatif = [one["line"] for one in panel_of(form).browser.lines]
    assert line == form.magic
    assert shell.run_line_magic("whatif", whatif.removeprefix("%whatif ")).state == form.state
    name, _, rest = line.removeprefix("%").partition(" ")
    again = shell.run_line_magic(name, f"{rest} --plot none")
    assert again.totals == form.analysis.totals
    drag(inputs_of(form).sizes["batch_size"], 32)
    assert all("--batch_size 32" in one["line"] for one in panel_of(form).browser.lines)  # they follow


def test_the_magic_names_the_hardware(make: Make, shell: InteractiveShell) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm", phase="decode", cache_len=512)
    assert form.magic == "%populate llama-3.1-8b --hardware h100-sxm --seq_len 1 --cache_len 512"
    again = shell.run_line_magic("populate", form.magic.removeprefix("%populate ") + " --plot none")
    assert form.roofline is not None
    assert again.time == form.roofline.time


def test_the_lines_of_a_request(make: Make, shell: InteractiveShell) -> None:
    form = make("llama-3.1-8b", hardware="h100-sxm", prompt_len=300, output_len=40, set={"num_kv_heads": 4}, w_bit=8)
    assert form.magic.startswith("%request llama-3.1-8b --hardware h100-sxm --prompt_len 300 --output_len 40")
    timing = shell.run_line_magic("request", form.magic.removeprefix("%request "))
    assert timing.time == form._answer.figures["time"].value
    again = shell.run_line_magic("whatif", lines(form.state)["whatif"].removeprefix("%whatif "))
    assert again.state == form.state
    assert again.figures == form.figures


def test_the_whatif_magic(shell: InteractiveShell) -> None:
    shell.user_ns |= {"n": 17, "card": "rtx-4090"}
    form = shell.run_line_magic(
        "whatif", "llama-3.1-8b --hardware $card --phase decode --cache_len '4 * 1024' --batch_size $n"
    )
    assert repr(form) == "WhatIf(llama-3.1-8b, decode, on rtx-4090)"
    assert (form.analysis.run.cache_len, form.analysis.run.batch_size) == (4096, 17)
    for line, message in (
        ("gpt2 --phase never", "invalid choice"),
        ("gpt2 --seq 3", "no option of %whatif named '--seq'"),
        ("gpt2 --hardware h1000", "no accelerator named 'h1000'"),
        ("gpt2 --set num_layers", "--set takes name=number"),
        ("gpt22", "no model named 'gpt22'"),
    ):
        with pytest.raises(NBAnalyzerError) as caught:
            shell.run_line_magic("whatif", line)
        assert message in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"hardware": "h100-sxm"}, {"prompt_len": 64, "hardware": "h100-sxm"}])
def test_saving_every_format(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    form = make("gpt2", **options)
    panel, sent = panel_of(form), {}
    assert {*panel.format.options} == {"csv", "json", "html", "png"}
    monkeypatch.setattr(panel.browser, "send", lambda words, buffers: sent.update({words["download"]: buffers[0]}))
    for suffix in panel.format.options:
        form.save(tmp_path / f"a.{suffix}")
        panel.format.value = suffix
        panel.download.click()
        assert sent[f"gpt2-{form.state.phase}.{suffix}"] == (tmp_path / f"a.{suffix}").read_bytes()
    rows = [*csv.reader((tmp_path / "a.csv").read_text().splitlines())]
    assert len(rows) > 8
    found = json.loads((tmp_path / "a.json").read_text())
    if form.request:
        assert found["figures"]["flops"] == form.request.totals["flops"]
        assert found["units"]["time"] == "s"
    else:
        assert found["totals"] == form.analysis.totals
    saved = (tmp_path / "a.html").read_text()
    assert "openai-community/gpt2" in saved
    assert form.request is None or "decode steps" in saved
    assert saved.count("<svg viewBox") == 2  # a picture of two panels
    assert png_size((tmp_path / "a.png").read_bytes())[0] >= 640


def test_saving_what_cannot_be_saved(make: Make, tmp_path: Path) -> None:
    form = make("gpt2")
    for name, message in (
        ("", "has another suffix"),
        ("a.txt", "save as .csv, .json, .html, .png: 'a.txt' has another suffix"),
        (str(tmp_path / "none" / "a.png"), "cannot be written: No such file"),
        (str(tmp_path / "none" / "a.csv"), "cannot be written: No such file"),
    ):
        with pytest.raises(InputError) as caught:
            form.save(name)
        assert message in str(caught.value)


# ---- the pictures


def test_the_axes_stay_while_a_slider_moves(make: Make) -> None:
    form = make("deepseek-v3", hardware="h200-sxm", phase="decode", cache_len=2048)
    panel = panel_of(form)
    axes = axes_of(panel.roofline.value)
    shots = set()
    size = inputs_of(form).sizes["batch_size"]
    for batch in (1, 2, 4, 8, 64, 512, 4096):
        drag(size, batch)
        shots.add(panel.roofline.value)
        assert axes_of(panel.roofline.value) == axes
    assert len(shots) == 7
    inputs_of(form).bits["w_bit"].value = 8
    inputs_of(form).bits["a_bit"].value = 8  # another peak, other lines
    assert axes_of(panel.roofline.value) != axes
    before = panel.roofline.value
    inputs_of(form).hardware.value = "none"
    drag(size, 2)
    assert panel.roofline.value == before  # what is not seen is not drawn


def test_dots_lie_on_or_below_the_roof() -> None:
    for seq_len, cache_len in ((2048, 0), (1, 2048)):
        roofline = nbanalyzer.populate("llama-3.1-8b", seq_len=seq_len, cache_len=cache_len).on("h100-sxm")
        found = dots(roofline)
        assert len(found) > 5
        card = roofline.accelerator
        for dot in found:
            # A fused kernel's matrix and vector units work at the same time.
            assert dot.rate <= 1.000001 * (card.peak("bf16") + (card.vector_peak or 0))
            assert dot.rate <= 1.000001 * dot.intensity * card.bandwidth
        assert [dot.time for dot in found] == sorted((dot.time for dot in found), reverse=True)


@pytest.mark.parametrize("phase", [{"seq_len": 2048}, DECODE])
def test_launches_of_several_modules_lie_on_the_roof(phase: dict[str, Any]) -> None:
    """Gate and up are one launch of an engine: its work and its time are of one dot, and what it waits for is a roof."""
    roofline = nbanalyzer.populate("llama-3.1-8b", fusion="engine", **phase).on("h100-sxm")
    card, found = roofline.accelerator, dots(roofline)
    labels = roofline.analysis.labels([dot.node for dot in found])
    assert sum("gate_proj" in label or "up_proj" in label for label in labels) == 1
    products = [dot for dot, label in zip(found, labels, strict=True) if "_proj" in label]
    assert len(products) >= 3
    for dot in products:
        roof = card.peak("bf16") if dot.limiter == "compute" else dot.intensity * card.bandwidth
        # Of their vector work, a few parts in a thousand, the units know no roof of products.
        assert dot.rate == pytest.approx(roof, rel=0.01)


def test_the_largest_dots_are_named_and_numbered() -> None:
    runs: list[tuple[str, dict[str, Any]]] = [
        ("llama-3.1-8b", {"seq_len": 2048}), ("deepseek-v3", {"seq_len": 1, "cache_len": 4096}),
    ]  # fmt: skip
    for model, options in runs:
        roofline = nbanalyzer.populate(model, **options).on("h100-sxm")
        html = roofline_svg(roofline, "a <b> & $x$")
        assert "a &lt;b&gt; &amp; " in html
        largest = named(dots(roofline))
        assert 1 <= len(largest) <= NAMED
        assert largest == dots(roofline)[: len(largest)]
        text = "".join(ElementTree.fromstring(html).itertext())
        for number, label in enumerate(roofline.analysis.labels([dot.node for dot in largest]), 1):
            assert f"{number} {label}, {100 * largest[number - 1].share:.1f} %" in text
        written = [digits for _, digits in spots(largest)]
        assert sorted(", ".join(written).split(", ")) == [f"{number}" for number in range(1, len(largest) + 1)]
        titles = [title.text for title in svg_of(html).iter("title")]
        assert [(title or "").partition(":")[0] for title in titles] == [dot.node.path for dot in dots(roofline)]


def test_larger_dots_take_more_of_the_time() -> None:
    roofline = nbanalyzer.populate("gpt2", seq_len=2048).on("rtx-4090")
    radii = [float(circle.attrib["r"]) for circle in svg_of(roofline_svg(roofline, "")).iter("circle")]
    assert radii == sorted(radii, reverse=True)
    areas = [radius**2 - min(radii) ** 2 for radius in radii]
    first, second = dots(roofline)[:2]
    assert areas[0] / areas[1] == pytest.approx(first.time / second.time, rel=0.05)


def test_what_was_pinned_is_drawn_behind() -> None:
    """Hollow dots at their own places, and the other card's roofs, over axes that hold both."""
    now = nbanalyzer.populate("gpt2", seq_len=1024).on("h100-sxm")
    then = nbanalyzer.populate("gpt2", seq_len=1, cache_len=1024).on("rtx-4090")
    alone, both = svg_of(roofline_svg(now, "now")), svg_of(roofline_svg(now, "now", then))
    ghosts = [one for one in both.iter("circle") if one.get("fill") == "none"]
    assert len(ghosts) == len(dots(then))
    assert len([*both.iter("circle")]) == len(ghosts) + len([*alone.iter("circle")])
    for ghost, dot in zip(ghosts, dots(then), strict=True):
        (title,) = ghost
        assert str(title.text).startswith(f"pinned: {dot.node.path}: {seconds(dot.time)}, {100 * dot.share:.1f} %")
        assert f"{dot.intensity:.4g} FLOP per byte" in str(title.text)
    assert "pinned" in both.attrib["aria-label"]
    assert "pinned" not in alone.attrib["aria-label"]

    def broken(drawing: ElementTree.Element) -> int:
        return sum(line.get("stroke-dasharray") == "2 4" for line in drawing.iter("line"))

    assert broken(both) == 1 + len({*roofs(then).values()} - {*roofs(now).values()}) > 1
    assert broken(alone) == 0 == broken(svg_of(roofline_svg(now, "now", now)))


def test_dots_far_out_have_wider_axes() -> None:
    card = Accelerator(name="odd", bandwidth=1e15, peaks={"bf16": 1e18, "fp32": 1e12})
    roofline = nbanalyzer.populate("gpt2", seq_len=1, cache_len=1).on(card)
    found = dots(roofline)
    axes = _axes(found, 1e18)
    assert axes.bottom < _axes([], 1e18).bottom  # the usual ones would not do
    for dot in found:
        assert axes.low < dot.intensity < axes.high
        assert axes.bottom < dot.rate < axes.top


def test_going_back_costs_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    form = make("gpt2", hardware="h100-sxm")
    drag(inputs_of(form).sizes["batch_size"], 2)
    monkeypatch.setattr("nbanalyzer.notebook.form.result.populate", lambda *_, **__: pytest.fail("worked out again"))
    drag(inputs_of(form).sizes["batch_size"], 1)
    inputs_of(form).hardware.value = "rtx-4090"  # the same pass, other times
    assert form.error == ""


# ---- how it is shown, and how it goes


def test_the_theme_of_the_settings_dresses_a_form(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data))
    form = make("gpt2")
    monkeypatch.setattr(settings.current(), "theme", "dark")
    form._ipython_display_()
    assert "nb-theme-dark" in form.widget._dom_classes
    # The form hides what stands in it, its ground included.
    assert shown[1]["text/html"].startswith('<div class="nb-began"><div style="color-scheme:dark;')
    monkeypatch.setattr(settings.current(), "theme", "auto")
    form._ipython_display_()
    assert "nb-theme-dark" not in form.widget._dom_classes
    assert shown[3]["text/html"].startswith('<div class="nb-began"><div style="opacity')


def test_what_a_notebook_keeps(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data))
    form = make("llama-3.1-8b", hardware="h100-sxm", phase="decode", cache_len=2048)
    form._ipython_display_()
    view, table = shown
    assert view[WIDGET]["model_id"] == form.widget.model_id
    assert view["text/plain"] == "WhatIf(llama-3.1-8b, decode, on h100-sxm)"
    assert "while a kernel runs" in view["text/html"]
    asked = form._repr_mimebundle_()  # by others than Jupyter
    assert all(asked[name] == view[name] for name in (WIDGET, "text/plain"))
    assert asked["text/html"].endswith(table["text/html"])
    assert "A form of Jupyter's widgets" in asked["text/html"]
    assert WIDGET not in table
    assert table["text/plain"] == repr(form.roofline)
    assert form.roofline is not None
    for text in (form.roofline.answer, "4.568 ms", "218.9", "8,030,261,248", "q_proj"):
        assert text in table["text/html"]
    for part in ("<style", "<script", " id=", "onclick"):
        assert part not in table["text/html"]
    other = WhatIf("llama-3.1-8b", hardware="h100-sxm", phase="decode", cache_len=2048)
    other._ipython_display_()
    assert shown[3] == table
    other.close()
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5.13")
    shown.clear()
    form._ipython_display_()
    assert len(shown) == 1  # a page keeps no notebook


def test_two_forms_do_not_disturb_one_another(make: Make) -> None:
    one, other = make("gpt2", hardware="h100-sxm"), make("gpt2", hardware="h100-sxm")
    before = panel_of(other).roofline.value, other.figures
    drag(inputs_of(one).sizes["batch_size"], 64)
    inputs_of(one).model.value = "llama-3.1-8b"
    one.pin()
    assert (panel_of(other).roofline.value, other.figures) == before
    assert inputs_of(other).sizes["batch_size"].value == 1
    one.close()
    drag(inputs_of(other).sizes["batch_size"], 2)
    assert other.analysis.run.batch_size == 2


def counted() -> tuple[int, int]:
    """Return how many widgets and figures there are."""
    gc.collect()
    return len(_instances), sum(issubclass(type(one), Figure) for one in gc.get_objects())


@pytest.fixture
def cell(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes the shell say that this cell runs now, as a front end does."""
    runs = itertools.count()
    said: dict[str, Any] = {}
    monkeypatch.setattr(shell, "get_parent", lambda: said, raising=False)
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: None)

    def begins(name: str) -> None:
        said.update({"metadata": {"cellId": name}, "header": {"msg_id": f"run {next(runs)}"}})

    return begins


@pytest.mark.long
def test_running_a_cell_again_leaks_nothing(cell: Callable[[str], None]) -> None:
    def run(*, everything: bool) -> None:
        cell("a")
        form = WhatIf("gpt2", hardware="h100-sxm")
        form._ipython_display_()
        drag(inputs_of(form).sizes["batch_size"], 4)
        if everything:
            inputs_of(form).architecture.value = True
            form.pin()
            form.change(model="opt-125m")
            form.change(hardware=None, phase="request")

    run(everything=False)  # what is made once is made
    for _, (old,) in [*lifecycle.SHOWN.values()]:
        old.close()
    start = counted()
    run(everything=False)
    once = counted()
    assert once[0] > start[0]
    assert once[1] == start[1]  # the roofline is text
    for index in range(100):
        run(everything=index % 20 == 0)
    assert counted() == once
    for _, left in [*lifecycle.SHOWN.values()]:
        for form in [*left]:
            form.close()
    assert counted() == start
    assert not lifecycle.SHOWN


def test_cells_keep_their_own_forms(cell: Callable[[str], None]) -> None:
    cell("a")
    first, second = WhatIf("gpt2"), WhatIf("gpt2")
    first._ipython_display_()
    second._ipython_display_()  # two in one cell
    cell("b")
    third = WhatIf("gpt2")
    third._ipython_display_()
    second._ipython_display_()  # shown here as well
    cell("a")
    fourth = WhatIf("gpt2")
    fourth._ipython_display_()
    assert [form._panel is not None for form in (first, second, third, fourth)] == [False, True, True, True]
    for form in (first, second, third, fourth):
        form.close()
    assert not lifecycle.SHOWN


@pytest.mark.slow
def test_a_form_that_nobody_holds_goes() -> None:
    start = counted()
    for _ in range(5):
        form = WhatIf("gpt2", hardware="h100-sxm")
        _ = form.widget
        drag(inputs_of(form).sizes["batch_size"], 4)
    del form
    assert counted() == start


def test_every_control_says_what_it_is(make: Make) -> None:
    from nbanalyzer.notebook.form.controls import everything

    form = make("llama-3.1-8b", hardware="h100-sxm")
    inputs_of(form).architecture.value = True
    inputs_of(form).mesh.toggle.value = True
    for widget in everything(form.widget):
        kind = type(widget).__name__
        if kind in {"Text", "Dropdown", "Combobox", "Checkbox", "Button", "FloatSlider"}:
            assert widget.description, kind
            assert widget.tooltip or kind == "Text", kind
        if kind == "SelectionSlider":
            assert widget.tooltip
    classes = {name for widget in everything(form.widget) for name in getattr(widget, "_dom_classes", ())}
    assert classes >= {
        "nb-whatif", "nb-error", "nb-headline", "nb-roofline", "nb-bars", "nb-memory", "nb-changes", "nb-pin", "nb-unpin",
        "nb-undo", "nb-reset_all", "nb-beside", "nb-along", "nb-format", "nb-download", "nb-browser", "nb-model", "nb-hardware", "nb-phase", "nb-batch_size",
        "nb-devices", "nb-mesh", "nb-tp", "nb-nodes", "nb-overlap", "nb-comm",
    }  # fmt: skip


def test_messages_of_two_threads_are_followed_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    form = WhatIf("gpt2", hardware="h100-sxm")
    chooser = inputs_of(form).bits["w_bit"]
    hear = chooser.comm.handle_msg
    inside = Event()
    gate = Event()
    show = Panel.show

    def slow(self: Panel, *args: Any) -> None:
        inside.set()
        gate.wait(20)
        show(self, *args)

    monkeypatch.setattr(Panel, "show", slow)
    first = Thread(target=form.change, kwargs={"batch_size": 4})
    first.start()
    assert inside.wait(20)
    data = {"method": "update", "state": {"index": [bits for _, bits in chooser.options].index(4)}, "buffer_paths": []}
    message = {"content": {"data": data}, "buffers": [], "parent_header": {}, "header": {}, "metadata": {}}
    second = Thread(target=hear, args=(message,))
    second.start()
    second.join(0.2)
    assert second.is_alive()  # it waits for its turn
    gate.set()
    first.join(20)
    second.join(20)
    assert form.state.run["batch_size"] == 4
    assert form.state.run["w_bit"] == 4
