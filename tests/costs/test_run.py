"""The options of a run at their bounds, and what follows where nothing is said."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from builders import error_of

from nbanalyzer.costs.run import NEVER_ZERO, NOT_OF_MODEL, Layout, Run, read_size
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
    assert "the 2 devices of a stage" in error_of(lambda: Run(dp=2, ep=3))


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


def test_a_run_of_which_nothing_is_said() -> None:
    run = Run()
    assert run.values() == {
        "batch_size": 1, "seq_len": 1024, "cache_len": 0, "encoder_len": 1024, "w_bytes": 2, "a_bytes": 2, "kv_bytes": 2,
        "causal": 0, "num_logits": 1024,
    }  # fmt: skip
    assert (run.mesh, run.devices, run.axes, run.layout) == ((1,) * 6, 1, {}, Layout())
    assert (run.rank, run.imbalance, run.mtp, run.drafts, run.new_tokens) == (None, 1, 0, 0, 1024)
    assert run.switches == {
        "fusion": "none", "attn": "sdpa", "logits": "all", "mla": "expanded", "causal": "off", "comm": "transformers",
    }  # fmt: skip
    assert (run.variants, run.wanted) == (frozenset({"sdpa", "expanded"}), frozenset({"sdpa"}))
    assert Run(mla="expanded").wanted == {"sdpa", "expanded"}
    assert Layout() == (frozenset(), "transformers", True, False, False, False)
    assert all(name not in repr(run) for name in ("follow", "kv_bit_", "encoder_len_"))
    assert {name for name, value in run.values().items() if value} - {"num_logits"} == NEVER_ZERO
    assert {"batch_size", "prompt_len", "concurrency", "tp", "fusion", "images", "model"} <= NOT_OF_MODEL


@pytest.mark.parametrize(
    ("mesh", "layout"),
    [
        ({"tp": 2}, (frozenset({"tp"}), "transformers", False, False, False, False)),
        ({"tp": 2, "ep": 2}, (frozenset({"tp", "ep"}), "transformers", True, False, True, False)),
        ({"dp": 2, "ep": 2}, (frozenset({"dp", "ep"}), "transformers", False, False, False, False)),
        ({"fsdp": 4, "ep": 2}, (frozenset({"fsdp", "ep"}), "transformers", False, False, False, False)),
        ({"fsdp": 4, "ep": 4}, (frozenset({"fsdp", "ep"}), "transformers", False, False, True, False)),
        ({"fsdp": 4, "dp": 2, "ep": 8}, (frozenset({"fsdp", "dp", "ep"}), "transformers", False, False, True, False)),
        ({"cp": 2, "fsdp": 2, "ep": 4, "rank": 0}, (frozenset({"cp", "fsdp", "ep"}), "transformers", False, True, True, False)),
        ({"dp": 2, "comm": "megatron"}, (frozenset({"dp"}), "megatron", True, False, False, False)),
        ({"dp": 2, "ep": 2, "imbalance": 1.5}, (frozenset({"dp", "ep"}), "transformers", False, False, False, True)),
    ],
)  # fmt: skip
def test_what_of_a_mesh_decides_on_formulas(mesh: dict[str, Any], layout: tuple[object, ...]) -> None:
    assert Run(**mesh).layout == layout


def test_the_places_of_a_rank() -> None:
    """tp runs fastest, then cp, fsdp, dp, and pp slowest."""
    mesh = {"tp": 2, "cp": 3, "fsdp": 5, "dp": 7, "pp": 11}
    for places in (
        (0, 0, 0, 0, 0),
        (1, 0, 0, 0, 0),
        (0, 2, 0, 0, 0),
        (1, 1, 4, 0, 0),
        (0, 2, 3, 6, 0),
        (1, 2, 4, 6, 10),
    ):
        tp, cp, fsdp, dp, pp = places
        rank = tp + 2 * (cp + 3 * (fsdp + 5 * (dp + 7 * pp)))
        run = Run(**mesh, rank=rank)  # type: ignore[arg-type]
        assert run.places == dict(zip(("tp", "cp", "fsdp", "dp", "pp"), places, strict=True))
        assert run.values()["tp_rank"] == tp
    assert set(Run(**mesh).places.values()) == {None}  # type: ignore[arg-type]
    assert "tp_rank" not in Run(tp=2).values()


def test_drafts_are_of_a_step_and_logits_follow() -> None:
    step, prompt = (Run(seq_len=new, cache_len=9, mtp=2, acceptance=0.5, logits="last") for new in (1, 4))
    assert (step.drafts, step.new_tokens, prompt.drafts, prompt.new_tokens) == (2, 3, 0, 4)
    named = ("seq_len", "num_logits", "mtp", "drafts")
    assert [step.values()[name] for name in named] == [3, 3, 2, 2]
    assert [prompt.values()[name] for name in named] == [4, 1, 2, 0]
    assert Run(seq_len=4, mtp=1).values()["num_logits"] == 4
    assert {"mtp", "drafts"}.isdisjoint(Run(seq_len=1).values())


def test_bits_and_busy_experts_are_fractions() -> None:
    values = Run(w_bit=4, a_bit=12, kv_bit=3, dp=2, ep=2, imbalance=1.1).values()
    assert [values[name] for name in ("w_bytes", "a_bytes", "kv_bytes")] == [
        Fraction(1, 2),
        Fraction(3, 2),
        Fraction(3, 8),
    ]
    assert (values["imbalance"], values["dp"], values["ep"]) == (Fraction(11, 10), 2, 2)
    assert "imbalance" not in Run(dp=2, ep=2).values()


def test_what_follows_in_another_run() -> None:
    run = Run(seq_len=8, causal=True, kv_bit=8)
    engine = run.fused()
    assert (engine.fusion, engine.logits, engine.causal, engine.comm, engine.kv_bit) == (
        "engine",
        "last",
        "on",
        "megatron",
        8,
    )
    assert (run.fused("none", seq_len=3).encoder_len, run.fused("none", cache_len=5).encoder_len) == (3, 5)
    assert Run(seq_len=8, logits="all").fused().logits == "all"
    read_size("tokens", 2**40, 0)
    assert (
        error_of(lambda: read_size("tokens", -1, 0)) == "tokens is a whole number from 0 to 1,099,511,627,776, not -1"
    )
