"""Which tensors have a size together, and which two a kernel adds."""

from __future__ import annotations

import json

from builders import basic, composite, template

from nbanalyzer.costs.tensors import Size, Tensor, adding_up_to, adds_to_stream, is_sum, sum_of, two_of
from nbanalyzer.costs.tree import Tree
from nbanalyzer.formulas.formula import constant
from nbanalyzer.templates.template_files import load_model_template

WRITER = next(
    node
    for node in Tree(load_model_template(json.dumps(template(composite("part", basic()))).encode())).nodes
    if node.is_basic
)


def tensor(first: int, second: int | None = None, *, is_fresh: bool = True, is_stream: bool = False) -> Tensor:
    size = (first, first if second is None else second)
    return Tensor(WRITER, size, constant(first), size, is_fresh, is_stream)


def test_sizes_of_several() -> None:
    assert sum_of([(1, 20), (300, 4000)]) == (301, 4020)
    assert sum_of([]) == (0, 0)
    assert is_sum((6, 10), (3, 5))
    for reads in ((6, 11), (7, 10), (3, 5), (9, 15)):
        assert not is_sum(reads, (3, 5))
    assert not is_sum((0, 0), (0, 0))


def test_two_of_a_size_are_the_latest_unread_ones_then_the_stream() -> None:
    size: Size = (8, 8)
    first, second, third = (tensor(8) for _ in range(3))
    assert two_of(size, [first, second, third]) == [third, second]
    assert two_of(size, [first, second]) == [second, first]
    stream, read = tensor(8, is_fresh=False, is_stream=True), tensor(8, is_fresh=False)
    assert two_of(size, [stream, first, read]) == [first, stream]
    assert two_of(size, [first, tensor(8, 9)]) == []  # one is none: of another size are others
    assert two_of(size, [stream, read]) == []  # read already, both of them


def test_tensors_that_add_up_are_few_and_the_latest() -> None:
    one, two, four, other = tensor(1), tensor(2), tensor(4), tensor(4)
    among = [one, two, four, other]
    assert adding_up_to(4, among, 0, most=3) == [other]
    assert {*adding_up_to(7, among, 0, most=3)} == {one, two, other}
    assert adding_up_to(7, among, 0, most=2) == []
    assert {*adding_up_to(8, among, 0, most=2)} == {four, other}
    assert adding_up_to(2, [tensor(1)], 0, most=2) == []  # no tensor counts twice
    assert {*adding_up_to(4, [one, two, twin := tensor(1)], 0, most=3)} == {one, two, twin}
    read = tensor(4, is_fresh=False)
    assert adding_up_to(4, [four, read], 0, most=1) == [four]
    assert adding_up_to(9, [tensor(5, 9)], 1, most=1) != []
    assert adding_up_to(9, [tensor(5, 9)], 0, most=1) == []


def test_what_is_as_long_as_the_stream_is_added_to_it() -> None:
    """It may be narrower or wider: 7 bytes stand for those of an activation, 4 are fp32."""
    stream = tensor(28, is_stream=True)
    for size in (28, 16, 49):  # as wide, fp32 beside activations, activations beside fp32
        assert adds_to_stream([stream, tensor(size)], (28, 28))
    for others in ([], [tensor(29)], [tensor(28), tensor(28)], [tensor(28, is_stream=True)]):
        assert not adds_to_stream([stream, *others], (28, 28))
    assert not adds_to_stream([tensor(28), tensor(28)], (28, 28))
    assert not adds_to_stream([stream, tensor(28)], (27, 27))
    assert not adds_to_stream([Tensor(WRITER, (0, 5), constant(0), (0, 5), is_stream=True), tensor(28)], (0, 5))


def test_a_tensor_is_unread_and_its_parts_are_of_the_same_one() -> None:
    made = Tensor(WRITER, (8, 9), constant(8), (8, 9))
    assert (made.is_fresh, made.is_stream, made.is_whole) == (True, False, True)
    part = tensor(8, is_fresh=False, is_stream=True).part((3, 4))
    assert (part.size, part.total, part.is_fresh, part.is_stream, part.is_whole) == ((3, 4), (8, 8), True, True, False)
    assert part.whole == (WRITER, constant(8))
