"""tools/accuracy.py: the rules by which intervals are made, on servers made up for it."""

from __future__ import annotations

import pytest

from nbanalyzer.hardware.parameters import QUANTILES
from tools.accuracy import Row, expected, intervals, judged, missed

KERNELS = (0.7, 0.8, 1.0, 1.25, 1.5)


def servers(model: str, *ratios: float, engine: str = "vllm", tp: int = 4) -> list[Row]:
    """Return servers that take so many times what is estimated, and twice that of what is typical."""
    return [Row(model, "h100-sxm", engine, "bf16", tp, 0.01 * ratio, 0.01, 0.005, 0.004) for ratio in ratios]


def even(low: float, high: float, count: int = 101) -> list[float]:
    return [low + (high - low) * index / (count - 1) for index in range(count)]


DENSE = servers("llama-3.1-8b", *even(0.9, 1.1)) + servers("qwen3-32b", *even(0.9, 1.1))


def test_what_dense_models_and_kernels_miss_together() -> None:
    # A tenth of what lies evenly from 0.9 to 1.1 is below 0.92.
    # As a logarithm that is -0.0834, 0.8 is -0.2231: together the root of their squares, -0.2382, which is 0.788.
    found = expected(DENSE, [], KERNELS)
    assert found == pytest.approx([0.6915, 0.7880, 1.0, 1.2662, 1.5136], abs=0.002)
    # Where one misses nothing, it is the other's.
    assert expected(DENSE, [], (1.0,) * 5) == pytest.approx([0.91, 0.92, 1.0, 1.08, 1.09], abs=0.002)
    # Measured models with experts widen it where they lie farther out, and say where its middle is.
    own = servers("gpt-oss-120b", *even(1.0, 2.0))
    found = expected(DENSE, own, KERNELS)
    assert found == pytest.approx([0.6915, 0.7880, 1.5, 1.9, 1.95], abs=0.01)


def test_an_interval_is_judged_without_its_model() -> None:
    far = servers("gpt-oss-120b", *even(1.0, 2.0))
    # From 0.788 to 1.266 there are 27 of 101; what they themselves say does not count.
    share, width = judged(far, DENSE, KERNELS)
    assert share == pytest.approx(0.27, abs=0.02)
    assert width == pytest.approx((1.266 - 0.788) / 2, abs=0.005)
    # Another model with experts counts, and is itself inside what the first gives.
    both = far + servers("qwen3-235b-a22b", *even(1.0, 2.0))
    assert judged(both, DENSE, KERNELS)[0] == pytest.approx(0.9, abs=0.02)
    # Of dense models, the one says what the other is judged by.
    assert judged(DENSE, DENSE, KERNELS) == pytest.approx((0.8, 0.08), abs=0.02)


def test_what_profiles_carry() -> None:
    experts = servers("gpt-oss-120b", 1.0, 1.2, tp=8)
    found = intervals(DENSE + experts + servers("qwen3-32b", 1.0, 1.1, tp=8), KERNELS, "vllm")
    assert {kind: [*spreads] for kind, spreads in found.items()} == {"dense": ["2-4", "8"], "experts": ["8"]}
    assert (found["experts"]["8"].n, found["dense"]["2-4"].n) == (2, 202)
    assert found["dense"]["2-4"].ratio[2] == pytest.approx(1.0, abs=0.01)
    assert "experts' kernels" in found["experts"]["8"].source
    # Without an engine, intervals are of typical estimates: here half of the others.
    assert intervals(DENSE, KERNELS)["dense"]["2-4"].ratio[2] == pytest.approx(2.0, abs=0.02)


def test_what_shipped_laws_miss_of_experts() -> None:
    found = missed()
    assert len(found) == len(QUANTILES)
    assert list(found) == sorted(found)
    assert found[0] < 0.9 < found[2] < 1.1 < found[4]
