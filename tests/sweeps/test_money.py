"""Money and energy over a grid, against arithmetic on single exact estimates."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbanalyzer import accelerator, populate, request, sweep
from nbanalyzer.errors import InputError, NBAnalyzerError
from nbanalyzer.notebook.magics import CostMagics

MONEY = ("cost_per_million_tokens", "energy_per_token", "co2_per_million_tokens")


@pytest.mark.slow
def test_of_passes() -> None:
    """$ = price / 3600 * seconds a token * 1,000,000; J = watts * seconds a token; g = kWh of a million * g a kWh."""
    cards = ["h100-sxm", "l40s"]
    found = sweep(
        "llama-3.1-8b", batch_size=[1, 8], seq_len=[1, 100], cache_len=500, hardware=cards, price=2.5, metrics=MONEY,
        profile="vllm", grid=350,
    )  # fmt: skip
    for row, batch in enumerate((1, 8)):
        for column, seq_len in enumerate((1, 100)):
            for place, card in enumerate(cards):
                one = populate("llama-3.1-8b", batch_size=batch, seq_len=seq_len, cache_len=500)
                each = one.on(card, profile="vllm").estimate.value / (batch * seq_len)
                cost, energy, carbon = (float(found.arrays[name][row, column, place]) for name in MONEY)
                assert cost == pytest.approx(2.5 / 3600 * each * 1e6, rel=1e-9)
                assert energy == pytest.approx((accelerator(card).power or 0) * each, rel=1e-9)
                assert carbon == pytest.approx(energy * 1e6 / 3.6e6 * 350, rel=1e-9)


def test_of_requests() -> None:
    lengths: dict[str, Any] = {"prompt_len": [50, 100], "output_len": [1, 20]}
    found = sweep("qwen3-30b-a3b", batch_size=4, hardware="h200-sxm", price=4, grid=9, metrics=MONEY, **lengths)
    for row, prompt in enumerate(lengths["prompt_len"]):
        for column, output in enumerate(lengths["output_len"]):
            one = request("qwen3-30b-a3b", batch_size=4, prompt_len=prompt, output_len=output)
            timing = one.on("h200-sxm", price=4, grid=9)
            for name in MONEY:
                assert float(found.arrays[name][row, column]) == pytest.approx(getattr(timing, name), rel=1e-9)


def test_every_device_has_its_price() -> None:
    """Two devices for the time that two take."""
    options: dict[str, Any] = {"seq_len": 1, "cache_len": [10, 99], "hardware": "h100-sxm", "price": 3}
    found = sweep("llama-3.2-1b", tp=[1, 2], metrics=MONEY[:2], **options)
    for row, cache_len in enumerate((10, 99)):
        for column, devices in enumerate((1, 2)):
            one = populate("llama-3.2-1b", seq_len=1, cache_len=cache_len, tp=devices)
            each = one.on("h100-sxm").estimate.value
            cost, energy = (float(found.arrays[name][column, row]) for name in MONEY[:2])
            assert cost == pytest.approx(3 * devices / 3600 * each * 1e6, rel=1e-9)
            assert energy == pytest.approx(700 * devices * each, rel=1e-9)


def test_what_is_free_costs_nothing() -> None:
    found = sweep("gpt2", seq_len=[1, 64], hardware="t4", price=0, metrics=MONEY[0])
    assert found.arrays[MONEY[0]].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": MONEY[0], "hardware": "t4"}, "a cost needs a price: give price="),
        ({"metrics": MONEY[0], "hardware": "t4", "price": -1}, "price is a number of $ an hour from 0"),
        ({"metrics": MONEY[0], "price": 1}, "cost_per_million_tokens needs hardware"),
        ({"metrics": MONEY[2], "hardware": "t4"}, "carbon needs a grid: give grid="),
        ({"metrics": MONEY[2], "hardware": "t4", "grid": float("nan")}, "grid is a number of g of CO2 a kWh"),
        ({"metrics": MONEY[1], "hardware": "t4", "grid": 1}, "a grid changes nothing but co2_per_million_tokens"),
        ({"metrics": "time", "hardware": "t4", "price": 1}, "a price changes nothing but cost_per_million_tokens"),
        ({"metrics": MONEY[1], "hardware": "apple-m1"}, "the board power of apple-m1 is not known"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(NBAnalyzerError) as caught:
        sweep("gpt2", seq_len=[1, 2], **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_text_and_the_magic_say_the_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    card = msgspec.structs.replace(accelerator("t4"), name="mine", power=100)
    expected = sweep("gpt2", seq_len=[1, 64], hardware=card, price=2, grid=7, metrics=MONEY)
    assert "price 2, grid 7" in repr(expected)
    assert "energy_per_token: " in repr(expected)
    shell = InteractiveShell()
    shell.register_magics(CostMagics)
    shell.user_ns |= {"card": card, "two": 2}
    line = f"gpt2 --seq_len 1,64 --hardware $card --price $two --grid 7 --metric {','.join(MONEY)}"
    found = shell.run_line_magic("sweep", line)
    assert found.arrays[MONEY[0]].tolist() == expected.arrays[MONEY[0]].tolist()
    assert found.arrays[MONEY[2]].tolist() == expected.arrays[MONEY[2]].tolist()
    with pytest.raises(InputError, match="--price is a number, not 'two'"):
        shell.run_line_magic("sweep", f"{line} --price two")
