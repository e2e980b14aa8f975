"""The figures that `scripts/walks.py` prints: what counts as a comment, as a Protocol, and as a word that is ruled out."""

from __future__ import annotations

import pytest

from scripts.plain_words import CONTRACTS, PHRASES, WORDS, hits
from scripts.sizes import comments, protocols
from scripts.walk_tracer import name_of
from scripts.walks import WALKS, Walk, passed

SOURCE = '''"""A docstring."""
# one
class A(Protocol): ...  # two
class B(typing.Protocol[int]): ...
class C(Base): "# none"
class D(asyncio.Protocol): ...
'''


def test_comments_and_protocols_are_counted() -> None:
    assert comments(SOURCE) == 2
    assert protocols(SOURCE) == 2


@pytest.mark.parametrize("word", [*WORDS, *PHRASES])
def test_a_word_of_the_list_is_found(word: str) -> None:
    assert hits(f"fine\n{word.capitalize()} it") == [2]


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_the_list_is_found_in_a_name(word: str) -> None:
    assert hits(f"all_{word}_1 = 1") == [1]


@pytest.mark.parametrize("line", ["x is None", "a restored one", "it is none of these", "toldable", *CONTRACTS])
def test_a_line_without_a_word_of_the_list_is_not(line: str) -> None:
    assert hits(line) == []


def test_the_english_none_is_found() -> None:
    assert hits(f"the Token is {'none'}\nand a list is\nempty") == [1]


def test_a_walk_is_what_every_repeat_called() -> None:
    walk = Walk("write", "a call", ("http",), 2, 1)
    found = passed(walk, True, [["a.py: f", "b.py: beat", "a.py: g"], ["a.py: f", "a.py: g", "a.py: f"]])
    assert (found.functions, found.files) == (2, 1)
    assert found.hops == ("a.py: f", "a.py: g")
    assert len({one.name for one in WALKS}) == len(WALKS)


def test_a_comprehension_counts_as_its_function() -> None:
    def outer() -> list[str]:
        return [name_of(code) for code in (outer.__code__,) for _ in range(1)]

    assert outer()[0].endswith("test_a_comprehension_counts_as_its_function.<locals>.outer")
