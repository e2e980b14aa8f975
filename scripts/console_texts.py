"""Compares the texts of the console with their translations.

    .venv/bin/python -m scripts.console_texts            lists texts without a translation, and translations without a text
    .venv/bin/python -m scripts.console_texts --write    adds empty entries for the former, removes the latter, and sorts

Texts are those of templates, of settings, and those that code marks (`gate/console/languages.py`). The catalog is sorted, so
that two changes rarely touch the same lines. The exit status is 1 if the two differ.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment
from jinja2.ext import extract_from_ast

from gate.core.app_settings import SETTINGS, choices_of, title_of

CONSOLE = Path(__file__).parents[1] / "gate" / "console"
CATALOG = CONSOLE / "translations" / "zh.po"
IN_TEMPLATES = ("_", "gettext", "ngettext", "counted")
IN_CODE = ("N_", "NN_", "gettext", "ngettext")
PLACEHOLDER = re.compile(r"%\((\w+)\)s|%%|%")

Text = tuple[str, str]
"""A text, and its plural or ""."""


def of_templates() -> Iterator[Text]:
    """The texts that templates mark."""
    environment = Environment(extensions=["jinja2.ext.i18n"])
    environment.policies["ext.i18n.trimmed"] = True
    environment.newstyle_gettext = True  # type: ignore[attr-defined]
    for path in sorted((CONSOLE / "templates").glob("*.html")):
        tree = environment.parse(path.read_text())
        for _, _, marked in extract_from_ast(tree, IN_TEMPLATES, babel_style=False):
            assert isinstance(marked, tuple), "as `babel_style` says"
            text, plural = [*marked, ""][:2]
            yield text or "", plural or ""


def of_code() -> Iterator[Text]:
    """The texts that Python marks."""
    for path in sorted(CONSOLE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            if name in IN_CODE and texts:
                yield texts[0], texts[1] if name in ("ngettext", "NN_") and len(texts) > 1 else ""


def of_settings() -> Iterator[Text]:
    """The names, meanings, units and words of the settings of Apps, which the core's table has."""
    for name, setting in SETTINGS.items():
        for text in (title_of(name), setting.meaning, setting.unit, *choices_of(name)):
            if text:
                yield text, ""


def texts() -> dict[str, str]:
    """Every text with its plural."""
    found: dict[str, str] = {}
    for text, plural in [*of_templates(), *of_code(), *of_settings()]:
        found[text] = found.get(text) or plural
    return found


def differences() -> list[str]:
    """What is wrong with the catalog, a line each."""
    import polib  # late: `--help` of other programs needs no catalog

    wanted, catalog = texts(), polib.pofile(str(CATALOG))
    entries = {entry.msgid: entry for entry in catalog}
    found = [f"no translation: {text}" for text in sorted(wanted.keys() - entries.keys())]
    found += [f"no such text: {text}" for text in sorted(entries.keys() - wanted.keys())]
    for text, entry in entries.items():
        shown = entry.msgstr_plural[0] if entry.msgid_plural else entry.msgstr
        if not shown:
            found.append(f"no translation: {text}")
        elif text in wanted and entry.msgid_plural != wanted[text]:
            found.append(f"the plural should be {wanted[text]!r}: {text}")
        elif names_in(text) != names_in(shown) and names_in(entry.msgid_plural or text) != names_in(shown):
            found.append(f"other placeholders: {text}")
    if [entry.msgid for entry in catalog] != sorted(entries):
        found.append("the catalog is not sorted, or has a text twice: run with --write")
    return found


def names_in(text: str) -> set[str]:
    """The names of the placeholders; "%" for a per cent sign that is not doubled."""
    return {match[1] or match[0] for match in PLACEHOLDER.finditer(text) if match[0] != "%%"}


def write() -> None:
    """Bring the catalog in step with the texts; new entries are empty."""
    import polib  # late, as above

    catalog = polib.pofile(str(CATALOG)) if CATALOG.exists() else polib.POFile()
    known = {entry.msgid: entry for entry in catalog}
    made = polib.POFile(wrapwidth=10_000)
    made.metadata = {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Transfer-Encoding": "8bit",
        "Language": "zh",
        "Plural-Forms": "nplurals=1; plural=0;",
    }
    for text, plural in sorted(texts().items()):
        entry = known.get(text) or polib.POEntry(msgid=text)
        shown = entry.msgstr or (entry.msgstr_plural or {}).get(0, "")
        entry.msgid_plural = plural
        entry.msgstr, entry.msgstr_plural = ("", {0: shown}) if plural else (shown, {})
        made.append(entry)
    made.save(str(CATALOG))


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    found = differences()
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(1 if found else 0)
