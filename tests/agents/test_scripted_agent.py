"""An agent without a language model, over the real protocol: it reads what is wrong, corrects it, and the check decides.

It knows what a person knows who has read the model's code: which size each layer has. Everything else it learns from
the answers: where something is unresolved, what a binding means, which number differs, where parameters come from.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from drafts import gpt2, mimo, mimo_parameters
from mcp import Client

import nbanalyzer

from .protocol import connected, run, text_of

Sizes = Mapping[str, str]
"""Layer → what it has out_features, in global variables."""

GPT2: Sizes = {"c_attn": "3 * {hidden_size}", "lm_head": "{vocab_size}"}
PARAMETERS = 124_439_808  # of GPT-2, as published
FLOPS = 660_606_025_728  # by FlopCounterMode, of 2048 tokens


class Agent:
    """A loop of validating, binding, checking and saving.

    Attributes:
        draft: what is being written.
        steps: the tools that it called, in order, with whether all was well.

    """

    def __init__(self, client: Client, draft: Mapping[str, Any], sizes: Sizes) -> None:
        self.client, self.sizes = client, sizes
        self.draft = copy.deepcopy(dict(draft))
        self.steps: list[tuple[str, bool]] = []

    async def call(self, tool: str, **arguments: Any) -> tuple[dict[str, Any] | None, str]:
        """Return a tool's answer, None if it refused, and its text."""
        result = await self.client.call_tool(f"nbanalyzer_{tool}", arguments)
        answer: dict[str, Any] | None = None if result.is_error else result.structured_content
        self.steps.append((tool, answer is not None and answer.get("ok", True)))
        return answer, text_of(result)

    def at(self, place: str) -> Any:
        """Return the part of the draft that a place such as ``$.kernels[0].bindings`` means."""
        found: Any = self.draft
        for name, number in re.findall(r"\.(\w+)|\[(\d+)\]", place):
            found = found[name] if name else found[int(number)]
        return found

    async def bind(self) -> list[str]:
        """Bind what is missing until nothing is; return the places that were put right."""
        done: list[str] = []
        for _ in range(5):
            answer, _ = await self.call("validate", draft=self.draft)
            assert answer is not None
            if answer["ok"]:
                return done
            for wrong in answer["rows"]:
                for variable, meaning in wrong["missing"].items():
                    assert meaning == "out_features" or "columns" in meaning
                    self.at(wrong["place"])[variable] = self.sizes[wrong["kernel"].rpartition(".")[2]]
                done.append(wrong["kernel"])
        raise AssertionError("it does not come to an end")

    async def finish(self, name: str, **against: Any) -> dict[str, Any]:
        """Check, and save; return what was saved."""
        answer, text = await self.call("check", draft=self.draft, **against)
        assert answer is not None, text
        assert answer["ok"], text
        saved, text = await self.call("save", draft=self.draft, name=name, **against)
        assert saved is not None, text
        return saved


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stdio", "http"])
def test_the_users_draft_ends_as_a_checked_template(how: str, tmp_path: Path) -> None:
    facts = {"parameters": PARAMETERS, "flops": FLOPS, "run": {"seq_len": 2048}}

    async def work() -> None:
        async with connected(how, tmp_path) as client:
            prompt = await client.get_prompt("model_analyzer", {"model": "GPT-2"})
            assert "3 * {hidden_size}" in prompt.model_dump_json()
            told = (
                await client.call_tool("nbanalyzer_module", {"name": "torch.nn.modules.linear.Linear"})
            ).structured_content
            assert told is not None
            assert told["variables"]["output_size"] == "out_features"

            agent = Agent(client, gpt2(), GPT2)
            _, text = await agent.call("check", draft=agent.draft, facts=facts)
            assert text.count("unresolved template variables: ['output_size']") == 2
            refused, text = await agent.call("save", draft=agent.draft, facts=facts, name="own/gpt2")
            assert refused is None
            assert "not saved" in text

            assert await agent.bind() == ["transformer.h.attn.c_attn", "lm_head"]
            shown, _ = await agent.call("expand", draft=agent.draft, limit=200)
            assert shown is not None
            assert {row["path"]: row["parameters"] for row in shown["rows"]}["lm_head"] == "0"
            assert "{output_size}" not in json.dumps(shown)
            saved = await agent.finish("own/gpt2", facts=facts)
            assert saved["result"] == "drafted, checked against stated parameters, FLOPs"
            assert agent.steps == [
                ("check", False), ("save", False), ("validate", False), ("validate", True), ("expand", True),
                ("check", True), ("save", True),
            ]  # fmt: skip

            answer = (
                await client.call_tool("nbanalyzer_analyze", {"model": "own/gpt2", "seq_len": 2048})
            ).structured_content
            assert "drafted, checked against stated parameters, FLOPs" in json.dumps(answer)

    run(work)
    (file,) = tmp_path.rglob("*.json")
    totals = nbanalyzer.populate(str(file), seq_len=1, cache_len=2048).totals
    assert totals["matmul_flops"] == 322_598_400  # PyTorch's own count of a step
    assert nbanalyzer.validate_template(nbanalyzer.load_model_template(file)) == []


@pytest.mark.slow
def test_a_wrong_number_is_refused_until_the_draft_is_right(tmp_path: Path) -> None:
    """The agent takes c_attn for a square at first, and reads in the refusal where the parameters come from."""
    facts = {"parameters": "124,439,808"}

    async def work() -> None:
        async with connected("stdio", tmp_path) as client:
            agent = Agent(client, gpt2(), {**GPT2, "c_attn": "{hidden_size}"})
            await agent.bind()
            answer, _ = await agent.call("check", draft=agent.draft, facts=facts)
            assert answer is not None
            assert answer["result"] == "refused"
            (row,) = answer["rows"]
            counted = int(row["counted"].replace(",", ""))
            assert PARAMETERS - counted == 12 * 2 * 768 * (768 + 1)  # of q, k and v, two are missing in twelve layers
            refused, text = await agent.call("save", draft=agent.draft, facts=facts, name="own/gpt2")
            assert refused is None
            assert "parameters is 124,439,808, the draft has" in text
            assert not [*tmp_path.rglob("*.json")]

            # What is missing is twice what one source has: that layer is three in one.
            (source,) = (
                one
                for one in answer["sources"]
                if 2 * one["parameters"] == PARAMETERS - counted and "c_attn" in one["kernel"]
            )
            found, _ = await agent.call("expand", draft=agent.draft, limit=200)
            assert found is not None
            assert source["kernel"] in {one["path"] for one in found["rows"]}
            attn = agent.draft["kernels"][0]["sub_kernels"][2]["sub_kernels"][1]["sub_kernels"]
            (layer,) = (kernel for kernel in attn if source["kernel"].endswith(f".{kernel['name']}"))
            layer["bindings"]["output_size"] = "3 * {hidden_size}"
            saved = await agent.finish("own/gpt2", facts=facts)
            assert saved["model"] == "own/gpt2"

    run(work)
    assert [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.json")] == ["own/gpt2.json"]


@pytest.mark.slow
def test_a_model_that_transformers_lacks_ends_as_checked_against_stated_parameters(tmp_path: Path) -> None:
    """Layers of two widths, and layers that predict further tokens; the head's and a projection's width are missing."""
    begun = mimo()
    del begun["kernels"][1]["bindings"]["output_size"]
    (joined,) = (one for one in begun["kernels"][0]["sub_kernels"][-1]["sub_kernels"] if one["name"] == "input_proj")
    del joined["bindings"]["output_size"]

    async def work() -> None:
        async with connected("stdio", tmp_path) as client:
            unknown = {"config": {"model_type": "mimo_like", **begun["config"]}}
            agent = Agent(client, begun, {"input_proj": "{hidden_size}", "lm_head": "{vocab_size}"})
            assert await agent.bind() == ["model.mtp_layers.input_proj", "lm_head"]
            none, text = await agent.call("check", draft=agent.draft, **unknown)
            assert none is None
            assert "mimo_like" in text
            saved = await agent.finish("own/mimo", facts={"parameters": mimo_parameters()})
            assert saved["result"] == "drafted, checked against stated parameters"
            for tool, arguments in (
                ("analyze", {"model": "own/mimo", "seq_len": 16}),
                ("request", {"model": "own/mimo", "prompt_len": 16, "output_len": 4}),
                ("compare", {"models": ["own/mimo", "gpt2"]}),
                ("explain", {"model": "own/mimo", "what": "lm_head", "seq_len": 16}),
            ):
                answer, text = await agent.call(tool, **arguments)
                assert answer is not None, text
                assert "drafted, checked against stated parameters" in text, tool

    run(work)


@pytest.mark.slow
@pytest.mark.pytorch
def test_pytorch_decides_over_the_protocol_too(tmp_path: Path) -> None:
    async def work() -> None:
        async with connected("stdio", tmp_path) as client:
            agent = Agent(client, gpt2(), GPT2)
            await agent.bind()
            saved = await agent.finish("own/gpt2", config="gpt2")
            assert saved["result"].startswith("drafted, checked against transformers ")

    run(work)
