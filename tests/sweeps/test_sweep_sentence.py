"""The sentence that a sweep begins with: true, by its own table."""

from __future__ import annotations

from nbanalyzer import populate, sweep
from nbanalyzer.sweeps.sentence import sentence_of


def test_how_far_a_metric_goes_and_what_makes_no_difference() -> None:
    found = sweep("gpt2", seq_len=[1, 64], batch_size=[1, 8], metrics=["parameters", "kv_cache_bytes"])
    # K and V of 12 layers of 768 in 2 bytes: 36,864 a token
    said = "kv_cache_bytes goes from 36.86 kB at seq_len 1, batch_size 1 to 18.87 MB at seq_len 64, batch_size 8"
    assert sentence_of(found) == f"{said}: 512 times as much."
    assert repr(found).splitlines()[1] == sentence_of(found)
    assert f"<b>{sentence_of(found)}</b>" in found._repr_mimebundle_()["text/html"]
    bits = sweep("gpt2", seq_len=[1, 64], w_bit=[4, 16], metrics="flops")
    assert sentence_of(bits).endswith(" w_bit makes no difference to it.")
    flops = [populate("gpt2", seq_len=size).totals["flops"] for size in (1, 64)]
    assert f": {flops[1] / flops[0]:.3g} times as much." in sentence_of(bits)


def test_nothing_is_said_of_one_point_and_that_nothing_varies_is_said() -> None:
    assert sentence_of(sweep("gpt2", seq_len=8, metrics="flops")) == ""
    assert sentence_of(sweep("gpt2", seq_len=[1, 8], metrics="parameters")) == "parameters: the same at all 2 points."


def test_it_says_how_many_points_do_not_fit() -> None:
    caches, card = [1024, 65_536], "rtx-4090"
    found = sweep("llama-3.1-8b", seq_len=1, cache_len=caches, batch_size=[1, 64], hardware=card, metrics="time")
    passes = [populate("llama-3.1-8b", seq_len=1, cache_len=one, batch_size=size) for one in caches for size in (1, 64)]
    count = sum(not one.fits(card) for one in passes)
    assert count
    assert sentence_of(found).endswith(f" {count} of 4 points do not fit.")
