"""One attempt at a webhook: a POST, and what went wrong with it.

An address is the operators' to set, never a User's. Redirects are not followed, no proxy of the environment is asked, and
nothing of an answer but its status is kept, so that a webhook can't be used to read what only this machine may reach. Used by
`gate.webhooks.delivery` and `gate.webhooks.presence`.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.connector import SocketFactoryType
from yarl import URL

from gate.clock import wall_ms
from gate.core.model import AppFacts
from gate.webhooks.callback import callback_nonce, signed_url

# For one attempt, from connecting to the answer.
TIMEOUT_S = 5.0
# What an attempt without an answer raises.
FAULTS = (TimeoutError, ClientError, ValueError, OSError)


class Poster:
    """A process's connections to webhooks; used inside `async with`."""

    def __init__(self, opened: SocketFactoryType | None = None) -> None:
        """`opened` makes the socket of each connection, for a caller that wants to know the addresses."""
        self._session: ClientSession | None = None
        self._opened = opened

    async def __aenter__(self) -> Poster:
        # No cookies and no proxy from the environment: no state is kept between requests. The number of connections is not
        # limited: receivers that hang would use up those of the others.
        self._session = ClientSession(
            connector=TCPConnector(limit=0, socket_factory=self._opened),
            timeout=ClientTimeout(total=TIMEOUT_S),
            headers={"User-Agent": "gate"},
            cookie_jar=DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, app: AppFacts, address: str, body: bytes, content_type: str) -> str:
        """What went wrong; "" if it was taken, with an answer of 200 to 299."""
        try:
            async with self.call(app, address, body, content_type) as answer:
                return "" if 200 <= answer.status < 300 else f"it answered {answer.status}"
        except FAULTS as fault:
            return problem_of(fault)

    def call(
        self, app: AppFacts, address: str, body: bytes, content_type: str
    ) -> AbstractAsyncContextManager[ClientResponse]:
        """The answer to the signed POST. Raises one of `FAULTS`."""
        assert self._session is not None, "a Poster is used inside `async with`"
        # As the App wrote it: what is percent-encoded in it stays so, and nothing is encoded twice.
        url = URL(signed_url(app, address, callback_nonce(), wall_ms()), encoded=True)
        return self._session.post(url, data=body, headers={"Content-Type": content_type}, allow_redirects=False)


def problem_of(fault: Exception) -> str:
    """What went wrong, without the fault's own text: it may have the address, and that the signature."""
    if isinstance(fault, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    return f"it could not be reached ({type(fault).__name__})"
