"""An App's settings as fields of a form: from the table of `gate.core.app_settings`, so that a new setting is there by itself.

A field is sent with a digest of the value that the page showed. Only what differs from it is a change: a form that was open for
an hour does not undo what another operator saved meanwhile. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Literal, NamedTuple

from gate.console.languages import N_, Language
from gate.core.app_settings import SETTINGS, SettingGroup, choices_of, default_of, setting_mistakes, title_of
from gate.core.limits import parse_limits
from gate.core.model import AppFacts
from gate.core.operators import OperatorRole, may
from gate.errors import InvalidInput
from gate.http.forms import Form

GROUPS: dict[SettingGroup, str] = {
    "general": N_("General"),
    "verdicts": N_("Verdicts and lists"),
    "presence": N_("Presence"),
    "tokens": N_("Tokens and signatures"),
    "webhooks": N_("Webhooks"),
    "limits": N_("Limits"),
}
YES, NO = "yes", "no"
# Before the name of a field: the digest of what the page showed in it.
WAS = "was-"
_MAX_DIGITS = 16

FieldKind = Literal["choice", "number", "text", "lines"]


class SettingField(NamedTuple):
    """One field. `value` and `default` are texts as the field holds them."""

    name: str
    title: str
    meaning: str
    group: SettingGroup
    kind: FieldKind
    options: list[tuple[str, str]]
    value: str
    was: str
    default: str
    allowed: str
    may_change: bool
    problem: str


def setting_fields(
    facts: AppFacts,
    role: OperatorRole,
    language: Language,
    sent: Form | None = None,
    problems: Mapping[str, str] | None = None,
) -> list[SettingField]:
    """All fields, with the values of the App or, where a form was refused, what was sent."""
    fields = []
    # A setting that a later version adds has its field here without a change.
    for name, setting in SETTINGS.items():
        text = _text_of(getattr(facts, name))
        # A disabled field is not sent: it shows what is stored, not nothing.
        value = text if sent is None or not sent.has(name) else _sent_text(sent, name)
        fields.append(
            SettingField(
                name,
                language.gettext(title_of(name)),
                language.gettext(setting.meaning).replace("`", ""),
                setting.group,
                _kind_of(name),
                [(word, language.gettext(word)) for word in _words_of(name)],
                value,
                # A refused form keeps the digest of the first page: else its changes would look like no
                # changes.
                _digest(text) if sent is None else _sent_text(sent, WAS + name),
                language.gettext(_text_of(default_of(name))),
                _allowed(name, language),
                may(role, "admin" if setting.admins_only else "operator"),
                (problems or {}).get(name, ""),
            )
        )
    return fields


def sent_changes(form: Form) -> tuple[dict[str, Any], dict[str, InvalidInput]]:
    """The settings that the form changes, and by name what is wrong with others."""
    changes: dict[str, Any] = {}
    mistakes: dict[str, InvalidInput] = {}
    for name in SETTINGS:
        # Digests, not values: a value in a hidden field would double the 64 KiB that a body may have.
        if not form.has(name) or _digest(_sent_text(form, name)) == _sent_text(form, WAS + name):
            continue
        try:
            changes[name] = _read(name, _sent_text(form, name))
        except InvalidInput as mistake:
            mistakes[name] = mistake
    # Of those that could be read; both kinds are shown at once.
    mistakes |= {mistake.parameter: mistake for mistake in setting_mistakes(changes)}
    return changes, mistakes


def shown_value(value: object, language: Language) -> str:
    """A setting's value in a sentence."""
    text = _text_of(value)
    return language.gettext(text.replace("\n", ", ")) if text else language.gettext(N_("empty"))


def _read(name: str, text: str) -> Any:
    """The value of a setting from the text of its field."""
    default, words = default_of(name), _words_of(name)
    if words:
        if text not in words:
            raise InvalidInput(name, f"must be one of {', '.join(words)}")
        return text == YES if isinstance(default, bool) else text
    # Empty is a value of its own here: the environment's default applies.
    if default is None and not text:
        return None
    if isinstance(default, int) or default is None:
        # `int` would take blanks, underscores and digits of other scripts.
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
            raise InvalidInput(name, "must be a whole number")
        return int(text)
    if isinstance(default, frozenset):
        return frozenset(_lines(text))
    if isinstance(default, dict):
        # A person writes lines; the parser has the command line's commas.
        return parse_limits(",".join(_lines(text))) if text else {}
    return text


def _text_of(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return YES if value else NO
    if isinstance(value, frozenset):
        # Sorted: the digest must not depend on the order in a set.
        return "\n".join(sorted(value))
    if isinstance(value, dict):
        return "\n".join(f"{name}={rate}" for name, rate in sorted(value.items()))
    return str(value)


def _kind_of(name: str) -> FieldKind:
    default = default_of(name)
    if _words_of(name):
        return "choice"
    if isinstance(default, frozenset | dict):
        return "lines"
    return "text" if isinstance(default, str) else "number"


def _words_of(name: str) -> tuple[str, ...]:
    return (YES, NO) if isinstance(default_of(name), bool) else tuple(choices_of(name))


def _allowed(name: str, language: Language) -> str:
    """Which values it may have."""
    setting, default = SETTINGS[name], default_of(name)
    if isinstance(default, frozenset):
        return language.gettext(N_("One id in each line"))
    if isinstance(default, dict):
        return language.gettext(N_("NAME=CALLS_A_SECOND in each line, or the line rongcloud"))
    if setting.bounds is None:
        return ""
    least, most = (f"{bound:,}" for bound in setting.bounds)
    words = language.gettext(N_("%(least)s to %(most)s"), least=least, most=most)
    if setting.unit:
        words = f"{words} {language.gettext(setting.unit)}"
    return words if default is not None else language.gettext(N_("%(values)s, or empty for the default"), values=words)


def _sent_text(form: Form, name: str) -> str:
    # Browsers end the lines of a text area with CR and LF.
    return (form.text(name) or "").replace("\r\n", "\n").strip()


def _lines(text: str) -> Iterable[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
