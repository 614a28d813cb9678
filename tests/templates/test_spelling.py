"""Names of models as people type them: what is meant, what is begun, and what a variant is."""

from __future__ import annotations

import pytest

from nbanalyzer.templates.spelling import begun, is_variant, meant, stored_otherwise

NAMES = ("a/Foo-8B-Instruct", "a/Foo-8B", "b/Meta-Bar-3-70B", "b/Bar-3-8B", "c/Only-2B-hf", "d/Twin", "e/Twin-it")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("foo 8b", "a/Foo-8B"),  # both fit: the one that says no more
        ("foo_8b-instruct", "a/Foo-8B-Instruct"),
        ("Foo-8B-chat", "a/Foo-8B"),
        ("x/foo-8b-awq", "a/Foo-8B"),  # a variant may be anybody's
        ("x/foo-8b", ""),  # another model of that name
        ("A/foo-8b", "a/Foo-8B"),
        ("bar 3 70b", "b/Meta-Bar-3-70B"),
        ("meta bar 3 8b", "b/Bar-3-8B"),
        ("bar", ""),  # two begin so
        ("only", "c/Only-2B-hf"),
        ("only 2", ""),  # not at the end of a part
        ("x/only", ""),
        ("only-2b-2407", "c/Only-2B-hf"),
        ("only-2b-1407", ""),  # no month
        ("twin", "d/Twin"),
        ("instruct", ""),
        (" ", ""),
        ("foo-8b-base", "a/Foo-8B"),  # as the model was before it was trained further
        ("bar-3-base", ""),
    ],
)
def test_what_is_meant(text: str, name: str) -> None:
    assert meant(text, NAMES) == name


def test_what_is_begun() -> None:
    assert begun("bar", NAMES) == begun("bar3", NAMES) == ["b/Meta-Bar-3-70B", "b/Bar-3-8B"]
    assert begun("foo8b", NAMES) == ["a/Foo-8B-Instruct", "a/Foo-8B"]
    assert begun("ba", NAMES) == begun("8b", NAMES) == []


def test_variants_have_the_structure_and_other_numbers() -> None:
    assert is_variant("foo-8b-chat", "a/Foo-8B")
    assert is_variant("foo-8b", "a/Foo-8B-Instruct")
    assert not is_variant("x/Foo_8B", "a/Foo-8B")
    assert not is_variant("only-2b", "c/Only-2B-hf")  # hf says neither how it was trained nor how it is stored
    assert not is_variant("bar-3-70b", "b/Meta-Bar-3-70B")
    assert not is_variant("bar-3-8b-it", "b/Meta-Bar-3-70B")
    assert stored_otherwise("x/Foo-8B-it-bnb-4bit") == "bnb-4bit"
    assert stored_otherwise("awq/Foo-8B") == ""
