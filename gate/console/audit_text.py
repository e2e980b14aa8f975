"""Entries of the audit in words, in the operator's language; and as lines of an export, which has no language.

An export is NDJSON, each line as `/v1/audit` answers it, or CSV. A spreadsheet takes a cell that begins with `=`, `+`, `-` or
`@` for a formula, and ids and reasons are other people's text: such cells begin with an apostrophe. Pure.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from gate.console.id_format import Named, named
from gate.console.labels import AUDIT_KINDS, DEPLOYMENT_KINDS, ORIGIN_KINDS
from gate.console.languages import N_, NN_, Language
from gate.core.model import FOREVER_MS
from gate.core.shown import shown_moment, shown_text
from gate.http.v1.audit import audit_line, deployment_audit_line
from gate.store.audit import AuditEntry, DeploymentEntry
from gate.store.writer import Origin

MAX_SHOWN_MEMBERS = 5
MAX_SHOWN_VALUE_CHARS = 200
# Also behind blanks and line breaks, which some spreadsheets leave out.
_FORMULA = ("=", "+", "-", "@")
CSV_COLUMNS = (
    "at", "what", "user", "user_base64", "about", "details", "actor", "by", "by_name", "request_id", "address", "reason",
)  # fmt: skip


class EntryShown(NamedTuple):
    """A row of the page. `user` is None in an entry about none; `about` is an App's key or an operator's name."""

    at_ms: int
    what: str
    user: Named | None
    about: str
    details: Sequence[str]
    by: str
    address: str
    reason: str


def shown_entry(entry: AuditEntry, language: Language) -> EntryShown:
    """An entry of an App's audit."""
    details: list[str] = []
    if entry.members:
        details.append(_members(entry.members, language))
    if entry.until_ms >= FOREVER_MS:
        details.append(language.gettext("without end"))
    elif entry.until_ms:
        details.append(language.gettext("until %(moment)s", moment=language.moment(entry.until_ms)))
    return EntryShown(
        entry.at_ms,
        # A kind that a newer node wrote is shown by its word.
        language.gettext(AUDIT_KINDS.get(entry.kind, entry.kind)),
        named(entry.user) if entry.user else None,
        "",
        [*details, *_values(entry, language)],
        _by(entry.origin, entry.by, language),
        entry.origin.address,
        shown_text(entry.why),
    )


def shown_deployment_entry(entry: DeploymentEntry, language: Language) -> EntryShown:
    """An entry of the deployment's audit."""
    return EntryShown(
        entry.at_ms,
        language.gettext(DEPLOYMENT_KINDS.get(entry.kind, entry.kind)),
        None,
        shown_text(entry.about),
        _changes(msgspec.json.decode(entry.value), language),
        _by(entry.origin, entry.by, language),
        entry.origin.address,
        shown_text(entry.why),
    )


def ndjson(entry: AuditEntry | DeploymentEntry) -> bytes:
    """A line of JSON, as `/v1/audit` or `/v1/deployment-audit` has it."""
    line = audit_line(entry) if isinstance(entry, AuditEntry) else deployment_audit_line(entry)
    return msgspec.json.encode(line) + b"\n"


def csv_line(cells: Sequence[str]) -> bytes:
    """A line of CSV whose cells no spreadsheet takes for formulas."""
    text = io.StringIO()
    # An apostrophe makes it text in spreadsheets; a reader of the file has to know, hence the docs.
    csv.writer(text).writerow([f"'{cell}" if cell.lstrip().startswith(_FORMULA) else cell for cell in cells])
    return text.getvalue().encode("utf-8", "backslashreplace")


def csv_cells(entry: AuditEntry | DeploymentEntry) -> list[str]:
    """The cells of `CSV_COLUMNS`."""
    user = named(entry.user) if isinstance(entry, AuditEntry) and entry.user else None
    about = "" if isinstance(entry, AuditEntry) else entry.about
    # JSON in a cell: kinds differ in what they have, and columns do not.
    details = msgspec.json.encode(_details(entry)).decode()
    who = (entry.by, entry.origin.kind, entry.origin.name, entry.origin.request_id, entry.origin.address, entry.why)
    # With milliseconds: entries of one second keep their order when they are sorted.
    moment = f"{shown_moment(entry.at_ms)[:-1]}.{entry.at_ms % 1_000:03}Z"
    return [moment, entry.kind, user.text if user else "", user.base64 if user else "", about, details, *who]


def _details(entry: AuditEntry | DeploymentEntry) -> object:
    """What no other column has: for an entry about a User its members, end and value."""
    if isinstance(entry, DeploymentEntry):
        return msgspec.json.decode(entry.value)
    elsewhere = ("at", "what", "user", "actor", "reason", "by", "on_behalf_of", "request_id", "address")
    line: dict[str, object] = msgspec.to_builtins(audit_line(entry))
    return {name: value for name, value in line.items() if name not in elsewhere}


def _members(members: Sequence[bytes], language: Language) -> str:
    shown = ", ".join(named(one).text for one in members[:MAX_SHOWN_MEMBERS])
    if len(members) <= MAX_SHOWN_MEMBERS:
        return shown
    return language.gettext(N_("%(ids)s and %(num)s more"), ids=shown, num=f"{len(members) - MAX_SHOWN_MEMBERS:,}")


def _values(entry: AuditEntry, language: Language) -> list[str]:
    """The value of an entry, whose form its kind decides."""
    line = audit_line(entry)
    if line.settings:
        return _changes(line.settings, language)
    if line.on is not msgspec.UNSET:
        return [language.gettext("on" if line.on else "off")]
    if line.before is not msgspec.UNSET:
        return [language.gettext("those from before %(moment)s", moment=language.moment(line.before))]
    found = {name: getattr(line, name) for name in ("session", "platform", "webhook", "outcome")}
    details = [shown_text(text) for text in found.values() if isinstance(text, str)]
    counts = ((line.closed, NN_("%(num)s Session", "%(num)s Sessions")),
              (line.lost, NN_("%(num)s fact", "%(num)s facts")),
              (line.letters, NN_("%(num)s dead letter", "%(num)s dead letters")))  # fmt: skip
    details += [language.ngettext(*texts, count) for count, texts in counts if isinstance(count, int)]
    return details


def _changes(changes: Mapping[str, Any], language: Language) -> list[str]:
    """Each setting with its value, or its values before and after. Of secrets an entry has their number only."""
    # The entry of a creation has values, and not all of them are pairs: `secrets` is a number.
    are_pairs = all(isinstance(value, list) and len(value) == 2 for value in changes.values())
    shown = []
    for name, value in changes.items():
        if name.endswith("_at_ms") and isinstance(value, int):
            shown.append(f"{name}: {language.moment(value)}")
        elif are_pairs:
            shown.append(f"{name}: {_value(value[0], language)} → {_value(value[1], language)}")
        else:
            shown.append(f"{name}: {_value(value, language)}")
    return shown


def _value(value: object, language: Language) -> str:
    if value is None:
        return language.gettext("none")
    if isinstance(value, bool):
        return language.gettext("yes" if value else "no")
    if isinstance(value, dict) and "scopes" in value:  # a key
        secrets = language.ngettext("%(num)s secret", "%(num)s secrets", value["secret_count"])
        return f"{', '.join(value['scopes'])} ({secrets})"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    # The page only; exports have the whole value.
    cut = text if len(text) <= MAX_SHOWN_VALUE_CHARS else text[: MAX_SHOWN_VALUE_CHARS - 1] + "…"
    return shown_text(cut) or '""'


def _by(origin: Origin, actor: str, language: Language) -> str:
    """Who was authenticated, and the actor if it is another name."""
    who = language.gettext(ORIGIN_KINDS[origin.kind], name=shown_text(origin.name))
    # The actor is the caller's word; it says something only where it differs from who was authenticated.
    if not actor or actor == origin.name:
        return who.strip()
    return language.gettext(N_("%(who)s, for %(actor)s"), who=who.strip(), actor=shown_text(actor))
