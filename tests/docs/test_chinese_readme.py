"""The Chinese README is held to the English one: the same headings, commands, links and rows, in the same order."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import REPOSITORY, anchors, links

ENGLISH = (REPOSITORY / "README.md").read_text()
CHINESE = (REPOSITORY / "README.zh.md").read_text()
# Figures are measured, and published in the English page only; the Chinese one links to them.
SPEED = "## Speed"
CODE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def prose(page: str) -> str:
    """A page without its code, in which a # begins no heading."""
    return CODE.sub("", page)


def sections(page: str) -> list[str]:
    """The text below each heading of the second level."""
    return prose(page).split("\n## ")[1:]


def test_the_code_is_the_same_in_the_same_order() -> None:
    assert CODE.findall(CHINESE) == CODE.findall(ENGLISH)


def test_the_headings_have_the_same_levels_in_the_same_order() -> None:
    levels = [re.findall(r"^(#+) ", prose(page), re.MULTILINE) for page in (ENGLISH, CHINESE)]
    assert levels[0] == levels[1]


@pytest.mark.parametrize("number", range(len(sections(ENGLISH))))
def test_each_section_has_the_same_links_rows_and_points(number: int) -> None:
    english, chinese = sections(ENGLISH)[number], sections(CHINESE)[number]
    assert len(re.findall(r"^- ", chinese, re.MULTILINE)) == len(re.findall(r"^- ", english, re.MULTILINE))
    if english.startswith(SPEED.removeprefix("## ")):
        assert "README.md#speed" in chinese
        return
    assert len(re.findall(r"^\|", chinese, re.MULTILINE)) == len(re.findall(r"^\|", english, re.MULTILINE))
    # Chinese puts some of them in another order within a sentence.
    assert sorted(links(chinese)) == sorted(links(english))


@pytest.mark.parametrize("number", range(len(sections(ENGLISH))))
def test_each_section_names_the_same_options_and_paths(number: int) -> None:
    english, chinese = (sections(page)[number] for page in (ENGLISH, CHINESE))
    if english.startswith(SPEED.removeprefix("## ")):
        return
    assert set(re.findall(r"`([^`\n]+)`", chinese)) == set(re.findall(r"`([^`\n]+)`", english))


def test_the_pages_name_each_other() -> None:
    assert "README.zh.md" in links(ENGLISH) and "README.md" in links(CHINESE)


def test_links_of_the_chinese_page_lead_somewhere() -> None:
    for link in links(CHINESE):
        path, _, anchor = link.partition("#")
        target = REPOSITORY / (path or "README.zh.md")
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link
