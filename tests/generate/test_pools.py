"""An indexer that goes through its mask token by token: several tokens are scored as one, and some of them are taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from newest import NEWEST

from nbanalyzer.formulas.formula import parse
from nbanalyzer.generate import hints
from nbanalyzer.generate.check import oracle
from nbanalyzer.generate.model.subject import Subject

SIZES = ("indexer_compress_ratio", "indexer_budget")


def test_what_new_tokens_see_is_added_up() -> None:
    """Each new token one by one: the first sees those of the cache and itself."""
    texts = [text for text in hints.expressions(SIZES) if "indexer_budget" in text or "indexer_compress" in text]
    pools, taken, left, before, reached = map(parse, texts)
    for pool, most in ((2, 2), (3, 15), (4, 8), (16, 48)):
        for cache_len, seq_len in (
            (0, 1),
            (0, 2),
            (0, 70),
            (1, 2),
            (2, 1),
            (14, 1),
            (15, 1),
            (5, 40),
            (47, 3),
            (90, 9),
        ):
            values = {"cache_len": cache_len, "seq_len": seq_len, **dict(zip(SIZES, (pool, most), strict=True))}
            seen = range(cache_len + 1, cache_len + seq_len + 1)
            assert pools.evaluate(values) == sum(tokens // pool for tokens in seen)
            assert taken.evaluate(values) == sum(min(tokens // pool, most // pool) for tokens in seen)
            assert left.evaluate(values) == sum(tokens % pool for tokens in seen)
            assert before.evaluate(values) == sum(tokens for tokens in seen if tokens < pool)
            assert reached.evaluate(values) == sum(tokens >= pool for tokens in seen)


@pytest.mark.slow
def test_masks_on_the_host_show_what_those_of_a_cpu_do() -> None:
    """Tokens alone, of which the first three see no pool; and steps after them."""
    subject = Subject.of({**NEWEST["qwen4_exp"]["text_config"], "architectures": ["Qwen4ExpForCausalLM"]})
    assert subject.reader is None
    found = []
    for own in (subject, replace(subject, device="cpu")):
        steps = own.steps(own.build("eager", "batched_mm"), 2, (37, 5, 1))
        found.append([int(oracle.flops(step).cost.matmul_flops) for step in steps])
    assert found[0] == found[1]


@pytest.mark.slow
def test_scores_are_of_the_pools_that_a_token_sees() -> None:
    """Two sequences, 3 heads of 40 numbers, pools of 4: a token that sees n tokens is scored with n // 4 keys."""
    subject = Subject.of({**NEWEST["qwen4_exp"]["text_config"], "architectures": ["Qwen4ExpForCausalLM"]})
    step = next(subject.steps(subject.build("eager", "batched_mm"), 2, (37,)))
    root = oracle.flops(step)
    (indexer,) = (one for one in _every(root) if one.path.endswith("self_attn.indexer"))
    scores = 2 * 2 * 3 * 40 * sum(tokens // 4 for tokens in range(1, 38))
    projection = 2 * 2 * 37 * 64 * (3 + 1) * 40
    assert indexer.cost.matmul_flops == scores + projection


def _every(seen: oracle.Seen) -> Iterator[oracle.Seen]:
    yield seen
    for child in seen.children:
        yield from _every(child)
