"""The pictures of the documentation are what `scripts.pictures` draws from the code, and each is on a page."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from gate.core.decide import RULES
from scripts.pictures import IMAGES, PICTURES
from tests.docs.pages import all_text


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_as_the_code_draws_it_and_on_a_page(name: str) -> None:
    assert (IMAGES / name).read_text() == PICTURES[name](), "run: .venv/bin/python -m scripts.pictures"
    assert f"images/{name})" in all_text()


def test_the_decision_shows_each_rule_once_in_order() -> None:
    texts = [one.text for one in ET.fromstring(PICTURES["decision.svg"]()).iter("{http://www.w3.org/2000/svg}text")]
    words = [word for word, _ in RULES]
    assert [text for text in texts if text in words] == words
