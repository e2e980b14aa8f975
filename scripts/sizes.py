"""How large the code is, and how much of it is comment, test and interface. `scripts/walks.py` prints these figures."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.plain_words import found

ROOT = Path(__file__).parents[1]

LATER = (
    ("0.2.0", "damage of the facts file", "replica/file_check replica/upkeep replica/replaced"),
    ("0.2.0", "a registry of nodes; clocks", "store/registry store/clocks service/clock_watch presence/lease_keeper"),
    ("0.2.0", "settings of the deployment", "store/settings"),
    ("0.2.0", "turns and slots of connections", "wire/turns wire/slots wire/long_reads"),
    (
        "0.2.0",
        "bounds of bodies and processes; proxies",
        "http/bodies http/room http/peers service/limits service/health",
    ),
    ("0.3.0", "rights, eviction and state of Redis", "store/rights store/eviction store/indexes service/redis_watch"),
    ("0.3.0", "transactions", "wire/transactions wire/queued"),
    ("0.3.0", "what clients send by default", "wire/habits wire/documents wire/listing wire/about"),
    ("0.3.0", "reports of nodes", "store/node_reports service/node_report service/running cli/nodes"),
    ("0.3.0", "the first screen", "service/greeting service/answering service/effective_options cli/outfile"),
    ("0.4.0", "a compiled core", "native replica/native_core"),
    ("0.5.0", "Redis Sentinel", "store/sentinel store/servers cli/doctor_servers"),
    ("0.5.0", "Redis Cluster", "store/cluster store/masters store/topology store/routing store/joins"),
    ("0.5.0", "durability; losses of a failover", "store/durability replica/lost"),
    ("0.5.0", "Presence in slices", "core/slices store/slicing store/slice_feed store/presence_forms presence/mover"),
    ("0.5.0", "several HTTP processes", "http/shared service/node_state readiness"),
    ("0.7.0", "keys with scopes", "core/app_keys core/scopes http/v1/app_keys cli/app_keys"),
    ("0.7.0", "TLS ports", "tls tls_transport service/certificates"),
    ("0.7.0", "sealed secrets", "sealing cli/secret_sealing cli/doctor_apps"),
    ("0.7.0", "backups", "core/backup store/backup store/restore cli/backup"),
    ("0.7.0", "sign-ins that are seen; console sessions", "auth_failures http/sign_ins store/console_sessions"),
    ("0.7.0", "gate top", "cli/top"),
    ("0.8.0", "the console in two languages, live", "console/languages console/live console/problems"),
    (
        "0.8.0",
        "the console acts on Users",
        "console/acts console/act_fields console/views/users console/views/user_acts console/views/user_list "
        "console/views/user_tables",
    ),
    (
        "0.8.0",
        "the console administers",
        "console/settings_form console/audit_text console/views/settings console/views/webhooks "
        "console/views/operators console/views/app_keys console/views/audit console/views/account webhooks/trial",
    ),
    (
        "0.8.0",
        "the console's overview",
        "console/views/overview store/overview service/node_rates service/node_metrics",
    ),
    ("0.8.0", "search", "console/user_search replica/id_search store/user_search"),
    (
        "0.8.0",
        "shadow mode",
        "core/shadow replica/shadow store/shadow service/shadow_reporter cli/shadow",
    ),
    ("0.8.0", "watched Users", "presence/watching http/client/watcher http/pushing"),
    (
        "0.8.0",
        "Tokens in messages",
        "http/client/renewal http/client/notices http/client/closing",
    ),
    ("0.8.0", "gate --url; traces", "cli/remote http/tracing"),
)
"""Modules and folders of `gate/` that are there for what a later version added, by the sections of CHANGELOG.md.

All other modules are for what 0.1.0 did. Some of their lines are for later versions as well, so the rest is an upper bound.
A module that is divided, merged or renamed changes its name here; one that is merged into an older one is removed.
"""
WITHOUT_LATER = "≤ {} for what 0.1.0 did alone"


@dataclass(frozen=True)
class Figure:
    """One figure, and what it must be."""

    name: str
    value: float
    bound: str


def measured() -> list[Figure]:
    """All figures of the working tree."""
    code, tests = sources("gate"), (*sources("tests"), *sources("harness"))
    lines = sum(len(text.splitlines()) for text in code)
    lines_of_tests = sum(len(text.splitlines()) for text in tests)
    filled = sum(bool(line.strip()) for text in code for line in text.splitlines())
    added = [path.read_text() for path in later_modules()]
    added_lines = sum(len(text.splitlines()) for text in added)
    return [
        Figure("lines of Python in gate/", lines, ""),
        Figure("… of modules that later versions added", added_lines, ""),
        Figure(
            "… of the other modules, with what later versions added to them",
            lines - added_lines,
            WITHOUT_LATER.format("28,500"),
        ),
        Figure("files of Python in gate/", len(code), ""),
        Figure("… that later versions added", len(added), ""),
        Figure("… the others", len(code) - len(added), WITHOUT_LATER.format("225")),
        Figure("Protocols in gate/", sum(protocols(text) for text in code), "≤ 15"),
        Figure("comments a line of gate/", round(sum(comments(text) for text in code) / filled, 3), "≥ 0.05"),
        Figure("lines of tests/ and harness/ a line of gate/", round(lines_of_tests / lines, 2), "≥ 1.1"),
        Figure("lines with a word that is ruled out", len(found()), "0"),
    ]


def sources(folder: str) -> Sequence[str]:
    """The text of each Python file."""
    return [path.read_text() for path in sorted((ROOT / folder).rglob("*.py"))]


def later_modules() -> list[Path]:
    """The files that `LATER` names, each once."""
    found: set[Path] = set()
    for _, _, names in LATER:
        for name in names.split():
            place = ROOT / "gate" / name
            found |= set(place.rglob("*.py")) if place.is_dir() else {place.with_suffix(".py")}
    return sorted(found)


def protocols(text: str) -> int:
    """Classes whose base is typing's `Protocol`; that of asyncio is the base of a connection."""
    classes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef))
    return sum(not {"Protocol", "typing.Protocol"}.isdisjoint(bases(node)) for node in classes)


def bases(node: ast.ClassDef) -> Iterator[str]:
    """The bases as they are written, without their type parameters."""
    for base in node.bases:
        plain = base.value if isinstance(base, ast.Subscript) else base
        yield ast.unparse(plain)


def comments(text: str) -> int:
    """Comment tokens: a docstring does not count, and each line of a longer comment is one."""
    return sum(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(io.StringIO(text).readline))
