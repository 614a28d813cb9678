"""The options of a run at their bounds, and what follows where nothing is said."""

from __future__ import annotations

from typing import Any

import pytest
from builders import error_of

from nbanalyzer.costs.run import Run
from nbanalyzer.errors import InputError, UnknownNameError


@pytest.mark.parametrize(
    ("name", "least", "most", "beside"),
    [
        ("batch_size", 1, 1_099_511_627_776, {}),
        ("seq_len", 1, 1_099_511_627_776, {}),
        ("cache_len", 0, 1_099_511_627_776, {}),
        ("encoder_len", 1, 1_099_511_627_776, {}),
        ("images", 0, 1_048_576, {}),
        ("w_bit", 1, 64, {}),
        ("a_bit", 1, 64, {}),
        ("kv_bit", 1, 64, {}),
        ("tp", 1, 1_048_576, {}),
        ("rank", 0, 7, {"tp": 4, "dp": 2}),
        ("mtp", 0, 64, {"acceptance": 0.5}),
    ],
)
def test_whole_numbers(name: str, least: int, most: int, beside: dict[str, Any]) -> None:
    for value in (least, most):
        assert getattr(Run.of(**{name: value}, **beside), name) == value
    for wrong in (least - 1, most + 1, float(most), True, "2"):
        message = error_of(lambda wrong=wrong: Run.of(**{name: wrong}, **beside), InputError)  # type: ignore[misc]
        assert message.startswith(f"{name} is a whole number from {least} to {most:,}, not ")


@pytest.mark.parametrize(
    ("name", "values", "wrong"),
    [
        ("audio_seconds", (0, 0.5, 86_400), (-0.1, 86_400.5, True, "1")),
        ("imbalance", (1, 1.5, 1_048_576), (0.99, 1_048_577, True, "2")),
        ("acceptance", (0, 0.5, 1), (-0.1, 1.1, True, "1")),
    ],
)
def test_numbers(name: str, values: tuple[float, ...], wrong: tuple[object, ...]) -> None:
    for value in values:
        assert getattr(Run.of(**{name: value}), name) == value
    for one in wrong:
        assert error_of(lambda one=one: Run.of(**{name: one}), InputError).startswith(f"{name} is a number from ")  # type: ignore[misc]


def test_the_devices_of_a_mesh() -> None:
    """Experts are spread over devices that there are: ep is no axis of its own."""
    run = Run(tp=2, ep=4, pp=3, dp=5, fsdp=7, cp=2)
    assert run.mesh == (2, 4, 3, 5, 7, 2)
    assert run.devices == 2 * 3 * 5 * 7 * 2
    assert Run(tp=2**10, dp=2**10).devices == 2**20
    assert "at most 1,048,576 devices, not 2,097,152" in error_of(lambda: Run(tp=2**10, dp=2**11))
    assert Run(ep=5, dp=5).ep == 5
    assert "the 1 device of a stage" in error_of(lambda: Run(ep=2, pp=2))
    assert "the 4 devices of a stage" in error_of(lambda: Run(tp=4, ep=2))  # half of a group
    assert "the 5 devices of a stage" in error_of(lambda: Run(dp=5, ep=2))


def test_what_follows() -> None:
    run = Run(seq_len=5)
    assert (run.encoder_len, run.kv_bit, run.encoder_len_follows, run.kv_bit_follows) == (5, 16, True, True)
    assert (Run(seq_len=5, cache_len=9).encoder_len, Run(a_bit=8).kv_bit) == (9, 8)
    said = Run(encoder_len=3, kv_bit=4)
    assert (said.encoder_len, said.kv_bit, said.encoder_len_follows, said.kv_bit_follows) == (3, 4, False, False)
    assert [run.fused(seq_len=7).encoder_len, said.fused(seq_len=7).encoder_len] == [7, 3]
    for name in ("encoder_len_follows", "kv_bit_follows", "following"):  # nobody says them
        with pytest.raises(TypeError):
            Run(**{name: False})  # type: ignore[arg-type]
        with pytest.raises(UnknownNameError):
            Run.of(**{name: False})


def test_what_an_engine_does() -> None:
    names = ("logits", "mla", "causal", "comm")
    eager, prompt, step, own = (
        Run(), Run(fusion="engine", seq_len=9), Run(fusion="engine", seq_len=1), Run(fusion="engine", causal=False),
    )  # fmt: skip
    assert [getattr(eager, name) for name in names] == ["all", "expanded", "off", "transformers"]
    assert [getattr(prompt, name) for name in names] == ["last", "expanded", "on", "megatron"]
    assert [getattr(step, name) for name in names] == ["last", "absorbed", "on", "megatron"]
    assert (own.causal, own.logits, Run(causal=True).causal) == ("off", "last", "on")
    assert own.following == {"logits", "mla", "comm"}
    assert "causal is off or on, not 'maybe'" in error_of(lambda: Run(causal="maybe"))


def test_bits_and_schemes_exclude_each_other() -> None:
    assert Run.of(w_bit=16).quant == Run.of(w_bit=4).quant == Run.of(w_bit=4, quant="none").quant == "none"
    assert Run().quant is Run.of(quant=None).quant is None
    assert Run.of(quant="fp8").quant == "fp8"
    for bits in (4, 16):
        assert "leave w_bit" in error_of(lambda bits=bits: Run.of(quant="fp8", w_bit=bits))  # type: ignore[misc]
