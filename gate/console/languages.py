"""English and Chinese: which one a browser gets, and what every page says in it.

The English text is the key. `translations/zh.po` has the Chinese one of each, and a lint test compares the two: no text without
its translation, no translation without its text. `python -m scripts.console_texts` lists what differs. Texts are marked so:

    in templates    `{% trans %}`, `_("…")`, `counted(count, "…", "…")`
    in code         `gettext("…")`, `ngettext("…", "…", count)`; and `N_("…")`, or `NN_("…", "…")`,
                    where a text is written, but shown elsewhere

The browser's choice is a cookie, which the link in the header sets (`?lang=zh`); without one, `Accept-Language` decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polib

from gate.core.shown import duration_parts, shown_moment
from gate.replica.status_page import NEVER_FRESH_MS

CATALOGS = Path(__file__).parent / "translations"
LANGUAGE_COOKIE = "gate-console-language"
_ENGLISH = "en"


def N_(text: str) -> str:
    """Mark a text that is translated where it is shown."""
    return text


def NN_(one: str, many: str) -> tuple[str, str]:
    """Mark a text and its plural, which are translated where they are shown."""
    return one, many


class Language:
    """One language: texts, and the values that every page has."""

    def __init__(self, code: str, tag: str, name: str, texts: Mapping[str, str]) -> None:
        self.code = code
        self.tag = tag
        """For the attribute `lang`, by which a browser also chooses the font."""
        self.name = name
        self._texts = texts

    def gettext(self, text: str, **values: object) -> str:
        """The text in this language, with its `%(name)s` filled in if values are given."""
        # The English text is the key, so a missing translation is English, not an error.
        found = self._texts.get(text, text)
        # Without values no `%` is looked at: a text may hold a per cent sign.
        return found % values if values else found

    def ngettext(self, one: str, many: str, count: int, **values: object) -> str:
        """The text for this count. `%(num)s` is the count, with separators."""
        # Chinese has one form for all counts; English is not in the catalog, and has its two here.
        found = self._texts.get(one) or (one if count == 1 else many)
        return found % {"num": f"{count:,}", **values}

    def plural(self, one: str, many: str, count: int) -> str:
        """As `ngettext`, unfilled: what templates fill in themselves."""
        return self._texts.get(one) or (one if count == 1 else many)

    def duration(self, duration_ms: int) -> str:
        """A duration in its largest useful unit."""
        count, unit = duration_parts(duration_ms)
        return self.gettext(_DURATIONS[unit], num=count)

    def moment(self, moment_ms: int) -> str:
        """UTC to the second, or the word for no end."""
        shown = shown_moment(moment_ms)
        return self.gettext(_NEVER) if shown == "never" else shown

    def age(self, stale_ms: int) -> str:
        """How old facts are, after "its facts are"."""
        if stale_ms >= NEVER_FRESH_MS:
            return self.gettext("of an unknown age")
        if not stale_ms:
            return self.gettext("complete to the second")
        return self.gettext("%(duration)s old", duration=self.duration(stale_ms))

    def facts(self, facts: Mapping[str, object]) -> list[tuple[str, str]]:
        """What a rule looked at, as (name in words, value)."""
        return [(self.gettext(name.replace("_", " ")), self._fact(name, fact)) for name, fact in facts.items()]

    def _fact(self, name: str, fact: object) -> str:
        if fact is None:
            return self.gettext("none")
        # Before the number: a bool is an int too.
        if isinstance(fact, bool):
            return self.gettext("yes") if fact else self.gettext("no")
        if isinstance(fact, int) and name.endswith("until"):
            return self.moment(fact)
        return self.gettext(str(fact))


_NEVER = N_("never")
_DURATIONS = {
    "ms": N_("%(num)s ms"),
    "s": N_("%(num)s s"),
    "min": N_("%(num)s min"),
    "h": N_("%(num)s h"),
    "d": N_("%(num)s d"),
}


def _read(name: str) -> dict[str, str]:
    catalog = polib.pofile(str(CATALOGS / name))
    # At import: the console itself is imported with the first page.
    return {one.msgid: one.msgstr_plural[0] if one.msgid_plural else one.msgstr for one in catalog}


# By the code that addresses and the cookie have.
LANGUAGES = {
    _ENGLISH: Language(_ENGLISH, "en", "English", {}),
    "zh": Language("zh", "zh-CN", "中文", _read("zh.po")),
}
ENGLISH = LANGUAGES[_ENGLISH]


def chosen(cookie: str, accepted: str) -> Language:
    """The language of a browser with this cookie and this `Accept-Language`; English where neither says another."""
    # A person's own choice, before what the browser was installed with.
    if cookie in LANGUAGES:
        return LANGUAGES[cookie]
    # Stable, so of equal weights the browser's first choice wins.
    wanted = sorted(_wanted(accepted), key=lambda one: -one[0])
    return next((LANGUAGES[code] for quality, code in wanted if quality > 0 and code in LANGUAGES), ENGLISH)


def _wanted(accepted: str) -> list[tuple[float, str]]:
    found: list[tuple[float, str]] = []
    # A header may be as long as the server lets it; languages come first.
    for part in accepted[:1_000].split(","):
        tag, _, quality = part.partition(";q=")
        try:
            found.append((float(quality or 1), tag.strip().lower().partition("-")[0]))
        except ValueError:
            continue
    return found


def installed(language: Language) -> dict[str, Any]:
    """What the templates of a language call by name, next to gettext."""

    def counted(count: int, one: str, many: str) -> str:
        return language.ngettext(one, many, count)

    return {"counted": counted, "language": language}
