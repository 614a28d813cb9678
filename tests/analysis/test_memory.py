"""What has to be in memory: bytes worked out by hand, and activations against what PyTorch holds."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from builders import basic, composite, template

from nbanalyzer import Accelerator, populate
from nbanalyzer.analysis.closed_form import working_sets
from nbanalyzer.analysis.memory import Fit, Memory
from nbanalyzer.errors import InputError

CARD = Accelerator(name="card", memory_bytes=24 * 10**9, bandwidth=1e12, peaks={"bf16": 1e14})

# ---- weights and state


def test_the_cache_of_llama_by_hand() -> None:
    """K and V, 8 heads of 128 in 32 layers, 2 bytes each: 131,072 bytes a token."""
    assert 2 * 8 * 128 * 32 * 2 == 131_072
    for tokens in (1, 41_408):
        memory = populate("llama-3.1-8b", seq_len=1, cache_len=tokens - 1).memory
        assert memory.state == 131_072 * tokens
        assert memory.weights == 2 * 8_030_261_248
    assert memory.state == 5_427_429_376


def test_the_latent_of_deepseek_by_hand() -> None:
    """512 elements of latent and 64 of rotary key in 61 layers, 2 bytes each, whatever the number of heads."""
    assert (512 + 64) * 61 * 2 == 70_272
    for mla in ("expanded", "absorbed"):
        assert populate("deepseek-v3", seq_len=1, cache_len=999, mla=mla).memory.state == 70_272 * 1000


def test_a_sliding_window_bounds_the_cache() -> None:
    """Gemma 3 1B: 26 layers, every sixth full, the others see 512 tokens; one head of 256."""
    one = 2 * 1 * 256 * 2
    full, sliding = 26 // 6, 26 - 26 // 6
    states = {
        length: float(populate("gemma-3-1b-it", seq_len=1, cache_len=length).memory.state)
        for length in (99, 9_999, 99_999)
    }
    assert states[99] == one * 26 * 100
    growth = (states[99_999] - states[9_999]) / 90_000
    assert growth == one * full  # beyond the window only the full layers grow
    kept = (states[99_999] - one * full * 100_000) / (one * sliding)
    assert kept in {511, 512}  # the window, with or without the newest token


def test_precisions_and_batch() -> None:
    wide, narrow = (populate("llama-3.1-8b", seq_len=1, cache_len=100, w_bit=bits).memory for bits in (16, 4))
    assert narrow.weights == 8_030_261_248 / 2
    assert wide.weights == 4 * narrow.weights
    assert wide.state == narrow.state
    many = populate("llama-3.1-8b", seq_len=1, cache_len=100, batch_size=7, kv_bit=8).memory
    assert many.state == 7 * 131_072 * 101 / 2
    assert many.weights == wide.weights
    assert many.total == many.weights + many.state + many.activations


def test_what_a_model_without_cache_keeps() -> None:
    assert populate("bert-base-uncased", seq_len=100).memory.state == 0
    short, long = (populate("mamba-2.8b-hf", seq_len=1, cache_len=length).memory.state for length in (10, 10**6))
    assert short == long > 0  # a state-space model's does not grow


# ---- activations


def kernel(name: str, read: str, write: str = "0", **fields: Any) -> dict[str, Any]:
    return basic(read=read, write=write, name=name, **fields)


def own(*kernels: dict[str, Any], **run: Any) -> Memory:
    part = composite("part", *kernels, repeat="5", parameters="1000")
    return populate(template(part, state={"kv_cache": "700 * {kv_bytes}"}), **run).memory


def test_activations_are_those_of_the_largest_working_set() -> None:
    memory = own(
        kernel("look up", "900 * {w_bytes} + 10 * {a_bytes}", "40 * {a_bytes}"),
        kernel("add", "30 * {a_bytes}", "60 * {a_bytes}"),
        kernel("attend", "9000 * {kv_bytes} + 5 * {a_bytes}", "5 * {a_bytes}"),
    )
    assert (memory.weights, memory.state, memory.activations) == (5 * 1000 * 2, 700 * 2, 90 * 2)
    assert memory.largest == "part.add"
    assert memory.total == 10_000 + 1400 + 180


def test_what_runs_as_one_is_held_as_one_and_steps_are_not_held_at_once() -> None:
    parts = (kernel("matmul", "100 * {a_bytes}"), kernel("bias add", "50 * {a_bytes}", fused=True))
    assert own(*parts).activations == 150 * 2
    parts = (kernel("matmul", "100 * {a_bytes}"), kernel("gelu_new", "400 * {a_bytes}", "320 * {a_bytes}", steps=8))
    assert own(*parts).activations == 100 * 2  # 90 a step


def tiny(name: str) -> Any:
    import transformers

    sizes = {"vocab_size": 2000, "bos_token_id": 0, "eos_token_id": 0}
    if name == "gpt2":
        return transformers.GPT2Config(n_embd=256, n_head=4, n_layer=3, n_positions=512, **sizes)
    return transformers.LlamaConfig(
        hidden_size=256,
        intermediate_size=700,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=2,
        **sizes,
    )


def peak(run: Callable[[], object], known: Iterable[Any]) -> int:
    """Return the most bytes that were alive at once of storages which the run made."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.sizes = {storage._cdata: 0 for storage in known}
            self.now = self.most = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(out):
                if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in self.sizes:
                    self.sizes[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self.gone, storage._cdata)
            self.most = max(self.most, self.now)
            return out

        def gone(self, key: int) -> None:
            self.now -= self.sizes.pop(key, 0)

    with Watch() as watch:
        kept = run()
    assert kept is not None
    return int(watch.most)


@pytest.mark.slow
@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize(("batch_size", "seq_len", "cache_len"), [(1, 128, 0), (2, 256, 0), (1, 512, 0), (3, 1, 64)])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_activations_are_a_lower_bound_and_not_a_poor_one(
    name: str, batch_size: int, seq_len: int, cache_len: int, attn: str
) -> None:
    """Measured over these: 0.34 to 0.91 of what PyTorch holds at its peak beside weights and cache."""
    import torch
    import transformers

    from nbanalyzer.generate import hf

    config = tiny(name)
    config._attn_implementation = attn
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    with torch.inference_mode():
        past = hf.cache_in(model(torch.zeros(batch_size, cache_len, dtype=torch.long))) if cache_len else None
        given = {hf.cache_argument(type(model)): past}
        ids = torch.zeros(batch_size, seq_len, dtype=torch.long)
        held = [*model.parameters(), *model.buffers()]
        most = peak(lambda: model(ids, **given, use_cache=True), [one.untyped_storage() for one in held])
    memory = populate(config.to_dict(), batch_size=batch_size, seq_len=seq_len, cache_len=cache_len, attn=attn).memory
    # A step concatenates what is cached with what is new: the cache is made once more in either phase.
    beside = most - float(memory.state)
    assert 0.3 * beside <= memory.activations <= beside


# ---- against capacity


def test_whether_it_fits() -> None:
    analysis = populate("llama-3.1-8b", seq_len=1, cache_len=1000)
    need = analysis.memory.total
    exact = Accelerator(name="exact", memory_bytes=int(need), bandwidth=1e12)
    short = Accelerator(name="short", memory_bytes=int(need) - 1, bandwidth=1e12)
    assert need == int(need)
    assert analysis.fits(exact)
    assert analysis.fits(exact).free == 0
    assert not analysis.fits(short)
    assert analysis.fits(short).free == -1
    assert repr(analysis.fits(short)) == "does not fit: 16.19 GB of 16.19 GB on short, 1 B short"
    assert repr(analysis.fits(CARD)).startswith("fits: 16.19 GB of 24.00 GB on card, 7.8")
    assert not populate("llama-3.1-70b", seq_len=1).fits("h100-sxm")
    assert populate("llama-3.1-70b", seq_len=1, w_bit=4).fits("h100-sxm")


def test_an_unknown_memory_is_an_error() -> None:
    with pytest.raises(InputError, match="the memory of nameless is not known"):
        populate("gpt2", seq_len=1).fits(Accelerator(name="nameless", bandwidth=1e12))
    with pytest.raises(InputError, match=r"the memory of core-i9-13900k is not known"):
        Fit(populate("gpt2", seq_len=1).memory, populate("gpt2", seq_len=1).fits("core-i9-13900k").accelerator)


def test_the_text_says_the_numbers() -> None:
    lines = repr(own(kernel("add", "30 * {a_bytes}", "60 * {a_bytes}"))).splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["weights", "10,000", "B"], ["state", "1,400", "B"], ["activations", "180", "B"], ["total", "11,580", "B"],
    ]  # fmt: skip
    assert "largest working set: part.add" in lines[2]
    assert lines[3].endswith("at least")


def test_what_never_runs_is_not_held_however_many_kernels_there_are() -> None:
    """Working sets that are hard to compare are not compared from the 64th on: what does not run is none of them."""
    kernels = [basic(read=f"{{seq_len}} ** {n} * {{a_bytes}}", name=f"k{n}") for n in range(2, 20)]
    kernels += [
        basic(read=f"({{batch_size}} ** {n} + {100 - n} * {{seq_len}}) * {{a_bytes}}", name=f"b{n}")
        for n in range(2, 62)
    ]
    never = composite("never", basic(read="10 ** 30 * {a_bytes}"), calls="{cache_len}")
    analysis = populate(template(composite("part", *kernels), never), seq_len=3, batch_size=2)
    sets = working_sets(analysis.symbolic("seq_len", "batch_size"))
    largest = max(one.evaluate({"seq_len": 3, "batch_size": 2}) for one in sets)
    assert largest == analysis.memory.activations < 10**30


def test_the_parts_of_a_memory() -> None:
    """Buffers of weights that are gathered are there where somebody gathers them."""
    assert (Memory(1, 20, 300, "x").total, Memory(1, 20, 300, "x").parts) == (
        321, {"weights": 1, "state": 20, "activations": 300},
    )  # fmt: skip
    assert (Memory(1, 20, 300, "x", 4000).total, Memory(1, 20, 300, "x", 4000).parts["buffers"]) == (4321, 4000)


def test_what_runs_nothing_needs_nothing() -> None:
    found = populate(template(), seq_len=1).memory
    assert (found.parts, found.largest) == ({"weights": 0, "state": 0, "activations": 0}, "")
