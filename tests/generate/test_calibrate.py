"""Calibration: what is timed and in which order, what is fitted, what is written; no test looks at a real time."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
import torch

import nbanalyzer
from nbanalyzer.costs.kinds import in_microseconds, kind_of
from nbanalyzer.errors import InputError
from nbanalyzer.generate import calibrate
from nbanalyzer.generate.measure import calibration, small
from nbanalyzer.generate.measure.calibration import LAWS, profile_of
from nbanalyzer.generate.measure.case import Call, Case
from nbanalyzer.generate.measure.cases import CPU, CUDA, Arena, Attention, Grid, cases
from nbanalyzer.generate.measure.clock import CudaClock, Series, ThreadClock, drift_of, interleaved
from nbanalyzer.generate.measure.fit import fitted
from nbanalyzer.hardware.laws import laws
from nbanalyzer.hardware.profiles import Profile, profile

pytestmark = [pytest.mark.pytorch, pytest.mark.usefixtures("tiny_model")]

TINY = Grid(
    arena_bytes=2**16,
    weights=((16, 32), (64, 16)),
    transposed=((16, 32),),
    tokens=(1, 3),
    peak=(8, 16, 16),
    elements=(64,),
    decode=(Attention(2, 4, 2, 50, 8), Attention(2, 4, 2, 5, 8)),
    prefill=(Attention(2, 4, 2, 6, 8),),
    calls=2,
    products=10_000,
    few=10_000,
)


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small model as narrow as it can be: as many kernels, in a moment."""
    narrow = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    monkeypatch.setattr(small, "CONFIG", small.CONFIG | narrow | {"head_dim": 8})


def case(kind: str = "linear", call: Call = lambda: None, calls: int = 1, **amounts: float) -> Case:
    return Case(kind=kind, amounts=amounts, prepared=lambda _number: call, calls=calls)


def nothing(_what: str, _part: float) -> None:
    pass


# ---- the order in which things are timed


class Recorder:
    """A clock whose samples are what was asked for, in order."""

    def __init__(self, times: Callable[[Case, int], float]) -> None:
        self.times = times
        self.order: list[tuple[str, int]] = []

    def sampler(self, case: Case) -> Callable[[int], float]:
        def sample(turn: int) -> float:
            self.order.append((case.kind, turn))
            return self.times(case, turn)

        return sample


def test_cases_take_turns_and_the_first_round_is_left_out() -> None:
    clock = Recorder(lambda case, turn: 100.0 if turn == 0 else {"a": 1.0, "b": 2.0}[case.kind] + turn)
    seconds = count(0.0)  # each look at the clock is a second later
    found = interleaved([case("a"), case("b")], clock, 12.5, nothing, now=lambda: next(seconds))
    rounds = len(clock.order) // 2
    assert clock.order == [pair for turn in range(rounds) for pair in (("a", turn), ("b", turn))]
    assert [one.case.kind for one in found] == ["a", "b"]
    assert found[0].seconds == tuple(1.0 + turn for turn in range(1, rounds))
    # Begun at 0, round n ends at 2n + 2 and took 1: at 12, the sixth, another would be over at 13, which is too late.
    assert rounds == 6


def test_a_median_is_not_moved_by_one_slow_round() -> None:
    assert Series(case(), (3.0, 900.0, 1.0, 2.0, 2.5)).median == 2.5


@pytest.mark.parametrize(("deadline", "rounds"), [(-1.0, 3), (1e9, 60)])
def test_there_are_three_rounds_at_least_and_sixty_at_most(deadline: float, rounds: int) -> None:
    told: list[float] = []
    seconds = count(0.0)
    clock = Recorder(lambda _case, _turn: 1.0)
    (found,) = interleaved([case()], clock, deadline, lambda _what, part: told.append(part), now=lambda: next(seconds))
    assert len(found.seconds) == rounds
    assert told == sorted(told)
    assert all(0 <= part <= 1 for part in told)


def test_drift_is_the_change_between_the_halves() -> None:
    steady = Series(case(), (2.0, 2.0, 9.0, 2.0, 2.0))
    slower = Series(case(), (1.0, 1.0, 1.1, 1.1))
    faster = Series(case(), (4.0, 5.0, 4.0, 4.0, 2.0, 4.0))
    assert drift_of([steady]) == 0
    assert drift_of([slower]) == pytest.approx(0.1)
    assert drift_of([slower, steady, faster]) == 0  # the median of +10 %, 0 and 0
    assert drift_of([Series(case(), (1.0,))]) == 0


def test_a_thread_is_timed_without_what_prepares_its_calls() -> None:
    now = [0.0]

    def prepared(number: int) -> Call:
        now[0] += 1000.0

        def call() -> None:
            now[0] += 1.0 + number

        return call

    one = Case(kind="linear", amounts={}, prepared=prepared, calls=4)
    sample = ThreadClock(now=lambda: now[0]).sampler(one)
    assert sample(0) == (1 + 2 + 3 + 4) / 4
    assert sample(2) == (9 + 10 + 11 + 12) / 4  # each call of each round has data of its own


# ---- CUDA, by a device that writes down what it is told


class Device:
    """What stands in for ``torch.cuda``."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.clock = 0.0
        device = self

        class Stream:
            def wait_stream(self, _other: object) -> None:
                device.log.append("wait")

        class CUDAGraph:
            def replay(self) -> None:
                device.log.append("replay")
                device.clock += 6.0

        class Event:
            def __init__(self, *, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                device.log.append("record")
                self.at = device.clock

            def elapsed_time(self, other: Any) -> float:
                assert device.log[-1] == "synchronize"  # before that, the times are not there
                time: float = other.at - self.at
                return time

        self.Stream, self.CUDAGraph, self.Event = Stream, CUDAGraph, Event

    def current_stream(self) -> Any:
        return self.Stream()

    def synchronize(self) -> None:
        self.log.append("synchronize")

    @contextmanager
    def stream(self, _stream: object) -> Iterator[None]:
        self.log.append("aside")
        yield
        self.log.append("back")

    @contextmanager
    def graph(self, _graph: object) -> Iterator[None]:
        self.log.append("capture")
        yield
        self.log.append("captured")


def test_a_graph_is_captured_once_and_replayed_with_an_empty_cache() -> None:
    device = Device()

    def flush() -> None:
        device.log.append("flush")
        device.clock += 1000.0

    sample = CudaClock(flush, cuda=device).sampler(case(call=lambda: device.log.append("call"), calls=3))
    calls = ["call"] * 3
    assert device.log == ["wait", "aside", *calls, "back", "wait", "capture", *calls, "captured"]
    device.log.clear()
    assert sample(0) == pytest.approx(0.002)  # 6 ms of three calls, without the flush
    assert sample(1) == pytest.approx(0.002)
    assert device.log == ["flush", "record", "replay", "record", "synchronize"] * 2


class Held:
    """A result, or data, of which a test sees whether somebody still has it."""


@pytest.mark.long
def test_what_a_graph_reads_and_writes_stays_as_long_as_it_is_replayed() -> None:
    """Its addresses are in the graph: whatever else came there would be read, or be overwritten."""
    alive: list[weakref.ref[Held]] = []

    def made() -> Held:
        held = Held()
        alive.append(weakref.ref(held))
        return held

    def prepared(_number: int) -> Call:
        data = made()
        return lambda: (made(), data)[0]

    sample = CudaClock(lambda: None, cuda=Device()).sampler(Case(kind="a", amounts={}, prepared=prepared, calls=3))
    sample(0)
    gc.collect()
    # Data of three calls, then three results of the warm-up, which nobody needs, and three of the capture.
    assert [one() is not None for one in alive] == [True] * 3 + [False] * 3 + [True] * 3
    del sample
    gc.collect()
    assert not any(one() for one in alive)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_kernel_of_a_device_can_be_captured_after_it_was_warmed_up(dtype: torch.dtype) -> None:
    """Called twice with the same data, as a graph needs it; tensors without data stand in for the device's."""
    clock = CudaClock(lambda: None, cuda=Device())
    found = cases(CUDA, dtype, "meta")
    with torch.inference_mode():
        samplers = [clock.sampler(one) for one in found]
    assert {one.kind for one in found} == {*LAWS, "copy"}
    for one, sample in zip(found, samplers, strict=True):
        assert sample(0) == sample(1) == pytest.approx(0.006 / one.calls)


def test_what_is_short_on_a_device_is_timed_together() -> None:
    """Two events around a graph take some microseconds: no product of less than ten times 3 us is timed alone.

    As it is on a card of 1,000 TFLOP/s and 3.35 TB/s, the H100's.
    """
    products = [one for one in cases(CUDA, torch.bfloat16, "meta") if one.kind in {"linear", "transposed_linear"}]
    for one in products:
        quickest = max(one.amounts["matmul_flops"] / 1e15, one.amounts["bytes"] / 3.35e12)
        assert one.calls == CUDA.calls or quickest > 10 * 3e-6
    assert {one.calls for one in products} == {1, CUDA.calls}


# ---- what is timed


def test_what_is_taken_from_the_arena_goes_round() -> None:
    arena = Arena(200, torch.float32, "cpu")
    begins = [arena.take(4, 25).data_ptr() for _ in range(3)]
    assert begins[1] - begins[0] == 128 * 4  # whole lines of the cache
    assert begins[2] == begins[1] + 128 * 4 or begins[2] == begins[0]
    assert torch.isfinite(arena.take(100)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_kernel_runs_and_does_what_its_amounts_say(dtype: torch.dtype) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    found = cases(TINY, dtype, "cpu")
    assert {one.kind for one in found} == {*LAWS, "copy", "pass", "products"}
    for one in found:
        with torch.inference_mode():
            call = one.prepared(0)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            call()
        if one.kind in {"linear", "transposed_linear"}:
            assert counter.get_total_flops() == one.amounts["matmul_flops"]
    by_kind = {one.kind: one.amounts for one in found if one.kind != "linear"}
    size = dtype.itemsize
    # Two sequences, four heads on two, five tokens of eight elements: by hand.
    assert by_kind["decode_attention"]["matmul_flops"] == 2 * 2 * (2 * 4 * 5 * 8)
    assert by_kind["decode_attention"]["cache_bytes"] == 2 * (2 * 2 * 5 * 8) * size
    assert by_kind["append"]["kept_bytes"] == 2 * (2 * 2 * 5 * 8) * size
    assert by_kind["prefill_attention"]["matmul_flops"] == 2 * 2 * (2 * 4 * 21 * 8)  # 21 visible pairs of 36
    assert (by_kind["tanh"]["num_elements"], by_kind["tanh"]["bytes"]) == (64, 2 * 64 * size)
    first = next(one.amounts for one in found if one.kind == "linear" and one.amounts["output_size"] == 32)
    assert first["weight_bytes"] == (16 * 32 + 32) * size
    assert first["activation_bytes"] == (16 + 32) * size
    assert first["bytes"] == first["weight_bytes"] + first["activation_bytes"]


def test_what_the_small_model_starts_is_what_is_counted_of_it() -> None:
    """The numbers stand in the module, for it knows no templates."""
    names = {
        "hidden_size": "hidden_size", "intermediate_size": "intermediate_size", "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads", "num_key_value_heads": "num_kv_heads", "head_dim": "head_dim",
        "vocab_size": "vocab_size",
    }  # fmt: skip
    sizes = {ours: small.CONFIG[theirs] for theirs, ours in names.items()}
    for bits, casts in ((32, 0), (16, small.CASTS)):
        run = {"seq_len": 1, "cache_len": small.CACHED, "w_bit": bits, "a_bit": bits}
        analysis = nbanalyzer.populate("llama-3.2-1b", set=sizes, **run)
        started = dict.fromkeys(small.KINDS, 0.0)
        for launch in analysis.launches:
            started[kind_of(launch, analysis)] += float(launch.times * launch.is_started * launch.steps)
        assert started == small.KINDS | {"elementwise": small.KINDS["elementwise"] + casts}


def test_the_grids_have_more_measurements_than_parameters() -> None:
    for grid in (CPU, CUDA):
        assert len(grid.decode) >= 4
        assert len(grid.prefill) >= 4
        assert len(grid.weights) * len(grid.tokens) > 10
        assert max(grid.decode).length * max(grid.decode).batch > 0
        largest = max(inputs * outputs for inputs, outputs in grid.weights)
        assert grid.arena_bytes >= 4 * largest  # a weight of fp32 is taken from it as a whole


# ---- fits


def launches() -> list[dict[str, float]]:
    """Products of various sizes, in microseconds at 100 GFLOP/s and 20 GB/s."""
    found = []
    for tokens, inputs, outputs in product((1, 4, 32, 256), (256, 1024, 4096), (512, 2048)):
        amounts = dict.fromkeys(("cache_bytes", "kept_bytes", "num_elements"), 0.0) | {
            "matmul_flops": 2.0 * tokens * inputs * outputs,
            "weight_bytes": 4.0 * inputs * outputs,
            "activation_bytes": 4.0 * tokens * (inputs + outputs),
            "num_tokens": float(tokens), "input_size": float(inputs), "output_size": float(outputs), "steps": 1.0,
        }  # fmt: skip
        amounts["bytes"] = amounts["weight_bytes"] + amounts["activation_bytes"]
        found.append(in_microseconds(amounts, 1e11, 2e10))
    return found


def by_hand(launch: dict[str, float]) -> float:
    """Microseconds of a product: 7 to start, 10 ns a column, and rates that differ."""
    weights = 1e6 * launch["weight_bytes"] / 2e10
    arithmetic = 1e6 * launch["matmul_flops"] / 1e11
    work = weights / 0.8 if launch["num_tokens"] == 1 else weights / 0.4 + arithmetic / 0.9
    return 7 + 0.01 * launch["output_size"] + work + 1e6 * launch["activation_bytes"] / 2e10 / 5


TRUE = {
    "launch_us": 7, "per_output_ns": 10, "single_bandwidth": 0.8, "weight_bandwidth": 0.4, "compute": 0.9,
    "activation_bandwidth": 5,
}  # fmt: skip


def test_parameters_are_found_again() -> None:
    fit = fitted("eager_linear", [(launch, by_hand(launch)) for launch in launches()])
    assert fit.parameters == pytest.approx(TRUE, rel=0.01)
    assert fit.n == 24
    assert fit.law == "eager_linear"
    assert fit.ratio == pytest.approx((1, 1, 1, 1, 1), abs=1e-3)


def test_parameters_are_found_despite_outliers() -> None:
    """One in six was disturbed: its error counts by its size, not by its square."""
    points = [(launch, by_hand(launch) * (3 if number % 6 == 5 else 1)) for number, launch in enumerate(launches())]
    fit = fitted("eager_linear", points)
    assert {
        name: fit.parameters[name] for name in ("single_bandwidth", "weight_bandwidth", "compute")
    } == pytest.approx({"single_bandwidth": 0.8, "weight_bandwidth": 0.4, "compute": 0.9}, rel=0.05)
    assert fit.ratio is not None
    assert fit.ratio[2] == pytest.approx(1, abs=0.02)
    assert fit.ratio[4] == pytest.approx(3, rel=0.1)


def test_no_parameter_leaves_its_bounds() -> None:
    """Faster than the memory at its best, and no time at all to start: neither can be."""
    points = [(launch, by_hand(launch) / 3) for launch in launches()]
    law = laws()["eager_linear"]
    for name, value in fitted("eager_linear", points).parameters.items():
        assert law.parameters[name].least <= value <= law.parameters[name].most
    known = fitted("eager_linear", points, {"compute": 0.5, "launch_us": 2.0}).parameters
    assert (known["compute"], known["launch_us"]) == (0.5, 2.0)
    assert known.keys() == law.parameters.keys()


def test_laws_that_are_fitted_are_sums() -> None:
    """Each parameter's share is found alone: a law with a maximum in it would be fitted wrongly."""
    from nbanalyzer.generate.measure.fit import law_us

    launch = launches()[9]
    for name in {*LAWS.values()}:
        law = laws()[name]
        none = {key: 0.0 if part.unit in {"us", "ns"} else float("inf") for key, part in law.parameters.items()}
        shares = {key: 0.5 if part.unit in {"share", "multiple"} else 2.0 for key, part in law.parameters.items()}
        apart = sum(law_us(law, none | {key: shares[key]}, launch) for key in shares)
        assert law_us(law, shares, launch) == pytest.approx(apart)


@pytest.mark.parametrize("time", [0.0, -1.0, float("inf"), float("nan")])
def test_a_time_that_cannot_be_is_one_line(time: float) -> None:
    with pytest.raises(InputError, match="measure again"):
        fitted("eager_linear", [(launches()[0], time)])


# ---- the profile


def series_of(found: Sequence[Case], seconds: Callable[[Case], float]) -> list[Series]:
    return [Series(one, (seconds(one),) * 4) for one in found]


def made() -> Profile:
    """The profile of a machine of 50 GFLOP/s and 10 GB/s on which everything else takes no time at all."""

    def seconds(one: Case) -> float:
        amounts = one.amounts
        if one.kind in {"pass", "products"}:
            return {"pass": 290e-6 * 20 + 1e-3, "products": 1e-3}[one.kind]
        flops = amounts.get("matmul_flops", 0) / 50e9
        return flops + (amounts["bytes"] + 2 * amounts.get("kept_bytes", 0)) / 10e9

    found = {name: series_of(cases(TINY, dtype, "cpu"), seconds) for name, dtype in calibration.DTYPES.items()}
    return profile_of("my-machine", found, ("torch 2",), 12.0)


def test_a_profile_says_what_was_measured_and_is_read_back(tmp_path: Path) -> None:
    found = made()
    assert (found.card, found.engine, found.source) == ("my-machine", "pytorch", "measured on this machine")
    assert found.engine_version == torch.__version__
    assert found.notes == ("torch 2", "4 rounds in 12 s, drift 0.0 % between their halves")
    assert found.bandwidth == pytest.approx(10e9)
    assert found.classes.keys() == LAWS.keys()
    assert all(fits.keys() == {"fp32", "bf16"} for fits in found.classes.values())
    # A pass of 290 kernels in bf16 took 5.8 ms beyond its products: 20 us each.
    assert found.classes["elementwise"]["bf16"].parameters["launch_us"] == pytest.approx(20, abs=0.1)
    # The cache is read and written once, at the bandwidth.
    assert found.classes["append"]["bf16"].parameters["cache_bandwidth"] == pytest.approx(1)
    path = tmp_path / "mine.json"
    path.write_bytes(nbanalyzer_encoded(found))
    assert profile(path) == found


def nbanalyzer_encoded(found: Profile) -> bytes:
    from nbanalyzer.hardware.profiles import encoded

    return encoded(found)


def test_a_drift_is_said() -> None:
    def series(one: Case) -> Series:
        size = one.amounts.get("bytes", 1e6) / 1e9
        return Series(one, (size, size, 1.2 * size, 1.2 * size))

    found = profile_of("m", {"fp32": [series(one) for one in cases(TINY, torch.float32, "cpu")]}, (), 1.0)
    assert "drift 20.0 %" in found.notes[0]
    assert "calibrate again when it is less busy" in found.notes[1]


def test_a_whole_calibration_of_tiny_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(calibration, "CPU", TINY)
    threads, told = torch.get_num_threads(), list[float]()
    target = tmp_path / "mine.json"
    found = calibrate(seconds=0.01, output=target, progress=lambda _what, part: told.append(part))
    assert profile(target) == found
    assert json.loads(target.read_text())["classes"]["linear"]["bf16"]["law"] == "eager_linear"
    assert any("1 thread" in note and f"torch {torch.__version__}" in note for note in found.notes)
    assert told == sorted(told)
    assert torch.get_num_threads() == threads


# ---- what cannot be


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "tpu"}, "a device is cpu or cuda here, not 'tpu'"),
        ({"device": None}, "a device is cpu or cuda here, not None"),
        ({"seconds": 0}, "seconds is a number above 0 and at most 86,400, not 0"),
        ({"seconds": -1.5}, "not -1.5"),
        ({"seconds": float("nan")}, "not nan"),
        ({"seconds": float("inf")}, "not inf"),
        ({"seconds": "60"}, "not '60'"),
        ({"seconds": True}, "not True"),
        ({"output": "/no/such/folder/mine.json"}, "'/no/such/folder/mine.json' cannot be written: No such file"),
        ({"output": 5}, "output is the path of a file, not 5"),
        ({"output": "/"}, "'/' cannot be written: Is a directory"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_measured(
    options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object) -> Profile:
        raise AssertionError("measured")

    monkeypatch.setattr(calibration, "calibrate", measured)
    with pytest.raises(InputError) as caught:
        calibrate(**options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_device_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA device that PyTorch can use: take device='cpu'"):
        calibrate("cuda")


def test_a_device_whose_memory_is_too_small_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(calibration, "cases", full)
    monkeypatch.setattr(calibration, "_name", lambda _device: "my-card")
    with pytest.raises(InputError, match="the memory of my-card is too small, or in use"):
        calibrate()


def test_a_lost_file_loses_no_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder that is gone after the minute: one line again."""
    folder = tmp_path / "away"
    folder.mkdir()

    def measured(*_: object) -> Profile:
        folder.rmdir()
        return made()

    monkeypatch.setattr(calibration, "calibrate", measured)
    with pytest.raises(InputError, match="cannot be written: No such file or directory"):
        calibrate(output=folder / "mine.json")
