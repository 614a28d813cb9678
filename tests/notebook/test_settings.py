"""`%config NBAnalyzer`: what is usual for all magics of a session."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets import TraitError
from traitlets.config import Config

import nbanalyzer
from nbanalyzer.errors import InputError
from nbanalyzer.notebook import load
from nbanalyzer.notebook.form.lines import lines
from nbanalyzer.notebook.settings import DEFAULTS, NBAnalyzer, current
from nbanalyzer.quantities import si


@pytest.fixture(autouse=True)
def usual(shell: InteractiveShell) -> Iterator[None]:
    """Leave the settings as they were."""
    yield
    shell.config.pop("NBAnalyzer", None)
    for name, value in DEFAULTS.items():
        setattr(current(), name, value)


def config(shell: InteractiveShell, line: str) -> Any:
    return shell.run_line_magic("config", line)


def test_config_lists_what_there_is(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    config(shell, "NBAnalyzer")
    said = capsys.readouterr().out
    for name in DEFAULTS:
        assert f"NBAnalyzer.{name}=" in said
    assert "'h100-sxm'" not in said
    config(shell, "NBAnalyzer.hardware = 'h100-sxm'")
    assert config(shell, "NBAnalyzer.hardware") == "h100-sxm"


def test_hardware_and_profile_are_of_every_magic(shell: InteractiveShell) -> None:
    config(shell, "NBAnalyzer.hardware = 'h100-sxm'")
    config(shell, "NBAnalyzer.profile = 'vllm'")
    config(shell, "NBAnalyzer.plot = 'none'")
    decode = "llama-3.1-8b --seq_len 1 --cache_len 512"
    expected = nbanalyzer.populate("llama-3.1-8b", seq_len=1, cache_len=512).on("h100-sxm", profile="vllm")
    assert shell.run_line_magic("populate", decode).answer == expected.answer
    assert shell.run_line_magic("request", "gpt2").accelerator.name == "h100-sxm"
    compared = shell.run_line_magic("compare", f"{decode} --w_bit 16 8")
    assert compared.variants[0].roofline.profile == expected.profile
    assert shell.run_line_magic("sweep", f"{decode} --batch_size 1 2").fixed["hardware"] == "h100-sxm"
    assert shell.run_line_magic("whatif", decode).roofline.answer == expected.answer
    # A line says otherwise; what the profile does not serve has typical figures.
    assert not hasattr(shell.run_line_magic("populate", f"{decode} --hardware none"), "accelerator")
    assert shell.run_line_magic("populate", f"{decode} --hardware mi300x").profile.engine != "vllm"
    assert shell.run_line_magic("populate", f"{decode} --profile typical").profile.engine != "vllm"


def test_the_lines_of_a_form_say_what_is_not_usual(shell: InteractiveShell) -> None:
    config(shell, "NBAnalyzer.hardware = 'h100-sxm'")
    config(shell, "NBAnalyzer.profile = 'vllm'")
    for options in (
        {},
        {"hardware": "h100-sxm"},
        {"hardware": "h100-sxm", "profile": "sglang"},
        {"hardware": "mi300x"},
    ):
        form = nbanalyzer.whatif("gpt2", **options)
        again = shell.run_line_magic("whatif", lines(form.state)["whatif"].removeprefix("%whatif "))
        assert again.state == form.state


def test_plots_and_depth(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda *data, **_: shown.extend(data))
    for plot, count in (("flops", 1), ("roofline", 1), ("none", 0)):  # a roofline needs times: the usual plot instead
        config(shell, f"NBAnalyzer.plot = {plot!r}")
        shown.clear()
        shell.run_line_magic("populate", "gpt2")
        assert len(shown) == count
    shell.run_line_magic("compare", "gpt2 --w_bit 16 8")
    assert shown == []
    shell.run_line_magic("populate", "gpt2 --plot both")
    assert len(shown) == 1
    config(shell, "NBAnalyzer.depth = 1")
    flat = repr(shell.run_line_magic("populate", "gpt2"))
    assert "c_attn" not in flat
    assert "c_attn" in repr(shell.run_line_magic("populate", "gpt2 --depth 4"))


def test_bytes_in_binary_units(shell: InteractiveShell) -> None:
    assert si(16_060_522_496, "B") == "16.06 GB"
    config(shell, "NBAnalyzer.units = 'binary'")
    assert si(16_060_522_496, "B") == "14.96 GiB"  # / 2**30
    assert si(2048, "B") == "2.000 KiB"
    assert si(12, "B") == "12 B"
    assert si(3.35e12, "B/s") == "3.350 TB/s"  # rates are as vendors give them
    assert si(8_030_261_248) == "8.030 G"
    config(shell, "NBAnalyzer.units = 'decimal'")
    assert si(16_060_522_496, "B") == "16.06 GB"


def test_a_theme_dresses_what_is_shown(shell: InteractiveShell) -> None:
    formatter = shell.display_formatter
    result = shell.run_line_magic("populate", "gpt2 --plot none")
    plain, _ = formatter.format(result)
    assert not plain["text/html"].startswith('<div style="color-scheme')
    config(shell, "NBAnalyzer.theme = 'dark'")
    dark, _ = formatter.format(result)
    assert dark["text/html"].startswith('<div style="color-scheme:dark;color:#e8e8e8;background:#161616')
    assert plain["text/html"] in dark["text/html"]
    assert dark["text/plain"] == plain["text/plain"]
    shown, _ = formatter.format(result.plot("flops"))
    assert "image/png" in shown or shown["text/html"].startswith('<div style="color-scheme:dark')


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hardware", "h100-smx", "no accelerator named 'h100-smx'. Did you mean"),
        ("profile", "vlmm", "NBAnalyzer.profile is typical, "),
        ("plot", "pie", "NBAnalyzer.plot is roofline, both, flops, bytes, none, not 'pie'"),
        ("units", "KiB", "NBAnalyzer.units is decimal, binary, not 'KiB'"),
        ("theme", "blue", "NBAnalyzer.theme is auto, light, dark, not 'blue'"),
        ("depth", -1, "NBAnalyzer.depth is a whole number from 0, not -1"),
    ],
)
def test_what_cannot_be_set_is_one_line(
    shell: InteractiveShell, caplog: pytest.LogCaptureFixture, name: str, value: object, message: str
) -> None:
    with caplog.at_level(logging.ERROR):
        config(shell, f"NBAnalyzer.{name} = {value!r}")
    (record,) = caplog.records
    assert message in record.getMessage()
    assert "\n" not in record.getMessage()
    assert getattr(current(), name) == DEFAULTS[name]
    with pytest.raises(TraitError):
        NBAnalyzer(**{name: value})


def test_the_help_of_a_magic_says_what_is_usual(shell: InteractiveShell) -> None:
    help_of = shell.find_line_magic("populate").getdoc
    assert "%config NBAnalyzer says what is usual: nothing is set" in help_of()
    config(shell, "NBAnalyzer.hardware = 'h100-sxm'")
    config(shell, "NBAnalyzer.depth = 2")
    assert "says what is usual: depth 2, hardware h100-sxm" in help_of()


@pytest.mark.slow
def test_magics_that_are_loaded_late_have_the_same_help() -> None:
    """IPython loads what is registered as lazy when it is first asked for: also by ``?``."""
    import subprocess
    import sys

    program = """
from IPython.core.interactiveshell import InteractiveShell
from traitlets import TraitError
from traitlets.config import Config
shell = InteractiveShell.instance()
shell.magics_manager.register_lazy("populate", "nbanalyzer")
assert "nbanalyzer" not in __import__("sys").modules
shell.run_cell("%populate?")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert "%config NBAnalyzer says what is usual: nothing is set" in done.stdout
    assert "--seq_len N" in done.stdout


def test_the_files_of_ipython_set_them_too(shell: InteractiveShell) -> None:
    shell.run_line_magic("unload_ext", "nbanalyzer")
    shell.update_config(Config({"NBAnalyzer": {"hardware": "h100-sxm"}}))
    try:
        shell.run_line_magic("load_ext", "nbanalyzer")
        assert current().hardware == "h100-sxm"
        assert [type(one) for one in shell.configurables].count(NBAnalyzer) == 1
    finally:
        shell.run_line_magic("unload_ext", "nbanalyzer")
        shell.config.pop("NBAnalyzer")
        shell.run_line_magic("load_ext", "nbanalyzer")
    assert current().hardware == ""


def test_a_mistake_in_those_files_is_one_line(shell: InteractiveShell) -> None:
    shell.run_line_magic("unload_ext", "nbanalyzer")
    shell.update_config(Config({"NBAnalyzer": {"units": "KiB"}}))
    with pytest.raises(
        InputError, match=r"^the configuration of IPython: NBAnalyzer\.units is decimal, binary, not 'KiB'$"
    ):
        load(shell)
    shell.config.pop("NBAnalyzer")
    shell.run_line_magic("load_ext", "nbanalyzer")
