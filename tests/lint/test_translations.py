"""The console says everything in both languages: each text has its translation, with the same placeholders, and no other."""

from __future__ import annotations

import pytest

from scripts import console_texts


def test_every_text_is_translated_and_no_translation_is_stale() -> None:
    assert console_texts.differences() == []


@pytest.mark.parametrize(
    ("text", "translation", "problem"),
    [
        ("a text that no page has", "一段文字", "no such text"),
        ("Users online", "", "no translation"),
        ("User %(id)s", "用户 %(key)s", "other placeholders"),
        ("User %(id)s", "用户 %(id)s%", "other placeholders"),
    ],
)
def test_a_difference_is_found(monkeypatch: pytest.MonkeyPatch, text: str, translation: str, problem: str) -> None:
    import polib

    catalog = polib.pofile(str(console_texts.CATALOG))
    entry = catalog.find(text)
    if entry is None:
        catalog.append(polib.POEntry(msgid=text, msgstr=translation))
    else:
        entry.msgstr = translation
    monkeypatch.setattr(polib, "pofile", lambda _: catalog)
    assert any(one.startswith(f"{problem}: {text}") for one in console_texts.differences())


def test_a_text_of_code_and_one_of_a_template_are_found() -> None:
    texts = console_texts.texts()
    assert texts["%(num)s Session closed."] == "%(num)s Sessions closed."
    assert texts["the sender is banned"] == texts["Skip to the page"] == ""
