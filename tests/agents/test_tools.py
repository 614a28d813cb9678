"""The tools as functions: what they answer, what they refuse, and that no answer is too long."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet
from builders import every_model

import nbanalyzer
from nbanalyzer.agents.arguments import Pass
from nbanalyzer.agents.prompts import PROMPTS, text_of
from nbanalyzer.agents.resources import RESOURCES, read
from nbanalyzer.agents.shelf import Shelf
from nbanalyzer.agents.tool import Reply
from nbanalyzer.agents.tools import TOOLS
from nbanalyzer.costs.run import MAX_SIZE, SIZES, SWITCHES
from nbanalyzer.errors import InputError, UnknownNameError
from tools import schemas

LINEAR = "torch.nn.modules.linear.Linear"
MOST = 25_000  # characters that an agent is handed at a time
CARD = "h100-sxm"
THREE = ["flops", "bytes", "parameters"]


def call(tool: str, shelf: Shelf | None = None, /, **arguments: Any) -> Reply:
    reply = TOOLS[f"nbanalyzer_{tool}"].call(shelf or Shelf(), arguments)
    assert len(json.dumps(reply.data, ensure_ascii=False)) + len(reply.text) < MOST
    return reply


def answer(tool: str, shelf: Shelf | None = None, /, **arguments: Any) -> dict[str, Any]:
    import jsonschema  # a second, which whoever collects tests need not wait for

    reply = call(tool, shelf, **arguments)
    assert reply.data is not None, reply.text
    jsonschema.validate(reply.data, TOOLS[f"nbanalyzer_{tool}"].output_schema)
    jsonschema.validate(arguments, TOOLS[f"nbanalyzer_{tool}"].input_schema)
    return reply.data


def refusal(tool: str, shelf: Shelf | None = None, /, **arguments: Any) -> str:
    reply = call(tool, shelf, **arguments)
    assert reply.data is None
    assert "\n" not in reply.text
    assert len(reply.text) < 500
    assert "fault of nbanalyzer" not in reply.text
    return reply.text


def head(output_size: str = "{vocab_size}", **fields: Any) -> dict[str, Any]:
    """Return a draft of one matrix product: 8 wide, 100 words, 800 parameters."""
    bindings = {"num_tokens": "{batch_size} * {seq_len}", "input_size": "{hidden_size}", "has_bias": "0"}
    if output_size:
        bindings["output_size"] = output_size
    kernel = {"kernel_type": "composite", "name": "lm_head", "module": LINEAR, "bindings": bindings}
    return {"model_id": "me/head", "config": {"hidden_size": 8, "vocab_size": 100}, "kernels": [kernel], **fields}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    folder = tmp_path / "drafts"
    folder.mkdir()
    return Shelf(folder)


# ---- what there is


def test_the_tools() -> None:
    names = "list analyze explain request fit meshes compare sweep module validate expand check save"
    assert [*TOOLS] == [f"nbanalyzer_{name}" for name in names.split()]
    assert [tool.name for tool in TOOLS.values() if tool.writes] == ["nbanalyzer_save"]


@pytest.mark.parametrize("tool", TOOLS.values(), ids=lambda tool: tool.name)
def test_schemas_are_schemas_of_objects(tool: Any) -> None:
    import jsonschema

    for schema in (tool.input_schema, tool.output_schema):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
    assert tool.input_schema["additionalProperties"] is False
    assert len(tool.description) > 40


def test_a_pass_takes_every_size_and_switch() -> None:
    schema = TOOLS["nbanalyzer_analyze"].input_schema["properties"]
    assert {*SIZES, *SWITCHES} <= {*Pass.__struct_fields__}
    for name, switch in SWITCHES.items():
        assert set(schema[name]["enum"]) == set(switch.choices)
    assert schema["seq_len"]["maximum"] == MAX_SIZE
    assert all(schema[name]["description"] for name in schema)


def test_the_pages_for_agents_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert schemas.main(["--check"]) == 0, capsys.readouterr().out
    text = schemas.llms()
    assert all(f"### {name}" in text for name in TOOLS)
    blocks = re.findall(r"```json\n(.*?)\n```", text, re.DOTALL)
    assert [json.loads(block) for block in blocks[:2]] == [
        TOOLS["nbanalyzer_list"].input_schema,
        TOOLS["nbanalyzer_list"].output_schema,
    ]


def test_pages_that_are_not_current_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "FOLDERS", (tmp_path,))
    monkeypatch.setattr(schemas, "ROOT", tmp_path)
    assert schemas.main(["--check"]) == 1
    assert schemas.main([]) == 0
    assert schemas.main(["--check"]) == 0


# ---- lists


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("models", set(map(str.casefold, nbanalyzer.models()))),
        ("modules", set(nbanalyzer.modules)),
        ("accelerators", set(nbanalyzer.accelerators())),
    ],
)
def test_pages_list_everything_once(kind: str, names: set[str]) -> None:
    found: list[str] = []
    offset: int | None = 0
    while offset is not None:
        part = answer("list", kind=kind, limit=20, offset=offset)
        assert part["total"] == len(names)
        found += [entry["about" if kind == "models" else "name"] for entry in part["entries"]]
        offset = part["next_offset"]
    if kind == "models":  # by their shortest names; what they are called in full is part of what they are about
        found = [about.partition(",")[0].casefold() for about in found]
    assert len(found) == len(names)
    assert set(found) == names


def test_a_query_finds_words_in_any_order() -> None:
    entries = answer("list", kind="accelerators", query="NVLINK h100")["entries"]
    assert entries == []
    assert {one["name"] for one in answer("list", kind="accelerators", query="sxm H100")["entries"]} == {CARD}


def test_a_module_has_its_formulas_and_what_to_bind() -> None:
    found = answer("module", name=LINEAR)
    template = json.loads((Path(nbanalyzer.__file__).parent.parent / "modules" / f"{LINEAR}.json").read_text())
    assert found["variables"] == template["variables"]
    assert found["template"]["kernels"][0]["flops"] == template["kernels"][0]["flops"]
    assert "{output_size}" in call("module", name=LINEAR).text


# ---- passes and requests


def test_a_pass_is_that_of_the_package() -> None:
    found = answer("analyze", model="gpt2", seq_len=2048)
    assert found["totals"]["matmul_flops"] == 660_606_025_728  # FlopCounterMode's, as the README has it
    assert found["totals"]["parameters"] == 124_439_808
    rows = {row["path"]: row for row in found["rows"]}
    # 12 layers, 2048 tokens, from 768 to 3 * 768, with a bias added to each
    c_attn = rows["transformer.h.attn.c_attn"]
    assert c_attn["count"] == 12
    assert c_attn["flops"] == 12 * 2048 * (3 * 768) * (2 * 768 + 1)
    assert c_attn["parameters"] == 12 * 3 * 768 * (768 + 1)
    assert c_attn["time"] is None
    assert found["hardware"] is None
    assert "1,024 positions" in found["warnings"][0]


def test_set_and_switches_are_those_of_the_package() -> None:
    asked: dict[str, Any] = {
        "batch_size": 2,
        "seq_len": 1,
        "cache_len": 64,
        "w_bit": 4,
        "logits": "last",
        "causal": "on",
    }
    found = answer("analyze", model="llama-3.1-8b", set={"num_layers": 3}, **asked)
    own = nbanalyzer.populate("llama-3.1-8b", set={"num_layers": 3}, **asked)
    assert found["totals"] == own.totals
    assert "set num_layers=3" in found["conditions"]


@pytest.mark.pytorch
def test_a_config_gives_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBANALYZER_COMPARE", "off")
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 64, "n_head": 4, "n_layer": 2}
    found = answer("analyze", model="gpt2", config=config, seq_len=4)
    assert found["totals"] == nbanalyzer.populate("gpt2", config=config, seq_len=4).totals
    assert answer("fit", model="gpt2", config=config, seq_len=4)["needed_bytes"] > 0


@pytest.mark.slow
def test_pages_of_a_pass_have_every_module_once() -> None:
    whole = answer("analyze", model="deepseek-v3", depth=30, limit=200)
    found, offset = [], 0
    while True:
        part = answer("analyze", model="deepseek-v3", depth=30, limit=7, offset=offset)
        found += part["rows"]
        if part["next_offset"] is None:
            break
        assert part["next_offset"] > offset
        offset = part["next_offset"]
    assert len(found) == whole["total"]
    assert found[: len(whole["rows"])] == whole["rows"]
    assert len({row["path"] for row in found}) == whole["total"]


def test_a_pass_on_hardware_has_its_bound_and_its_fit() -> None:
    found = answer("analyze", model="llama-3.1-8b", seq_len=1, cache_len=8192, hardware=CARD, fusion="engine")
    own = nbanalyzer.populate("llama-3.1-8b", seq_len=1, cache_len=8192, fusion="engine").on(CARD)
    assert found["hardware"]["time"] == own.time == found["hardware"]["lower_bound"]
    # All weights but the embedding's table are read once, at 3.35 TB/s: no pass is faster.
    assert found["hardware"]["time"] > 2 * (8_030_261_248 - 128_256 * 4096) / 3.35e12
    assert found["hardware"]["fits"] is True
    assert answer("analyze", model="llama-3.1-405b", hardware="l4")["hardware"]["fits"] is False


def test_an_explanation_goes_from_formula_to_number() -> None:
    step = next(
        one for one in answer("explain", model="gpt2", what="h.mlp.c_fc", seq_len=10)["steps"] if "flops" in one["what"]
    )
    assert step["in_module"] == "2 * {num_tokens} * {input_size} * {output_size}"
    assert (step["number"], step["count"]) == (2 * 10 * 768 * 3072, 12)
    whole = answer("explain", model="gpt2", what="parameters")
    assert whole["steps"][0]["number"] == 124_439_808
    timed = answer("explain", model="gpt2", what="lm_head", hardware=CARD)
    assert any("us" in line for line in timed["bindings"])


def test_a_request_is_its_passes_together() -> None:
    found = answer("request", model="gpt2", prompt_len=10, output_len=3)
    first = nbanalyzer.populate("gpt2", seq_len=10, logits="last").totals["flops"]
    steps = [nbanalyzer.populate("gpt2", seq_len=1, cache_len=cached).totals["flops"] for cached in (10, 11)]
    assert found["totals"]["flops"] == first + sum(steps)
    assert found["times"] is None


def test_a_request_on_hardware_and_served() -> None:
    asked: dict[str, Any] = {"model": "llama-3.1-8b", "prompt_len": 1000, "output_len": 100, "hardware": CARD}
    found = answer("request", **asked, concurrency=32, price=2.0)
    timing = nbanalyzer.request("llama-3.1-8b", prompt_len=1000, output_len=100).on(CARD, price=2.0)
    assert found["times"]["time_to_first_token"] == timing.time_to_first_token
    assert found["times"]["estimate"]["value"] == timing.estimate.value
    assert found["served"]["tokens_per_second"] == timing.served(32).tokens_per_second
    # $ 2 an hour, at so many tokens a second
    each = 2.0 / 3600 / found["served"]["tokens_per_second"]
    assert found["served"]["cost_per_million_tokens"] == pytest.approx(1e6 * each)


# ---- choices


def test_the_largest_batch_is_that_of_the_inequality() -> None:
    found = answer("fit", model="llama-3.1-8b", hardware=CARD, seq_len=1, cache_len=8192)
    free, each = (int(one.replace(",", "")) for one in re.findall(r"([\d,]+)(?: \+| \*)", found["formula"]))
    capacity = int(found["formula"].rpartition(" ")[2].replace(",", ""))
    assert found["value"] == (capacity - free) // each
    assert answer("fit", model="llama-3.1-405b", hardware="l4", seq_len=1)["value"] is None


def test_cards_that_hold_a_pass_hold_it() -> None:
    found = answer("fit", model="llama-3.1-70b", limit=200)
    held = {card["name"] for card in found["cards"]}
    need = nbanalyzer.populate("llama-3.1-70b").memory.total
    every = {name: nbanalyzer.accelerator(name).memory_bytes for name in nbanalyzer.accelerators()}
    assert held == {name for name, size in every.items() if size is not None and size >= need}
    sizes = [card["memory_bytes"] for card in found["cards"]]
    assert sizes == sorted(sizes)


def test_a_rank_is_that_of_the_package() -> None:
    """Llama-3.1-8B over 8: the study's parameters, and 64 all-reduces in the layers with the embedding's."""
    found = answer("analyze", model="llama-3.1-8b", seq_len=512, tp=8, hardware=CARD, nodes=2, overlap=0.5)
    rank = nbanalyzer.populate("llama-3.1-8b", seq_len=512, tp=8)
    assert found["totals"] == rank.totals
    assert found["totals"]["parameters"] == 1_004_015_616
    assert found["totals"]["payload_bytes"] == 65 * 4_194_304 + 512 * 128_256 * 2
    assert "the busiest of 8 devices (tp 8)" in found["conditions"]
    assert found["hardware"]["time"] == rank.on(CARD, nodes=2, overlap=0.5).time
    assert found["hardware"]["time"] != rank.on(CARD).time
    spread = answer("request", model="llama-3.1-8b", prompt_len=10, output_len=3, tp=16, hardware=CARD, nodes=2)
    timing = nbanalyzer.request("llama-3.1-8b", prompt_len=10, output_len=3, tp=16).on(CARD, nodes=2)
    assert spread["times"]["time"] == timing.time
    values = {"tp": [8, 16]}
    compared = answer("compare", model="llama-3.1-8b", hardware=[CARD], values=values, nodes=2)
    assert [one["totals"]["devices"] for one in compared["variants"]] == [8, 16]
    metrics = ["payload_bytes", "time"]
    swept = answer("sweep", model="llama-3.1-8b", hardware=CARD, values=values, metrics=metrics, nodes=2)
    times = [one["totals"]["time"] for one in compared["variants"]]
    assert [row["time"] for row in swept["rows"]] == pytest.approx(times, rel=1e-12)


def test_meshes_are_those_of_the_search() -> None:
    found = answer("meshes", model="llama-3.1-70b", hardware=[CARD, "t4"], max_devices=8, price=2.0, minimize="cost")
    search = nbanalyzer.fit("llama-3.1-70b", hardware=[CARD, "t4"], max_devices=8, price=2.0, minimize="cost")
    assert found["total"] == len(search.placements)
    assert found["rows"] == json.loads(json.dumps([asdict(one) for one in search.placements[: len(found["rows"])]]))
    costs = [row["cost_per_million_tokens"] for row in found["rows"]]
    assert costs == sorted(costs)
    assert found["without"].keys() == search.without.keys()
    first = found["rows"][0]
    rank = {name: first[name] for name in ("tp", "ep", "dp") if first[name] > 1}
    run: dict[str, Any] = {"seq_len": 1, "cache_len": 1024 + 256 - 2, "fusion": "engine", **rank}
    bound = nbanalyzer.populate("llama-3.1-70b", **run).on(first["hardware"]).lower_bound
    assert first["time_per_output_token"] == pytest.approx(bound, rel=1e-9)
    least = answer("meshes", model="llama-3.1-70b", hardware=[CARD], where=["{tp} >= 4"], batch_size=4)
    assert least["rows"][0]["devices"] == min(row["devices"] for row in least["rows"])
    assert all(row["tp"] >= 4 for row in least["rows"])
    prices = answer("meshes", model="gpt2", hardware=[CARD, "t4"], prices={CARD: 1.0, "t4": 1.0}, minimize="cost")
    assert {row["hardware"] for row in prices["rows"]} == {CARD, "t4"}


@pytest.mark.slow
def test_no_mesh_says_why() -> None:
    found = answer("meshes", model="deepseek-v3", hardware=["t4"], max_devices=2)
    assert (found["total"], found["rows"], found["estimate"]) == (0, [], None)
    assert "needs at least" in found["without"]["t4"]
    assert "no mesh fits" in call("meshes", model="deepseek-v3", hardware=["t4"], max_devices=2).text


@pytest.mark.slow
def test_pages_of_meshes_are_all_of_them() -> None:
    rows: list[dict[str, Any]] = []
    offset: int | None = 0
    while offset is not None:
        found = answer("meshes", model="llama-3.1-70b", limit=200, offset=offset)
        rows += found["rows"]
        offset = found["next_offset"]
    assert len(rows) == found["total"] == len(nbanalyzer.fit("llama-3.1-70b").placements)
    assert found["without_total"] >= len(found["without"]) > 0


def test_variants_are_compared() -> None:
    found = answer("compare", model="llama-3.1-8b", values={"w_bit": [16, 4]}, seq_len=1, hardware=["rtx-4090"])
    sixteen, four = (one["totals"] for one in found["variants"])
    assert sixteen["weight_bytes"] == 2 * 8_030_261_248 == 4 * four["weight_bytes"]
    assert found["metric"] == "time"
    two = answer("compare", models=["gpt2", "gpt2-xl"])
    assert [one["label"] for one in two["variants"]] == ["gpt2", "gpt2-xl"]


def test_a_sweep_has_the_numbers_of_its_points() -> None:
    axes: dict[str, list[int | str]] = {"batch_size": [1, 8], "seq_len": [1, 2, 4]}
    found = answer("sweep", model="gpt2", values=axes, metrics=["flops", "kv_cache_bytes"], maximize="flops")
    assert found["points"] == found["total"] == 6
    for row in found["rows"]:
        own = nbanalyzer.populate("gpt2", batch_size=row["batch_size"], seq_len=row["seq_len"]).totals
        assert row["flops"] == own["flops"]
    assert (found["best"]["batch_size"], found["best"]["seq_len"]) == (8, 4)
    # keys and values of 12 layers, 768 wide, in two bytes
    assert found["ranges"]["kv_cache_bytes"]["most"] == 2 * 12 * 768 * 2 * 8 * 4


def test_a_frontier_is_of_points_that_no_other_beats() -> None:
    asked: dict[str, Any] = {
        "model": "gpt2", "values": {"batch_size": [1, 4, 16], "hardware": [CARD, "l4"]}, "seq_len": 1, "cache_len": 512,
        "metrics": ["time", "tokens_per_s"],
    }  # fmt: skip
    every = answer("sweep", **asked)["rows"]
    front = answer("sweep", **asked, frontier=["time", "tokens_per_s"])["rows"]
    assert 0 < len(front) < len(every)
    for row in every:
        beaten = any(
            other["time"] <= row["time"]
            and other["tokens_per_s"] >= row["tokens_per_s"]
            and (other["time"], other["tokens_per_s"]) != (row["time"], row["tokens_per_s"])
            for other in every
        )
        assert beaten is not any(row == other for other in front)


def test_pages_of_a_sweep_are_its_points_in_order() -> None:
    asked: dict[str, Any] = {"model": "gpt2", "values": {"seq_len": [*range(1, 451)]}, "metrics": ["parameters"]}
    found: list[int] = []
    offset: int | None = 0
    while offset is not None:
        part = answer("sweep", **asked, limit=200, offset=offset)
        found += [row["seq_len"] for row in part["rows"]]
        offset = part["next_offset"]
    assert found == [*range(1, 451)]


# ---- drafts


def test_a_draft_that_lacks_a_binding_is_told_which() -> None:
    found = answer("validate", draft=head(""))
    assert found["ok"] is False
    (row,) = found["rows"]
    assert row["kernel"] == "lm_head"
    assert row["missing"] == {"output_size": nbanalyzer.modules[LINEAR].variables["output_size"]}
    assert "output_size" in refusal("expand", draft=head(""))
    assert answer("check", draft=head(""))["result"] == "refused"


def test_a_draft_becomes_formulas_in_global_variables() -> None:
    assert answer("validate", draft=head())["ok"]
    assert answer("validate", draft=json.dumps(head()))["ok"]
    rows = {row["path"]: row for row in answer("expand", draft=head())["rows"]}
    assert rows["lm_head"]["parameters"] == "{vocab_size} * {hidden_size}"
    assert "{output_size}" not in json.dumps([*rows.values()])


def test_the_check_decides() -> None:
    assert answer("check", draft=head(), facts={"parameters": 800})["ok"]
    wrong = answer("check", draft=head(), facts={"parameters": 801})
    assert (wrong["ok"], wrong["result"], wrong["rows"][0]["counted"]) == (False, "refused", "800")
    assert answer("check", draft=head())["result"] == "drafted, not checked"


def test_a_formula_that_nothing_can_compute_is_refused() -> None:
    access = {"read": "1", "write": "1"}
    kernel = {
        "kernel_type": "basic",
        "operation": "m",
        "unit": "matmul",
        "flops": "9**9**9**9",
        "memory_access": access,
    }
    found = answer("check", draft={"kernels": [kernel]})
    assert (found["ok"], found["result"]) == (False, "refused")
    assert "9" in found["findings"][0]


def test_what_is_saved_is_a_model_and_says_what_it_is(shelf: Shelf) -> None:
    assert shelf.folder is not None
    saved = answer("save", shelf, draft=head(), name="me/head", facts={"parameters": 800})
    assert Path(saved["path"]) == shelf.folder / "me" / "head.json"
    result = "drafted, checked against stated parameters"
    assert saved["result"] == result
    (entry,) = answer("list", shelf, kind="models", query="saved draft")["entries"]
    assert entry["name"] == "me/head"
    for name, more in (
        ("analyze", {}),
        ("fit", {}),
        ("explain", {"what": "lm_head"}),
        ("sweep", {"values": {"seq_len": [1, 2]}}),
        ("compare", {"values": {"seq_len": [1, 2]}}),
    ):
        data = answer(name, shelf, model="me/head", **more)
        assert result in json.dumps(data), name
    assert answer("analyze", shelf, model="me/head", seq_len=3)["totals"]["matmul_flops"] == 2 * 3 * 8 * 100


def test_what_is_wrong_is_not_saved(shelf: Shelf) -> None:
    assert shelf.folder is not None
    assert "801" in refusal("save", shelf, draft=head(), name="me/head", facts={"parameters": 801})
    assert "output_size" in refusal("save", shelf, draft=head(""), name="me/head")
    assert "catalogue" in refusal("save", shelf, draft=head(), name="GPT2")
    assert [*shelf.folder.iterdir()] == []


@pytest.mark.parametrize("name", ["../head", "/tmp/head", "a/b/c", "..", "", "me/..", "a\\b", "x" * 500, "me/h\0"])
def test_nothing_is_saved_outside_the_folder(name: str, shelf: Shelf, tmp_path: Path) -> None:
    refusal("save", shelf, draft=head(), name=name)
    assert [*tmp_path.rglob("*.json")] == []


def test_without_a_folder_nothing_is_saved() -> None:
    assert "--folder" in refusal("save", draft=head(), name="head")


def test_links_on_the_shelf_are_not_followed(shelf: Shelf, tmp_path: Path) -> None:
    assert shelf.folder is not None
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps(head()))
    (shelf.folder / "link.json").symlink_to(outside)
    assert "link" in refusal("analyze", shelf, model="link")
    refusal("save", shelf, draft=head(), name="link")
    assert json.loads(outside.read_text()) == head()


# ---- what is refused


def deep(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"a": found}
    return found


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("list", {}, "needs kind"),
        ("list", {"kind": "cards"}, "'cards'"),
        ("list", {"kind": "models", "limit": 0}, "limit is a whole number from 1 to 200, not 0"),
        ("list", {"kind": "models", "limit": 10**30}, "limit"),
        ("list", {"kind": "models", "offset": -1}, "offset"),
        ("module", {"name": "../../../etc/passwd"}, "etc/passwd"),
        ("analyze", {}, "no model"),
        ("analyze", {"model": "gtp2"}, "Did you mean 'gpt2'"),
        ("analyze", {"model": "../../etc/passwd"}, "no path"),
        ("analyze", {"model": "/etc/passwd"}, "no path"),
        ("analyze", {"model": "nbanalyzer/agents"}, "nbanalyzer/agents"),
        ("analyze", {"model": "models/openai-community/gpt2.json"}, "no path"),
        ("analyze", {"model": "gpt2", "seqlen": 1}, "Did you mean 'seq_len'"),
        ("analyze", {"model": "gpt2", "seq_len": "many"}, "'many'"),
        ("analyze", {"model": "gpt2", "seq_len": True}, "seq_len"),
        ("analyze", {"model": "gpt2", "seq_len": 1.5}, "1.5"),
        ("analyze", {"model": "gpt2", "seq_len": 0}, "not 0"),
        ("analyze", {"model": "gpt2", "seq_len": 10**40}, "seq_len"),
        ("analyze", {"model": "gpt2", "seq_len": 10**6000}, "thousands of digits"),
        ("analyze", {"model": "gpt2", "attn": "flash"}, "'flash'"),
        ("analyze", {"model": "gpt2", "set": {"hidden_size": -1}}, "hidden_size"),
        ("analyze", {"model": "gpt2", "set": {"nonsense": 3}}, "nonsense"),
        ("analyze", {"model": "gpt2", "depth": 0}, "depth"),
        ("analyze", {"model": "gpt2", "hardware": "mi300"}, "mi300x"),
        ("analyze", {"model": "gpt2", "hardware": "abacus"}, "nbanalyzer_list lists them"),
        ("analyze", {"model": "gpt2", "hardware": "../card.json"}, "no path"),
        ("analyze", {"model": "gpt2", "hardware": CARD, "profile": "/tmp/p.json"}, "no path"),
        ("analyze", {"model": "gpt2", "profile": "vllm"}, "need hardware"),
        ("analyze", {"model": "gpt2", "hardware": CARD, "compute_efficiency": 2.0}, "2"),
        ("analyze", {"config": {"kernels": []}}, "nbanalyzer_validate"),
        ("analyze", {"model": "gpt2", "config": deep(2000)}, "deep"),
        ("analyze", {"model": "x" * 400_000}, "no path"),
        ("analyze", {"model": "x" * 600_000}, "600,"),
        ("explain", {"model": "gpt2", "what": ""}, "empty"),
        ("explain", {"model": "gpt2", "what": "h.attn.nothing"}, "h.attn.nothing"),
        ("request", {"model": "gpt2", "prompt_len": 1}, "needs output_len"),
        ("request", {"model": "gpt2", "prompt_len": 1, "output_len": 10**7}, "output_len"),
        ("request", {"model": "gpt2", "prompt_len": 1, "output_len": 1, "concurrency": 2}, "need hardware"),
        ("request", {"model": "gpt2", "prompt_len": 1, "output_len": 1, "seq_len": 2}, "prompt_len"),
        ("request", {"model": "bert-base-uncased", "prompt_len": 4, "output_len": 4}, "writes no text"),
        ("fit", {"model": "gpt2", "hardware": CARD, "batch_size": 3}, "solved for"),
        ("fit", {"model": "gpt2", "hardware": CARD, "maximize": "w_bit"}, "'w_bit'"),
        ("analyze", {"model": "llama-3.1-8b", "tp": 16, "hardware": CARD}, "needs 16 devices, a node of h100-sxm has 8"),
        ("analyze", {"model": "gpt2", "tp": 3, "nodes": 2, "hardware": CARD}, "do not spread evenly over 2 nodes"),
        ("analyze", {"model": "gpt2", "tp": 4, "nodes": 2}, "need hardware"),
        ("analyze", {"model": "gpt2", "tp": 4, "overlap": 1.5, "hardware": CARD}, "not 1.5"),
        ("analyze", {"model": "gpt2", "tp": 4, "rank": 4}, "rank is a whole number from 0 to 3, not 4"),
        ("analyze", {"model": "gpt2", "ep": 3}, "ep=3"),
        ("analyze", {"model": "gpt2", "comm": "nccl"}, "'nccl'"),
        ("request", {"model": "gpt2", "prompt_len": 1, "output_len": 1, "hardware": CARD, "overlap": 0.5}, "no overlap"),
        ("meshes", {"model": "gpt2", "hardware": ["mi300"]}, "mi300x"),
        ("meshes", {"model": "gpt2", "hardware": ["../card.json"]}, "no path"),
        ("meshes", {"model": "gpt2", "minimize": "power"}, "'power'"),
        ("meshes", {"model": "gpt2", "minimize": "cost"}, "needs a price"),
        ("meshes", {"model": "gpt2", "price": 1.0, "prices": {CARD: 1.0}}, "not both"),
        ("meshes", {"model": "gpt2", "where": ["{tpp} > 1"]}, "Did you mean 'tp'"),
        ("meshes", {"model": "gpt2", "where": ["{tp}"] * 9}, "not 9"),
        ("meshes", {"model": "gpt2", "where": ["{tp} >"]}, "in where"),
        ("meshes", {"model": "gpt2", "max_devices": 0}, "max_devices is a whole number from 1 to 1,024, not 0"),
        ("meshes", {"model": "gpt2", "max_devices": 10**9}, "not 1000000000"),
        ("meshes", {"model": "gpt2", "batch_size": 0}, "batch_size is a whole number from 1"),
        ("meshes", {"model": "gpt2", "memory_fraction": 2.0}, "not 2.0"),
        ("meshes", {"model": "gpt2", "profile": "/tmp/p.json"}, "no path"),
        ("compare", {"model": "gpt2"}, "2 to 6 variants"),
        ("compare", {"models": ["gpt2", "gpt2-xl"], "nodes": 2}, "need hardware"),
        ("compare", {"models": ["gpt2"] * 7}, "not 7"),
        ("compare", {"models": ["gpt2", "gpt2-xl"], "model": "gpt2"}, "not both"),
        ("compare", {"model": "gpt2", "values": {"w_bit": [16, 8], "a_bit": [16, 8, 4, 2]}}, "not 8"),
        ("compare", {"model": "gpt2", "values": {"set": [1, 2]}}, "'set'"),
        ("compare", {"model": "gpt2", "w_bit": 8, "values": {"w_bit": [1, 2]}}, "twice"),
        ("sweep", {"model": "gpt2", "values": {}, "metrics": ["nothing"]}, "nothing"),
        ("sweep", {"model": "gpt2", "values": {"seq_len": []}}, "0 points"),
        ("sweep", {"model": "gpt2", "values": {"seq_len": [*range(1, 400)], "batch_size": [*range(1, 400)]}}, "159,201"),
        ("sweep", {"model": "gpt2", "values": {"w_bit": [*range(1, 60)]}}, "59 combinations"),
        ("sweep", {"model": "gpt2", "values": {"num_kv_heads": [*range(1, 60)]}}, "59 combinations"),
        ("sweep", {"model": "gpt2", "values": {"chunks": [1, 2]}}, "'chunks'"),
        ("sweep", {"model": "gpt2", "values": {"nodes": [1, 2]}}, "'nodes'"),
        ("sweep", {"model": "gpt2", "values": {"tp": [1, 2]}, "nodes": 2}, "need hardware"),
        ("sweep", {"model": "gpt2", "values": {"seq_len": [1]}, "where": ["1"]}, "where needs"),
        ("sweep", {"model": "gpt2", "values": {"seq_len": [1, 2]}, "minimize": "flops", "where": ["__import__('os')"]}, "_"),
        ("sweep", {"model": "gpt2", "values": {"seq_len": [1, 2]}, "minimize": "flops", "where": ["{flops} < 0"]}, "no point"),
        ("sweep", {"model": "gpt2", "values": {"hardware": ["/etc/passwd"]}, "metrics": ["time"]}, "no path"),
        ("sweep", {"values": {"model": ["gpt2", "../x"]}}, "no path"),
        ("sweep", {"model": "gpt2", "values": {"seq_len": [1]}, "frontier": ["flops"]}, "two or more"),
        ("sweep", {"model": "gpt2", "values": {"seq_len": [*range(1, 20_000)]}, "metrics": THREE, "frontier": THREE}, "19,999"),
        ("validate", {}, "needs draft"),
        ("validate", {"draft": 3}, ": 3"),
        ("expand", {"draft": "no JSON"}, "malformed JSON"),
        ("check", {"draft": head(), "config": "/etc/passwd"}, "'/etc/passwd'"),
        ("check", {"draft": head(), "facts": {"params": 3}}, "params"),
        ("check", {"draft": head(), "facts": {"parameters": "many"}}, "'many'"),
        ("check", {"draft": head(), "facts": {"parameters": -1}}, "parameters"),
        ("check", {"draft": head(), "facts": {"run": {"seq_len": 1}}}, "flops"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(name: str, arguments: dict[str, Any], words: str) -> None:
    assert words in refusal(name, **arguments)


@pytest.mark.parametrize("arguments", [[], "x", 3, None])
def test_arguments_that_are_no_object_are_refused(arguments: object) -> None:
    reply = TOOLS["nbanalyzer_analyze"].call(Shelf(), arguments)
    assert reply.data is None


def test_a_fault_is_told_without_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from nbanalyzer.agents import passes

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(passes, "populate", broken)
    reply = TOOLS["nbanalyzer_analyze"].call(Shelf(), {"model": "gpt2"})
    assert reply == Reply(
        "a fault of nbanalyzer itself, please report it: ZeroDivisionError in nbanalyzer_analyze", None
    )


# ---- how long answers are


def shapes() -> Iterator[ParameterSet]:
    for model in every_model():
        (name,) = model.values
        arguments = {"model": name, "depth": 30, "limit": 200, "hardware": CARD}
        yield pytest.param("analyze", arguments, marks=model.marks)
    for name in nbanalyzer.modules:
        yield pytest.param("module", {"name": name})
    yield pytest.param("compare", {"models": [*nbanalyzer.models()[:6]]})
    meshes = {"model": "deepseek-v3", "max_devices": 1024, "limit": 200, "batch_size": 64}
    yield pytest.param("meshes", meshes, marks=pytest.mark.slow)
    yield pytest.param("explain", {"model": "deepseek-v3", "what": "flops"})


@pytest.mark.parametrize(("name", "arguments"), [*shapes()], ids=lambda value: str(value)[:60])
def test_answers_stay_short(name: str, arguments: dict[str, Any]) -> None:
    call(name, **arguments)  # which counts


def test_the_longest_draft_is_answered_in_pages() -> None:
    """Names as long as they may be, and formulas too."""
    formula = " + ".join(["{hidden_size} * {seq_len}"] * 40)
    kernel = {"kernel_type": "basic", "unit": "matmul", "flops": formula, "memory_access": {"read": "1", "write": "1"}}
    kernels = [
        {"kernel_type": "composite", "name": f"{'a' * 90}{number}", "sub_kernels": [{**kernel, "operation": "m" * 100}]}
        for number in range(60)
    ]
    draft = {"model_id": "long", "config": {"hidden_size": 8}, "kernels": kernels}
    part = answer("expand", draft=draft, limit=200)
    assert part["total"] == 120
    assert part["next_offset"] is not None
    wrong = [{**one, "module": "nobody.knows", "bindings": {"x" * 90: "1"}, "sub_kernels": []} for one in kernels]
    assert answer("validate", draft={**draft, "kernels": wrong}, limit=200)["total"] == 60


# ---- resources and prompts


def test_resources_are_the_documentation() -> None:
    docs = Path(nbanalyzer.__file__).parent.parent / "docs"
    for uri, one in RESOURCES.items():
        assert read(uri) == (docs / one.file).read_text(encoding="utf-8")
    assert "3.350 TB/s" in read(f"nbanalyzer://accelerators/{CARD}")
    assert "source" in read(f"nbanalyzer://accelerators/{CARD}")


@pytest.mark.parametrize(
    "uri", ["nbanalyzer://accelerators/../../etc/passwd", "file:///etc/passwd", "", "nbanalyzer://x"]
)
def test_other_addresses_are_refused(uri: str) -> None:
    with pytest.raises(UnknownNameError):
        read(uri)


def test_prompts_speak_of_tools_that_there_are() -> None:
    for name in PROMPTS:
        named = set(re.findall(r"nbanalyzer_\w+", text_of(name)))
        assert named
        assert named <= {*TOOLS}
    assert "{intermediate_size}" in text_of("model_analyzer")


def test_a_prompt_is_about_what_was_asked() -> None:
    assert text_of("explainer", {"question": "why is decode slow?"}).endswith("The question: why is decode slow?\n")
    with pytest.raises(InputError):
        text_of("explainer", {"question": "x" * 501})
    with pytest.raises(UnknownNameError):
        text_of("explainer", {"model": "gpt2"})
    with pytest.raises(UnknownNameError):
        text_of("../model_analyzer")
