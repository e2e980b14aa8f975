"""The filter of the pages of the audit: fields of a query in, a test of entries out. A wrong field is named next to it.

    user, user_as    entries about this User           by            entries whose actor or caller has this in its name
    what             entries of this kind              from, to      moments in UTC; `to` itself does not count

Called by the views of the audit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from gate.console.id_format import Asked, asked, query_of
from gate.console.languages import N_
from gate.console.request_context import ConsoleContext
from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput
from gate.http.forms import Form
from gate.store.audit import AuditEntry, DeploymentEntry

MAX_BY_CHARS = 128
_WRONG_MOMENT = N_("must be a moment in UTC, such as 2030-01-31T18:00")


@dataclass(frozen=True)
class AuditFilter:
    """What to show. `problems` has what is wrong with fields, by name; the filter must not be used then."""

    user: Asked
    what: str
    by: str
    moments: dict[str, str]
    """What the fields `from` and `to` held."""
    from_ms: int
    to_ms: int
    problems: dict[str, str]

    @property
    def query(self) -> str:
        """The fields that are filled in, as a query string, for the next page and for exports."""
        fields = {"what": self.what, "by": self.by, **self.moments}
        if self.user.raw is not None:
            fields |= {"user": self.user.field, "user_as": self.user.written_as}
        return query_of(**{name: value for name, value in fields.items() if value})

    def matches(self, entry: AuditEntry) -> bool:
        """Whether an entry of an App's audit is to be shown."""
        is_of_user = self.user.raw is None or entry.user == self.user.raw
        return is_of_user and self.matches_deployment(entry)

    def matches_deployment(self, entry: AuditEntry | DeploymentEntry) -> bool:
        """The same, of the deployment's audit, which has no Users."""
        if self.what not in ("", entry.kind):
            return False
        by = self.by.casefold()
        return not by or by in entry.by.casefold() or by in entry.origin.name.casefold()


def audit_filter(context: ConsoleContext, query: Form, kinds: Collection[str]) -> AuditFilter:
    """Read the fields. `kinds` are the actions that may be chosen."""
    problems: dict[str, str] = {}
    texts = {name: _text(context, query, name, problems) for name in ("what", "by", "from", "to")}
    if texts["what"] not in ("", *kinds):
        texts["what"] = ""
    user = asked(query, "user")
    if user.problem:
        problems["user"] = user.problem
    moments = {name: _moment_ms(context, name, texts[name], problems) for name in ("from", "to")}
    return AuditFilter(
        user,
        texts["what"],
        texts["by"][:MAX_BY_CHARS],
        {name: texts[name] for name in moments},
        moments["from"] or 0,
        FOREVER_MS if moments["to"] is None else moments["to"],
        problems,
    )


def _text(context: ConsoleContext, query: Form, name: str, problems: dict[str, str]) -> str:
    try:
        return query.text(name) or ""
    except InvalidInput:
        problems[name] = context.gettext(N_("can't be read"))
        return ""


def _moment_ms(context: ConsoleContext, name: str, text: str, problems: dict[str, str]) -> int | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.removesuffix("Z"))
        return max(0, int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1_000))
    except (ValueError, OverflowError):
        problems[name] = context.gettext(_WRONG_MOMENT)
        return None
