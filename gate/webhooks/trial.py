"""A test call: one signed sample to one of an App's webhooks, and what came back.

It is the deliverer's POST (`posting`), with the same address, signature, time limit and no redirects. A person sees the status,
the time it took and the first bytes of the answer. An answer's text could show what only this machine or its network may reach,
so whose it is decides who sees it (`may_show_text`). Used by the console and by `gate webhooks test`.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Literal, NamedTuple

from aiohttp import ClientResponse
from aiohttp.connector import AddrInfoType

from gate.clock import monotonic_ms
from gate.core.model import AppFacts
from gate.core.operators import Operator, may
from gate.core.presence import Cursor, Event
from gate.core.shown import shown_text
from gate.errors import Refused
from gate.store.webhook_queue import QueuedWebhook
from gate.webhooks.callback import form_of
from gate.webhooks.delivery import FORM_TYPE
from gate.webhooks.posting import FAULTS, Poster, problem_of
from gate.webhooks.presence_body import JSON_TYPE, body_of

Webhook = Literal["results", "presence"]
SHOWN_BYTES = 512
SAMPLE_USER = b"gate-test"
# A receiver recognizes samples by these: no operation that Gate makes has such an id.
SAMPLE_OPERATION = "TEST-TEST-TEST-TEST"
# Where clouds serve a machine's credentials, next to link-local addresses: Alibaba, Azure, Oracle, Amazon, Google.
_OF_CLOUDS = frozenset(
    map(ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
_NAT64 = IPv6Network("64:ff9b::/96")


class Trial(NamedTuple):
    """What a test call got. Without an answer `status` is 0 and `problem` says why."""

    status: int
    took_ms: int
    text: str
    addresses: tuple[str, ...]
    """What the host's name led to, as far as it was tried."""
    problem: str

    @property
    def outcome(self) -> str:
        """In a few words, for the audit."""
        return self.problem or f"it answered {self.status}"


async def try_webhook(app: AppFacts, webhook: Webhook, now_ms: int) -> Trial:
    """Send a sample. Raises `Refused` if the App has no such webhook."""
    address = app.webhook_url if webhook == "results" else app.presence_webhook_url
    if not address:
        setting = "webhook_url" if webhook == "results" else "presence_webhook_url"
        raise Refused(f"the App has no such webhook: its setting {setting} is empty")
    body, content_type = _sample(app, webhook, now_ms)
    addresses: list[str] = []

    def opened(info: AddrInfoType) -> socket.socket:
        # What is connected to, whatever the name leads to a moment later.
        addresses.append(str(info[4][0]))
        # aiohttp takes a socket of any kind here, and waits with it: it must not block the loop.
        made = socket.socket(*info[:3])
        made.setblocking(False)
        return made

    started_ms = monotonic_ms()
    took_ms = 0
    status, text, problem = 0, "", ""
    async with Poster(opened) as poster:
        try:
            async with poster.call(app, address, body, content_type) as answer:
                status, took_ms = answer.status, monotonic_ms() - started_ms
                text = await _beginning(answer)
        except FAULTS as fault:
            # An answer whose body breaks off has a status nevertheless.
            if not status:
                problem, took_ms = problem_of(fault), monotonic_ms() - started_ms
    return Trial(status, took_ms, text, tuple(addresses), problem)


def may_show_text(addresses: tuple[str, ...], operator: Operator) -> bool:
    """Whether an answer from there may be shown to this operator.

    From a public address to each; from a private one, or this machine's own, to an admin of all Apps; to none from where
    clouds serve a machine's credentials, which is a link-local address or one of a few others.
    """
    found = [_plain(address) for address in addresses]
    if not found or any(one.is_link_local or one in _OF_CLOUDS for one in found):
        return False
    is_public = all(one.is_global for one in found)
    return is_public or (may(operator.role, "admin") and operator.apps is None)


def _plain(address: str) -> IPv4Address | IPv6Address:
    """The address; of an IPv4 address that is written as IPv6, or reached by NAT64, that one."""
    found = ip_address(address.partition("%")[0])
    if not isinstance(found, IPv6Address):
        return found
    return IPv4Address(int(found) & 0xFFFF_FFFF) if found in _NAT64 else found.ipv4_mapped or found.sixtofour or found


def _sample(app: AppFacts, webhook: Webhook, now_ms: int) -> tuple[bytes, str]:
    if webhook == "presence":
        event = Event(Cursor("0", 0, 0), "online", SAMPLE_USER, SAMPLE_OPERATION, "Web", b"gate-test", "", "", now_ms)
        return body_of([event]), JSON_TYPE
    return form_of(QueuedWebhook(0, "", 1, app.key, SAMPLE_USER, SAMPLE_OPERATION, "0", "0", now_ms)), FORM_TYPE


async def _beginning(answer: ClientResponse) -> str:
    """The first bytes of the body, as one line of text."""
    read = b""
    # One read may return any part of the body.
    while len(read) < SHOWN_BYTES and (more := await answer.content.read(SHOWN_BYTES - len(read))):
        read += more
    return shown_text(read.decode("utf-8", "replace"))
