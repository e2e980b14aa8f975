"""A browser as far as pages without scripts need one: it keeps cookies, names its origin, and fills forms in."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http.cookies import Morsel
from typing import NamedTuple
from urllib.parse import quote_plus

from aiohttp import ClientResponse
from multidict import CIMultiDictProxy
from yarl import URL

from gate.core.operators import Operator, OperatorRole
from gate.store.passwords import hash_password
from tests.http.world import World

PASSWORD = "a long enough password: with a colon, and é"
HASH = hash_password(PASSWORD)
_numbers = itertools.count(1)
_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')
_TAG = re.compile(r"<[^>]+>")


async def begin_operator(world: World, role: OperatorRole = "operator") -> str:
    """A new operator's name."""
    name = f"{role}-{next(_numbers)}"
    await world.store.operators.add(Operator(name=name, role=role, password_hash=HASH, created_at_ms=1))
    return name


class Shown(NamedTuple):
    """One answer."""

    status: int
    headers: CIMultiDictProxy[str]
    page: str
    cookies: dict[str, Morsel[str]]

    @property
    def place(self) -> str:
        """Where it leads."""
        return self.headers["Location"]

    @property
    def text(self) -> str:
        """What a person reads, in one line."""
        return " ".join(html.unescape(_TAG.sub(" ", self.page)).split())

    @property
    def form_token(self) -> str:
        """What its first form carries."""
        match = _TOKEN.search(self.page)
        assert match, self.page
        return match[1]


class Visitor:
    """One browser."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.cookies: dict[str, str] = {}

    async def get(self, target: str, method: str = "GET", **headers: str) -> Shown:
        """One answer; nothing is followed."""
        return await self._send(method, target, None, headers)

    async def status(self, target: str) -> int:
        """The status alone, also of a stream that has no end."""
        url = URL(self.world.url + target, encoded=True)
        async with self.world.session.get(url, headers={"Cookie": self.cookie}, allow_redirects=False) as response:
            return response.status

    async def act(self, target: str, fields: Mapping[str, str | bytes | Sequence[str]], **headers: str) -> Shown:
        """A form of a page of the test's App, with its token. A field may have several values."""
        token = (await self.app("check")).form_token
        return await self.post(f"/console/{self.world.app.key}/{target}", {"form_token": token, **fields}, **headers)

    async def confirmed(self, target: str, asks: Shown) -> Shown:
        """The form of the page that asks, sent as it is. `target` is the address of the act."""
        return await self.post(target, {"form_token": asks.form_token, **self.hidden(asks)})

    async def app(self, target: str) -> Shown:
        """A page of the test's App."""
        return await self.get(f"/console/{self.world.app.key}/{target}")

    async def post(self, target: str, fields: Mapping[str, str | bytes | Sequence[str]], **headers: str) -> Shown:
        """A form, from a page of the console itself unless an `Origin` is given."""
        pairs = [
            (name, one)
            for name, value in fields.items()
            for one in ([value] if isinstance(value, str | bytes) else value)
        ]
        body = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs).encode()
        all_headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.world.url, **headers}
        return await self._send("POST", target, body, all_headers)

    @asynccontextmanager
    async def live(self, target: str) -> AsyncIterator[AsyncIterator[tuple[str, str]]]:
        """The stream of a page of the test's App: (event, data), one after another."""
        url = URL(f"{self.world.url}/console/{self.world.app.key}/{target}", encoded=True)
        async with self.world.session.get(url, headers={"Cookie": self.cookie}, allow_redirects=False) as response:
            assert response.status == 200, response.status
            assert response.content_type == "text/event-stream"
            yield _events(response)

    async def part(self, target: str) -> str:
        """What a person reads of the first part that the stream of a page sends."""
        async with self.live(target) as events:
            _, data = await anext(events)
        return " ".join(html.unescape(_TAG.sub(" ", data)).split())

    @staticmethod
    def hidden(shown: Shown) -> dict[str, str]:
        """The hidden fields of a page in which each name is once, but for the token's."""
        found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', shown.page)
        return {name: html.unescape(value) for name, value in found if name != "form_token"}

    async def sign_in(self, password: str = PASSWORD, target: str = "/console/sign-in", **headers: str) -> Shown:
        """By the form."""
        form = await self.get(target)
        fields: dict[str, str | bytes] = {"form_token": form.form_token, "name": self.name, "password": password}
        return await self.post(target, fields, **headers)

    async def kick(self, user: str, session: str, **fields: str) -> Shown:
        """By the form of the User's page; `user` as it stands in a link."""
        token = (await self.app("user")).form_token
        given: dict[str, str | bytes] = {"form_token": token, "session": session, **fields}
        return await self.post(f"/console/{self.world.app.key}/user/kick?user={user}", given)

    @property
    def cookie(self) -> str:
        """The header `Cookie`."""
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    async def _send(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> Shown:
        if self.cookies:
            headers = {**headers, "Cookie": self.cookie}
        url = URL(self.world.url + target, encoded=True)
        async with self.world.session.request(
            method, url, data=body, headers=headers, allow_redirects=False
        ) as response:
            raw = await response.read()
            cookies = dict(response.cookies)
            for name, morsel in cookies.items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
            return Shown(response.status, response.headers, raw.decode(), cookies)


async def _events(response: ClientResponse) -> AsyncIterator[tuple[str, str]]:
    event, data = "", []
    async for packed in response.content:
        name, _, value = packed.decode().rstrip("\n").partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif event:
            yield event, "\n".join(data)
            event, data = "", []
