"""The kernels of a pass as plain data, and the parameters that a token uses, on a small template by hand."""

from __future__ import annotations

from builders import basic, composite, template

from nbanalyzer import populate
from nbanalyzer.costs.active import active_parameters, parameters


def test_kernels_inside_one_another() -> None:
    """A formula's number is of one execution; totals are of all of them."""
    op = basic("{seq_len}", "3 * {seq_len}", "5", name="op")
    inner = composite("inner", op, repeat="2", calls="3", parameters="7", module="")
    found = populate(template(composite("outer", inner, repeat="4")), seq_len=10)
    (outer,) = found.tree["kernels"]
    assert outer["repeat"] == 4
    assert outer["total"] == {"parameters": 56, "flops": 240, "read_bytes": 720, "write_bytes": 120}
    assert "calls" not in outer
    assert "parameters" not in outer
    (part,) = outer["sub_kernels"]
    assert (part["repeat"], part["calls"], part["parameters"]) == (2, 3, 7)
    assert part["total"] == outer["total"]
    assert part["sub_kernels"] == [{
        "kernel_type": "basic", "operation": "op", "unit": "vector", "flops": 10, "memory_access": {"read": 30, "write": 5},
    }]  # fmt: skip


def test_a_token_uses_its_share_of_the_experts() -> None:
    """Two layers of 6 experts of 2 x 8 x 4 weights, of which a token visits 2; all else it uses."""
    size = "{num_experts} * {hidden_size} * {moe_intermediate_size}"
    products = [basic("2 * {seq_len}", f"{size} * {{w_bytes}}", "0", "matmul", name) for name in ("up", "down")]
    experts = composite("experts", *products, parameters=f"2 * {size}")
    rest = composite("rest", basic("1"), parameters="100")
    config = {"num_experts": 6, "experts_per_token": 2, "hidden_size": 8, "moe_intermediate_size": 4}
    for visited, active in ((2, 200 + 2 * 2 * 64), (5, 200 + 2 * 5 * 64), (6, 200 + 2 * 6 * 64)):
        made = template(composite("h", experts, rest, repeat="2"), config={**config, "experts_per_token": visited})
        found = populate(made, seq_len=3)
        assert found.totals["parameters"] == 200 + 2 * 6 * 64
        assert active_parameters(found) == active
        assert parameters(found.kernel_tree, found.values) == (200 + 2 * 6 * 64, active)


def test_what_is_sent_has_columns_where_there_are_several_devices() -> None:
    made = template(composite("part", basic("{batch_size}")))
    columns = {"payload_bytes", "collective", "group"}
    assert not columns & {*populate(made, batch_size=2).table().columns}
    assert columns <= {*populate(made, batch_size=2, dp=2).table().columns}


def test_experts_of_which_no_number_is_visited_are_all_active() -> None:
    experts = composite("experts", basic("{num_experts}"), parameters="{num_experts} * 7")
    for config in ({"num_experts": 6}, {"num_experts": 0}):
        found = populate(template(experts, config=config), seq_len=3)
        assert active_parameters(found) == found.totals["parameters"] == 7 * config["num_experts"]
