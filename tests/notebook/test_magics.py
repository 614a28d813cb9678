"""What a person types in a notebook, and what they see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import nbanalyzer
from nbanalyzer import Accelerator, Comparison, Roofline
from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.errors import InputError, NBAnalyzerError, TemplateError, UnknownNameError, UnresolvedVariablesError
from nbanalyzer.plots.figure import Plot
from nbanalyzer.table import Table


def populate(shell: InteractiveShell, line: str) -> Any:
    return shell.run_line_magic("populate", line)


def test_the_main_job(shell: InteractiveShell, shown: list[Any]) -> None:
    result = populate(shell, "gpt2 --seq_len 2048")
    assert isinstance(result, Analysis)
    assert result.totals["matmul_flops"] == 660_606_025_728  # DESIGN section 6
    (plot,) = shown
    assert isinstance(plot, Plot)
    assert plot.png().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("line", "option", "value"),
    [
        ("gpt2 --batch_size 3", "batch_size", 3),
        ("gpt2 --seq_len=7", "seq_len", 7),
        ("gpt2 --seq_len '4 * 16'", "seq_len", 64),
        ('gpt2 --seq_len="2 ** 5"', "seq_len", 32),
        ("gpt2 --cache_len 5 # a remark", "cache_len", 5),
        ("gpt2 --w_bit 4", "w_bit", 4),
        ("gpt2 --a_bit 32", "kv_bit", 32),
        ("gpt2 --kv_bit 8", "kv_bit", 8),
        ("gpt2 --attn eager", "attn", "eager"),
        ("gpt2 --logits last", "logits", "last"),
        ("gpt2 --causal", "causal", "on"),
        ("--causal off gpt2", "causal", "off"),
        ("gpt2", "causal", "off"),
    ],
)
def test_options_reach_the_run(shell: InteractiveShell, line: str, option: str, value: object) -> None:
    assert getattr(populate(shell, f"--plot none {line}").run, option) == value


def test_dollar_reads_the_notebook(shell: InteractiveShell, tmp_path: Path) -> None:
    template = nbanalyzer.expand(
        "Linear", {"num_tokens": "{seq_len}", "input_size": 4, "output_size": 5, "has_bias": 0}
    )
    shell.user_ns |= {
        "n": 17, "kind": "eager", "name": "gpt2-xl", "mine": template, "place": tmp_path / "a.json", "flag": True,
        "config": {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2, "vocab_size": 10, "n_positions": 32},
    }  # fmt: skip
    result = populate(shell, "$name --plot none --seq_len $n --attn $kind --set num_layers=$n --save $place")
    assert (result.template.model_id, result.run.seq_len, result.run.attn) == ("openai-community/gpt2-xl", 17, "eager")
    assert result.params["num_layers"] == 17
    assert json.loads((tmp_path / "a.json").read_text())["totals"] == result.totals
    assert populate(shell, "$mine --plot none --seq_len 3").totals["matmul_flops"] == 2 * 3 * 4 * 5
    assert populate(shell, "gpt2 --plot none --config $config").params["hidden_size"] == 64
    with pytest.raises(InputError, match="--seq_len is a whole number, not True"):
        populate(shell, "gpt2 --plot none --seq_len $flag")
    with pytest.raises(UnknownNameError, match=r"no notebook variable named '\$nn'"):
        populate(shell, "gpt2 --seq_len $nn")


def test_braces_belong_to_the_template(shell: InteractiveShell) -> None:
    shell.user_ns["hidden_size"] = 5
    with pytest.raises(UnknownNameError, match=r"'\{hidden_size\}'"):
        populate(shell, "{hidden_size}")


def test_set_and_depth(shell: InteractiveShell) -> None:
    result = populate(shell, "gpt2 --plot none --depth 1 --set num_layers=3 vocab_size=100 --set n_head=6")
    assert (result.params["num_layers"], result.params["vocab_size"], result.params["num_heads"]) == (3, 100, 6)
    assert first_words(result) == ["transformer", "lm_head", "total"]
    assert "h × 12" in repr(populate(shell, "gpt2 --plot none --depth 2"))


def first_words(result: Any) -> list[str]:
    """The first word of every row of a result's table."""
    lines = repr(result).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(("  kernel ", "  role ")))
    return [line.split()[0] for line in lines[start + 1 : lines.index("", start)]]


def test_an_empty_cell_is_one_line(shell: InteractiveShell) -> None:
    for cell in ("{}", '{"model_id": "x"}'):
        with pytest.raises(InputError, match="the cell is a template without kernels: it costs nothing"):
            shell.run_cell_magic("populate", "--plot none", cell)


def test_phases(shell: InteractiveShell) -> None:
    step = populate(shell, "llama-3.1-8b --plot none --phase decode")
    assert (step.run.seq_len, step.run.cache_len) == (1, 2048)
    assert populate(shell, "gpt2 --plot none --phase decode --cache_len 7").run.cache_len == 7
    assert populate(shell, "gpt2 --plot none --phase prefill").run.seq_len == 1024
    for wrong in ("decode --seq_len 5", "prefill --cache_len 5", "request"):
        with pytest.raises(InputError, match=r"phase|leave --"):
            populate(shell, f"gpt2 --plot none --phase {wrong}")


def test_roles_and_the_largest_rows(shell: InteractiveShell) -> None:
    roles = populate(shell, "gpt2 --plot none --by role")
    assert first_words(roles) == ["embedding", "attention", "MLP", "norms", "residual", "head", "total"]
    # Of GPT-2's bytes, most are those of gelu_new's eight kernels; then the head, which reads the embedding.
    assert first_words(populate(shell, "gpt2 --plot none --top 2")) == ["mlp.act,", "lm_head", "16", "total"]
    assert first_words(populate(shell, "gpt2 --plot none --by role --top 1")) == ["MLP", "5", "total"]
    with pytest.raises(InputError, match="--by"):
        populate(shell, "gpt2 --plot none --by size")


@pytest.mark.parametrize("plot", ["flops", "bytes", "both", "none"])
def test_plots(shell: InteractiveShell, shown: list[Any], plot: str) -> None:
    populate(shell, f"llama-3.2-1b --plot {plot}")
    assert len(shown) == (plot != "none")
    if shown:
        panels = {"flops": ["FLOPs"], "bytes": ["bytes"], "both": ["FLOPs", "bytes"]}[plot]
        assert repr(shown[0]).startswith(" and ".join(panels) + " by module: meta-llama/Llama-3.2-1B")
        assert len(shown[0].figure.axes) == len(panels)


def test_a_plot_adds_up(shell: InteractiveShell) -> None:
    result = populate(shell, "qwen3-8b --plot none --seq_len 100 --cache_len 50")
    left, right = result.plot().figure.axes
    assert sum(bar.get_width() for bar in left.patches) == pytest.approx(result.totals["flops"], rel=1e-12)
    assert sum(bar.get_width() for bar in right.patches) == pytest.approx(result.totals["bytes"], rel=1e-12)


def test_a_dollar_in_a_name_is_no_mathematics(shell: InteractiveShell) -> None:
    cell = json.dumps({**CELL, "model_id": "x$\\frac$y, a name as long as names can be " * 3})
    plot = shell.run_cell_magic("populate", "--plot none", cell).plot()
    assert plot.png().startswith(b"\x89PNG")
    assert plot.figure.get_suptitle().startswith("x$\\frac$y")


# ---- on hardware


def test_hardware_gives_times_and_the_roofline(shell: InteractiveShell, shown: list[Any], tmp_path: Path) -> None:
    result = populate(shell, f"gpt2 --seq_len 64 --hardware h100-sxm --save {tmp_path / 'a.json'}")
    assert isinstance(result, Roofline)
    assert result.time == nbanalyzer.populate("gpt2", seq_len=64).on("h100-sxm").time
    assert repr(shown[0]).startswith("roofline and time by module: openai-community/gpt2 on h100-sxm")
    assert json.loads((tmp_path / "a.json").read_text())["roofline"]["time"] == result.time
    assert "bound" in next(line for line in repr(result).splitlines() if line.startswith("  kernel "))


@pytest.mark.parametrize(
    ("plot", "begins"),
    [("roofline", "roofline and time"), ("flops", "FLOPs by module"), ("both", "FLOPs and bytes"), ("none", None)],
)
def test_plots_on_hardware(shell: InteractiveShell, shown: list[Any], plot: str, begins: str | None) -> None:
    result = populate(shell, f"gpt2 --hardware a100-sxm-80gb --plot {plot}")
    assert isinstance(result, Roofline)
    assert [repr(one).startswith(begins or "") for one in shown] == ([] if begins is None else [True])


def test_assumed_efficiencies(shell: InteractiveShell) -> None:
    shell.user_ns["late"] = 4e-6
    line = "gpt2 --plot none --depth 1 --hardware h100-sxm --launch_overhead $late --compute_efficiency .5"
    result = populate(shell, f"{line} --bandwidth_efficiency=1")
    assert (result.efficiency.compute, result.efficiency.bandwidth, result.efficiency.launch_overhead) == (0.5, 1, 4e-6)
    assert "assumed: 50 % of the peak FLOP/s, 100 % of the bandwidth, 4.000 µs a kernel" in repr(result)
    assert first_words(result) == ["transformer", "lm_head", "total"]


def test_a_card_of_ones_own(shell: InteractiveShell, tmp_path: Path) -> None:
    shell.user_ns["card"] = Accelerator(name="mine", bandwidth=1e12, peaks={"bf16": 1e14})
    assert populate(shell, "gpt2 --plot none --hardware $card").accelerator.name == "mine"
    (tmp_path / "card.json").write_text('{"name": "filed", "bandwidth": 1e12, "peaks": {"bf16": 1e14}}')
    found = populate(shell, f"gpt2 --plot none --hardware {tmp_path / 'card.json'}")
    assert found.accelerator.name == "filed"
    assert "warning: filed's vector peak is not known" in repr(found)
    described = shell.run_line_magic("hardware", "$card")
    assert described is shell.user_ns["card"]


def test_hardware_lists_and_describes(shell: InteractiveShell) -> None:
    listing = shell.run_line_magic("hardware", "")
    assert isinstance(listing, Table)
    assert len(repr(listing).splitlines()) == len(nbanalyzer.accelerators()) + 1
    card = shell.run_line_magic("hardware", "H100_SXM")
    assert isinstance(card, Accelerator)
    text = shell.display_formatter.format(card)[0]["text/plain"]
    assert "3.350 TB/s" in text
    assert "source" in text


def test_compare(shell: InteractiveShell, shown: list[Any]) -> None:
    result = shell.run_line_magic("compare", "gpt2 gpt2-xl --seq_len 2048")
    assert isinstance(result, Comparison)
    assert [one.label for one in result.variants] == ["gpt2", "gpt2-xl"]
    assert result.variants[0].analysis.totals["matmul_flops"] == 660_606_025_728  # DESIGN section 6
    assert repr(shown[0]).startswith("bytes, by module")


@pytest.mark.parametrize(
    ("line", "labels", "plot"),
    [
        ("llama-3.1-8b --w_bit 16 8 4 --hardware h100-sxm", ["w_bit 16", "w_bit 8", "w_bit 4"], "time"),
        ("gpt2 --w_bit 16 8 --fusion engine --hardware h100-sxm", ["w_bit 16", "w_bit 8"], "time, at least"),
        ("gpt2 --hardware h100-sxm rtx-4090 --plot bytes", ["h100-sxm", "rtx-4090"], "bytes"),
        ("gpt2 --attn sdpa eager --logits last --plot flops", ["attn sdpa", "attn eager"], "flops"),
        ("gpt2 --causal off on --plot parameters", ["causal off", "causal on"], "parameters"),
        ("gpt2 gpt2-xl --set num_layers=2 --plot none", ["gpt2", "gpt2-xl"], None),
        ("gpt2 --seq_len '2 * 4' $n --plot none", ["seq_len 8", "seq_len 5"], None),
        ("$small gpt2 --plot none", ["gpt2 (1)", "gpt2 (2)"], None),
    ],
)
def test_variants(shell: InteractiveShell, shown: list[Any], line: str, labels: list[str], plot: str | None) -> None:
    shell.user_ns |= {"n": 5, "small": nbanalyzer.populate("gpt2", seq_len=2)}
    result = shell.run_line_magic("compare", line)
    assert [one.label for one in result.variants] == labels
    assert [repr(one).split(", by module")[0] for one in shown] == ([] if plot is None else [plot])
    if "num_layers" in line:
        assert {one.analysis.params["num_layers"] for one in result.variants} == {2}
    if "--logits last" in line:
        assert {one.analysis.run.logits for one in result.variants} == {"last"}


@pytest.mark.parametrize(
    ("magic", "line", "kind", "message"),
    [
        ("hardware", "h1000", UnknownNameError, "no accelerator named 'h1000'"),
        ("hardware", "h100-sxn", UnknownNameError, "Did you mean 'h100-sxm'"),
        ("hardware", "h100-sxm a100-sxm-80gb", InputError, "unrecognized arguments: a100-sxm-80gb"),
        ("hardware", "$nothing", UnknownNameError, "no notebook variable named '$nothing'"),
        ("hardware", "$number", UnknownNameError, "no accelerator named '5'"),
        ("hardware", "no/such.json", InputError, "no/such.json: No such file or directory"),
        ("hardware", "--all", UnknownNameError, "no option of %hardware named '--all'"),
        ("compare", "", InputError, "%compare takes one or more models, before the options"),
        ("compare", "--seq_len 4 8", InputError, "%compare takes one or more models, before the options"),
        ("compare", "gpt2", InputError, "a comparison is of 2 to 6 variants, not 1: name models"),
        ("compare", "gpt2 --seq_len 1 2 3 4 5 6 7", InputError, "a comparison is of 2 to 6 variants, not 7"),
        ("compare", "gpt2 gpt3", UnknownNameError, "no model named 'gpt3'. Did you mean 'gpt2'"),
        ("compare", "gpt2 --seq_len 4 0", InputError, "seq_len is a whole number from 1 to 1,099,511,627,776, not 0"),
        ("compare", "gpt2 --seq_len 4 -8", InputError, "-8"),
        ("compare", "gpt2 --seq_len 4 x", InputError, "--seq_len is a whole number, not 'x'; a notebook variable is $x"),
        ("compare", "gpt2 --attn sdpa flash", InputError, "invalid choice: 'flash'"),
        ("compare", "gpt2 --hardware h100-sxm foo", UnknownNameError, "no accelerator named 'foo'"),
        ("compare", "gpt2 gpt2-xl --plot time", InputError, "--plot time needs --hardware NAME"),
        ("compare", "gpt2 gpt2-xl --plot roofline", InputError, "invalid choice: 'roofline'"),
        ("compare", "gpt2 gpt2-xl --set layers", InputError, "--set takes name=number, not 'layers'"),
        ("compare", "gpt2 gpt2-xl --seq 4", UnknownNameError, "no option of %compare named '--seq'"),
        ("request", "", InputError, "%request takes a model"),
        ("request", "gpt2 --seq_len 4", UnknownNameError, "no option of %request named '--seq_len'"),
        ("request", "gpt2 --price 2", InputError, "--price needs --hardware NAME"),
        ("request", "gpt2 --profile vllm", InputError, "--profile needs --hardware NAME"),
        ("request", "gpt2 --concurrency 2", InputError, "--concurrency needs --hardware NAME"),
        ("request", "gpt2 --hardware t4 --save x.json", InputError, "--save needs --concurrency N"),
        ("request", "gpt2 --hardware t4 --memory_fraction 1", InputError, "--memory_fraction needs --concurrency N"),
        ("request", "gpt2 --hardware t4 --price=-1", InputError, "price is a number of $ an hour from 0 to 1,000,000, not -1.0"),
        ("request", "gpt2 --hardware t4 --concurrency 0", InputError, "concurrency is a whole number from 1"),
        ("request", "gpt2 --tp two", InputError, "--tp is a whole number, not 'two'"),
        ("populate", "gpt2 --hardware", InputError, "argument --hardware: expected one argument"),
        ("populate", "gpt2 --hardware h100-sxn", UnknownNameError, "Did you mean 'h100-sxm'"),
        ("populate", "gpt2 --plot roofline", InputError, "--plot roofline needs --hardware NAME: %hardware lists the names"),
        ("populate", "gpt2 --launch_overhead 1e-6", InputError, "--launch_overhead needs --hardware NAME"),
        ("populate", "gpt2 --hardware t4 --launch_overhead soon", InputError, "--launch_overhead is a number, not 'soon'"),
        ("populate", "gpt2 --hardware t4 --launch_overhead $flag", InputError, "--launch_overhead is a number, not True"),
        ("populate", "gpt2 --hardware t4 --launch_overhead=-1", InputError, "the launch overhead is a number of seconds from 0"),
        ("populate", "gpt2 --hardware t4 --compute_efficiency 0", InputError, "a share above 0 and at most 1, not 0.0"),
        ("populate", "gpt2 --hardware t4 --compute_efficiency nan", InputError, "a share above 0 and at most 1, not nan"),
        ("populate", "gpt2 --hardware t4 --bandwidth_efficiency 80", InputError, "at most 1, not 80.0"),
    ],
)  # fmt: skip
def test_bad_input_on_hardware_is_one_line(
    shell: InteractiveShell, shown: list[Any], magic: str, line: str, kind: type[NBAnalyzerError], message: str
) -> None:
    shell.user_ns |= {"number": 5, "flag": True}
    shell.user_ns.pop("nothing", None)
    with pytest.raises(kind) as caught:
        shell.run_line_magic(magic, line)
    text = str(caught.value)
    assert message in text
    assert text.isprintable()
    assert len(text) < 400
    assert shown == []
    assert caught.value._render_traceback_() == [f"{type(caught.value).__name__}: {text}"]


def test_what_cannot_be_explained_lists_what_can(shell: InteractiveShell) -> None:
    with pytest.raises(UnknownNameError, match=r"no kernel or metric named 'nope'\. There are: flops, matmul_flops"):
        populate(shell, "gpt2 --plot none").explain("nope")


@pytest.mark.slow
def test_list(shell: InteractiveShell) -> None:
    result = populate(shell, "--list")
    assert isinstance(result, Table)
    assert "openai-community/gpt2 " in repr(result)
    rows = {line.split()[1]: line for line in repr(result).splitlines()[1:]}
    assert rows["openai-community/gpt2"].split()[2:] == ["124", "M", "1,024", "12", "768"]
    # Two of eight experts of three matrices in each of 32 layers, of 46.7 billion parameters.
    assert rows["mistralai/Mixtral-8x7B-v0.1"].split()[2:6] == ["46.7", "B", "12.9", "B"]
    makers = [name.partition("/")[0] for name in rows]
    assert sum(one != before for one, before in zip(makers[1:], makers, strict=False)) == len({*makers}) - 1
    assert len(repr(result).splitlines()) == len(nbanalyzer.models()) + 1


CELL = {
    "config": {"hidden_size": 8},
    "kernels": [
        {
            "kernel_type": "composite",
            "name": "up",
            "module": "Linear",
            "bindings": {
                "num_tokens": "{batch_size} * {seq_len}",
                "input_size": "{hidden_size}",
                "output_size": "3",
                "has_bias": "1",
            },
        }
    ],
}


def test_a_cell_is_a_template(shell: InteractiveShell) -> None:
    result = shell.run_cell_magic("populate", "--plot none --batch_size 2 --seq_len 5", json.dumps(CELL))
    assert result.totals["matmul_flops"] == 2 * (2 * 5) * 8 * 3
    assert result.totals["vector_flops"] == 2 * 5 * 3
    assert result.totals["parameters"] == 8 * 3 + 3


def test_a_cell_may_be_a_module_template(shell: InteractiveShell) -> None:
    cell = {"class_name": "mine.Layer", "description": "", "variables": {}, "kernels": CELL["kernels"]}
    result = shell.run_cell_magic("populate", "--plot none --seq_len 5 --set hidden_size=8", json.dumps(cell))
    assert result.totals["matmul_flops"] == 2 * 5 * 8 * 3


@pytest.mark.parametrize(
    ("line", "cell", "kind", "message"),
    [
        ("gpt3", None, UnknownNameError, "no model named 'gpt3'. Did you mean 'gpt2'"),
        ("no-such-org/no-such-model", None, UnknownNameError, "`hf download no-such-org/no-such-model config.json`"),
        ("../../etc/passwd", None, UnknownNameError, "no model named '../../etc/passwd'."),
        ("gpt2 --seqlen 5", None, UnknownNameError, "no option of %populate named '--seqlen'. Did you mean '--seq_len'"),
        ("gpt2 --seq 5", None, UnknownNameError, "no option of %populate named '--seq'."),
        ("gpt2 --seq_len", None, InputError, "argument --seq_len: expected one argument"),
        ("gpt2 --seq_len -5", None, InputError, "seq_len is a whole number from 1 to 1,099,511,627,776, not -5"),
        ("gpt2 --seq_len 0", None, InputError, "seq_len is a whole number from 1"),
        ("gpt2 --seq_len 1.5", None, InputError, "--seq_len is a whole number, not '1.5'"),
        ("gpt2 --seq_len 10**30", None, InputError, "seq_len is a whole number from 1"),
        ("gpt2 --seq_len 9**9**9", None, InputError, "--seq_len is no number: an exponent is at most 64"),
        ("gpt2 --seq_len many", None, InputError, "--seq_len is a whole number, not 'many'; a notebook variable is $many"),
        ("gpt2 --w_bit 0", None, InputError, "w_bit is a whole number from 1 to 64, not 0"),
        ("gpt2 --attn flash", None, InputError, "invalid choice: 'flash'"),
        ("gpt2 --mla absorbed", None, InputError, "openai-community/gpt2 has no attention variant 'absorbed'"),
        ("gpt2 --encoder_len 5", None, InputError, "encoder_len=5 changes nothing"),
        ("gpt2 --depth 0", None, InputError, "depth is a whole number from 1"),
        ("gpt2 --set layers", None, InputError, "--set takes name=number, not 'layers'"),
        ("gpt2 --set num_kv_heads=4", None, InputError, "set num_kv_heads=4 changes nothing"),
        ("gpt2 --set num_head=4", None, UnknownNameError, "Did you mean 'num_heads'"),
        ("gpt2 --set hidden_size=1000", None, NBAnalyzerError, "1000"),
        ("gpt2 --save a.xlsx", None, InputError, "save as .json, .csv, .md, .html: 'a.xlsx'"),
        ("gpt2 --save /proc/no/a.csv", None, InputError, "'/proc/no/a.csv' cannot be written"),
        ("", None, InputError, "%populate takes one model"),
        ("gpt2", json.dumps(CELL), InputError, "the cell is the template"),
        ("", '{"kernels": [\n  {]}', TemplateError, "cell, line 2, column 4: malformed JSON"),
        ("", '{"kernels": [{"kernel_type": "basic"}]}', TemplateError, "cell, $.kernels[0]: Object missing required field"),
        ("", json.dumps(CELL).replace(', "has_bias": "1"', ""), UnresolvedVariablesError, "unresolved template variables: ['has_bias']"),
        ("", json.dumps(CELL).replace("{hidden_size}", "{hidden}"), UnresolvedVariablesError, "{hidden} in up"),
        ("", json.dumps(CELL).replace('"3"', '"' + "(" * 10_000 + '"'), TemplateError, "up, bindings.output_size"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    shell: InteractiveShell, line: str, cell: str | None, kind: type[NBAnalyzerError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        if cell is None:
            populate(shell, f"{line} --plot none")
        else:
            shell.run_cell_magic("populate", f"{line} --plot none", cell)
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    assert len(text) < 500
    assert caught.value._render_traceback_() == [f"{type(caught.value).__name__}: {text}"]


def test_an_error_shows_as_one_line_and_fails_the_cell(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    result = shell.run_cell("%populate gpt3 --plot none")
    assert isinstance(result.error_in_exec, UnknownNameError)
    said = capsys.readouterr().out.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("UnknownNameError: no model named 'gpt3'")


def completions(shell: InteractiveShell, text: str) -> list[str]:
    with provisionalcompleter():
        return [found.text for found in shell.Completer.completions(text, len(text)) if found.text]


def test_completion_of_models_options_and_choices(shell: InteractiveShell) -> None:
    assert completions(shell, "%populate gpt2-x") == ["gpt2-xl"]
    assert completions(shell, "x = %populate openai-community/gpt2-m") == ["openai-community/gpt2-medium"]
    assert completions(shell, "%populate Llama-3.1-8") == ["llama-3.1-8b"]
    assert completions(shell, "%populate gpt2 --seq") == ["--seq_len"]
    assert completions(shell, "%%populate --attn ") == ["sdpa", "eager"]
    assert completions(shell, "%populate gpt2 --attn e") == ["eager"]
    assert completions(shell, "%populate gpt2 --set num_") == ["num_heads=", "num_layers="]
    assert "num_kv_heads=" in completions(shell, "%populate llama-3.1-8b --set num_")
    assert "--seq_len" not in completions(shell, "%populate gpt2 --seq_len 5 --")
    assert "gpt2-xl" not in completions(shell, "gpt2-x")
    assert completions(shell, "%populate gpt2 --enc") == ["--encoder_len"]
    assert completions(shell, "%populate gpt2 --mla ") == ["expanded", "absorbed"]


def test_completion_of_hardware_and_comparisons(shell: InteractiveShell) -> None:
    assert completions(shell, "%populate gpt2 --hardware h100-s") == ["h100-sxm"]
    assert completions(shell, "%populate gpt2 --hard") == ["--hardware"]
    assert completions(shell, "%populate gpt2 --plot ") == ["roofline", "both", "flops", "bytes", "none"]
    assert "--seq_len" in completions(shell, "%populate gpt2 --hardware h100-sxm ")
    assert "h100-sxm" in completions(shell, "%hardware ")
    assert "--seq_len" not in completions(shell, "%hardware ")
    assert completions(shell, "%hardware apple-m2-u") == ["apple-m2-ultra"]
    assert completions(shell, "%compare gpt2-x") == ["gpt2-xl"]
    assert completions(shell, "c = %compare gpt2 gpt2-x") == ["gpt2-xl"]
    assert "gpt2" not in completions(shell, "%compare gpt2 gpt")
    assert completions(shell, "%compare gpt2 --attn sdpa ") == ["eager"]
    assert completions(shell, "%compare gpt2 --hardware h100-sxm h100-sx") == []
    assert completions(shell, "%compare gpt2 --hardware rtx-4090 h100-s") == ["h100-sxm"]
    assert completions(shell, "%compare gpt2 --set num_h") == ["num_heads="]
    assert completions(shell, "%compare gpt2 --w_bit 4 8 --seq") == ["--seq_len"]
    assert completions(shell, "%populate --seq_len 5 gpt2-x") == ["gpt2-xl"]


def test_completion_of_generate_and_verify(shell: InteractiveShell, tmp_path: Path) -> None:
    assert completions(shell, "%verify gpt2-x") == ["gpt2-xl"]
    assert completions(shell, "t = %generate openai-community/gpt2-m") == ["openai-community/gpt2-medium"]
    assert completions(shell, "%generate gpt2 --") == ["--config", "--model_id", "--output"]
    assert completions(shell, "%generate gpt2 --output x --m") == ["--model_id"]
    assert completions(shell, "%verify gpt2 --") == ["--model_class"]
    (tmp_path / "config.json").write_text("{}")
    assert any("config.json" in text for text in completions(shell, f"%generate {tmp_path}/conf"))


def test_completion_of_calibrate(shell: InteractiveShell) -> None:
    assert completions(shell, "%calibrate --") == ["--device", "--seconds", "--output"]
    assert completions(shell, "p = %calibrate --device ") == ["cpu", "cuda"]
    assert completions(shell, "%calibrate --device cuda --se") == ["--seconds"]
    assert completions(shell, "%calibrate gpt") == []


@pytest.mark.parametrize(
    "name", ["calibrate", "generate", "verify", "compare", "hardware", "whatif", "sweep", "request"]
)
def test_a_late_magic_is_documented_as_itself(shell: InteractiveShell, name: str) -> None:
    found = shell.object_inspect(f"%{name}")
    assert found["found"]
    assert f"%{name} " in found["docstring"]  # its usage
    assert completions(shell, f"%{name} --x") == []


def test_completion_of_forms_and_sweeps(shell: InteractiveShell) -> None:
    assert completions(shell, "%whatif gpt2-x") == ["gpt2-xl"]
    assert completions(shell, "%whatif gpt2 --hardware h100-s") == ["h100-sxm"]
    assert completions(shell, "%whatif gpt2 --phase ") == ["prefill", "decode", "request"]
    assert completions(shell, "%sweep gpt2 gpt2-x") == ["gpt2-xl"]
    assert completions(shell, "%sweep gpt2 --batch") == ["--batch_size"]
    assert completions(shell, "%request gpt2-x") == ["gpt2-xl"]
    assert completions(shell, "%request gpt2 --quant fp") == ["fp8", "fp8-block", "fp8-channel"]
    assert completions(shell, "%request gpt2 --hardware h100-s") == ["h100-sxm"]
    assert completions(shell, "%request gpt2 --conc") == ["--concurrency"]
    assert completions(shell, "%request gpt2 --seq") == []


def test_a_request_in_a_line(shell: InteractiveShell, tmp_path: Path) -> None:
    def asked(line: str) -> Any:
        return shell.run_line_magic("request", line)

    shell.user_ns |= {"many": 8, "dollars": 2.5, "place": tmp_path / "served.json"}
    line = "llama-3.1-8b --prompt_len '4 * 25' --output_len 20"
    alone = nbanalyzer.request("llama-3.1-8b", prompt_len=100, output_len=20)
    assert repr(asked(line)) == repr(alone)
    assert asked("llama-3.1-8b").prompt_len == 1024
    assert asked("llama-3.1-8b").output_len == 256
    line += " --hardware h100-sxm --profile vllm --price $dollars"
    assert repr(asked(line)) == repr(alone.on("h100-sxm", profile="vllm", price=2.5))
    found = asked(f"{line} --concurrency $many --tp 2 --quant fp8 --grid 300 --memory_fraction .5 --save $place")
    group = nbanalyzer.request("llama-3.1-8b", prompt_len=100, output_len=20, tp=2, quant="fp8")
    timing = group.on("h100-sxm", profile="vllm", price=2.5, grid=300)
    assert repr(found) == repr(timing.served(8, memory_fraction=0.5))
    assert json.loads((tmp_path / "served.json").read_text())["tp"] == 2
    assert asked("gpt2 --batch_size 3 --set num_layers=2 --w_bit 8").prefill.params["num_layers"] == 2


def test_sympy_shows_the_fields_symbols(shell: InteractiveShell) -> None:
    formula = nbanalyzer.populate("gpt2").formula("parameters")
    data, _ = shell.display_formatter.format(formula)
    assert "d_{\\mathrm{model}}" in data["text/latex"]
    assert "hidden_{size}" not in data["text/latex"]
    # What a browser sets by itself; of what MathML has no words for here, the LaTeX alone.
    assert "<msub><mi>d</mi><mi>model</mi></msub>" in data["text/html"]
    import sympy

    assert "text/html" not in shell.display_formatter.format(sympy.sin(sympy.Symbol("seq_len")))[0]


def test_how_somebody_chose_to_show_sympy_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    import sympy

    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    shell = InteractiveShell()
    shell.display_formatter.formatters["text/latex"].for_type(sympy.Basic, lambda _: "$chosen$")
    for extension in ("load_ext", "unload_ext"):
        shell.run_line_magic(extension, "nbanalyzer")
        data, _ = shell.display_formatter.format(sympy.Symbol("hidden_size"))
        assert data["text/latex"] == "$chosen$"
        assert "text/html" not in data


def test_reload_and_unload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    shell = InteractiveShell()
    for _ in range(3):
        shell.run_line_magic("reload_ext", "nbanalyzer")
    assert sum(matcher.__name__ == "complete" for matcher in shell.Completer.custom_matchers) == 1
    shell.run_line_magic("unload_ext", "nbanalyzer")
    assert shell.find_line_magic("populate") is None
    assert shell.find_line_magic("generate") is None
    assert shell.find_line_magic("verify") is None
    assert shell.find_line_magic("compare") is None
    assert shell.find_line_magic("hardware") is None
    assert shell.find_line_magic("whatif") is None
    assert shell.find_line_magic("sweep") is None
    assert shell.find_line_magic("request") is None
    assert shell.find_cell_magic("populate") is None
    assert not shell.Completer.custom_matchers
    import sympy

    data, _ = shell.display_formatter.format(sympy.Symbol("hidden_size"))
    assert "mathrm" not in data["text/latex"]
    assert "text/html" not in data
