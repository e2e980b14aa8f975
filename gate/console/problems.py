"""What is wrong, in the operator's language: texts of errors that an operator can meet, which other packages word in English.

An error has its values in its text: `must be 1 to 64 bytes, 70 were sent`. Here each text has placeholders in their place. A
text that fits one of these is shown in the language of the browser, with its values; any other as it is. Pure.
"""

from __future__ import annotations

import re

from gate.console.languages import N_, Language

# A test raises each of them where it comes from, so none outlives its error.
PROBLEMS: tuple[str, ...] = (
    # Ids and fields.
    N_("is required"),
    N_("must be %(least)s to %(most)s bytes, %(count)s were sent"),
    N_("must be UTF-8, byte %(at)s is not"),
    N_("is not UTF-8"),
    N_("must be at most %(most)s characters, %(count)s were given"),
    N_("must be the `next` of an earlier answer"),
    N_("must be at most %(most)s bytes"),
    N_("must be at most %(most)s bytes, %(count)s were announced"),
    # Apps, their keys and their secrets.
    N_("must be %(least)s to %(most)s letters, digits, '_' or '-', got %(value)s"),
    N_("must be %(least)s to %(most)s of A-Z a-z 0-9 . _ -, and not . or .."),
    N_("must be one or more of %(words)s"),
    N_("there is an App with the key %(name)s already"),
    N_("there is a key %(name)s already: remove it first, or rotate its secret"),
    N_("an App has at most %(most)s keys: remove one that is not used"),
    N_("a rotation of the key %(name)s is in progress: finish it first"),
    N_("the App %(app)s has no key %(name)s"),
    N_("a rotation is in progress: drop the old secret first"),
    N_("the Tokens of %(most)s dropped secrets are kept already: revoke them with this drop"),
    N_("there is no App %(name)s; if it was made just now, load this page again"),
    # Settings.
    N_("must be one of %(words)s"),
    N_("must be a whole number"),
    N_("must be %(least)s to %(most)s, got %(value)s"),
    N_("must be %(least)s to %(most)s printable characters"),
    N_("can only be raised: it is %(now)s now, got %(value)s"),
    N_("must be at least 1 with on_stale refuse: the age in ms past which checks are refused"),
    N_("an App has at most %(most)s exempt senders, this would be %(count)s"),
    N_("must be at most %(most)s visible ASCII characters"),
    N_("must be an http or https URL with a host and without a user name, or empty for none"),
    N_("%(name)s is not the name of a limit"),
    N_("must be %(least)s to %(most)s calls a second, %(name)s was given %(value)s"),
    N_("must be rongcloud, off or NAME=RATE,…, got %(value)s"),
    # Operators and what they may.
    N_("must be %(least)s to %(most)s letters, digits or . _ @ + -, got %(value)s"),
    N_("an operator is limited to %(most)s Apps at most, got %(count)s"),
    N_("there is an operator %(name)s already"),
    N_("there is no operator %(name)s"),
    N_("%(name)s is the only admin: make another operator admin first"),
    N_("this takes the role %(role)s, and %(name)s is %(own)s"),
    N_("this takes an operator of all Apps, and %(name)s is limited to some"),
    N_("only an admin may change %(words)s"),
    N_("%(header)s is accepted only from --trusted-proxies, and this client is no such proxy"),
    N_("%(header)s came %(count)s times: the proxy must replace the header of the client"),
    # Pages and their forms.
    N_("the console has no page %(path)s"),
    N_("%(name)s is not allowed here, use %(words)s"),
    N_("the form is of another sign-in: go back, reload the page, and send the form again"),
    N_("the form was not sent from a page of this console (its Origin says so), so nothing was done"),
    N_("%(most)s files are being made in this process: try again when one is done"),
    # Facts that are too old, or not there.
    N_("this node's facts are %(age)s ms old, and the App refuses past %(most)s ms"),
    N_("this node's facts are %(age)s ms old, and the deployment refuses past %(most)s ms"),
    N_("no status page at %(path)s: the replicator has not run here yet"),
)  # fmt: skip

_NUMBERS = frozenset(("least", "most", "count", "at", "now", "age"))
# Values that are words of the catalog themselves.
_IN_CATALOG = frozenset(("role", "own"))


def _pattern(text: str) -> re.Pattern[str]:
    # Numbers match digits alone: else "1 to 64, got 70" would fit a text about letters.
    parts = re.split(r"%\((\w+)\)s", text)
    found = [re.escape(part) for part in parts]
    found[1::2] = [f"(?P<{name}>{r'-?[0-9][0-9,.]*' if name in _NUMBERS else '.+'})" for name in parts[1::2]]
    return re.compile("".join(found), re.DOTALL)


_PATTERNS = tuple((text, _pattern(text)) for text in PROBLEMS)


def translated(problem: str, language: Language) -> str:
    """The text of an error in this language; in English where it has no other words for it."""
    for text, pattern in _PATTERNS:
        if found := pattern.fullmatch(problem):
            values = found.groupdict()
            values |= {name: language.gettext(values[name]) for name in _IN_CATALOG & values.keys()}
            return language.gettext(text, **values)
    # Texts without values that the console has anyway.
    return language.gettext(problem)
