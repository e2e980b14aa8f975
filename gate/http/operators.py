"""Which operator calls, and whether the role suffices: HTTP Basic with the operator's name and password.

An argon2 verification is dear, so one runs at a time on a node, in a thread, with a bounded queue before it; a success is
remembered for some minutes under an HMAC of name, password and stored hash, by a key that this process alone has. The account
itself is read from Redis with each request, so a changed password, role or a removal counts at once.

Failures are slowed down (`throttle`) before anything is compared, the remembered successes too: else those would answer
guesses as fast as they come. Wrong name and wrong password look and take the same.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from gate.clock import monotonic_ms
from gate.core.operators import MAX_PASSWORD_BYTES, Operator, OperatorRole, may
from gate.errors import InvalidInput
from gate.http.administration import Operators
from gate.http.auth import basic_pair
from gate.http.calls import Exchange
from gate.http.errors import CredentialsWrong, RoleInsufficient, TriedTooOften
from gate.http.paths import app_in
from gate.http.ports import Deps
from gate.http.throttle import Throttle
from gate.store.passwords import hash_of_nobody, password_fits

REMEMBERED_MS = 5 * 60_000
MAX_REMEMBERED = 256
MAX_WAITING = 32
"""Verifications that may queue: about a second's worth."""

_WRONG = "the operator's name or password is wrong"


@dataclass(slots=True)
class OperatorCall(Exchange):
    """A request of an operator whose role suffices."""

    request: web.Request
    deps: Deps
    now_ms: int
    operator: Operator

    def path_app(self) -> str:
        """The App that the path names."""
        return app_in(self.request.raw_path)


async def operator_caller(request: web.Request, deps: Deps, door: OperatorDoor, needed: OperatorRole) -> OperatorCall:
    """The call of an operator with at least this role. Raises what its mistakes are, and `StoreUnavailable`."""
    name, password = basic_pair(request.headers.get("Authorization", ""), "an operator's name and password")
    operator = await door.admit(deps.store.operators, name, password, deps.address_of(request))
    if not may(operator.role, needed):
        raise RoleInsufficient(f"this takes the role {needed}, and {operator.name} is {operator.role}")
    return OperatorCall(request, deps, deps.now_ms(), operator)


class OperatorDoor:
    """Verifies passwords for one process, and remembers what it may."""

    def __init__(self, monotonic: Callable[[], int] = monotonic_ms) -> None:
        self._monotonic = monotonic
        self._throttle = Throttle(monotonic)
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, int] = OrderedDict()
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def admit(self, operators: Operators, name: str, password: str, address: str) -> Operator:
        """The operator that this is; `CredentialsWrong` or, without looking, `TriedTooOften`."""
        self._refuse_early(name, address)
        operator = await _named(operators, name)
        if operator is None or not self._is_remembered(operator, password):
            await self._verify_in_turn(operator, name, password, address)
        assert operator is not None, "no password fits nobody"
        self._throttle.succeeded(name, address)
        return operator

    async def _verify_in_turn(self, operator: Operator | None, name: str, password: str, address: str) -> None:
        if self._waiting >= MAX_WAITING:
            raise TriedTooOften("too many log in at this moment", 1)
        self._waiting += 1
        try:
            async with self._turn:
                self._refuse_early(name, address)  # those that went before may have failed
                if operator is None or not self._is_remembered(operator, password):
                    await self._verify(operator, name, password, address)
        finally:
            self._waiting -= 1

    async def _verify(self, operator: Operator | None, name: str, password: str, address: str) -> None:
        stored = await asyncio.to_thread(hash_of_nobody) if operator is None else operator.password_hash
        tried = password if len(password.encode("utf-8", "surrogatepass")) <= MAX_PASSWORD_BYTES else ""
        fits = await asyncio.to_thread(password_fits, tried, stored)
        if operator is None or not fits:
            self._throttle.failed(name, address)
            raise CredentialsWrong(_WRONG)
        self._remember(operator, password)

    def _refuse_early(self, name: str, address: str) -> None:
        wait_ms = self._throttle.wait_ms(name, address)
        if wait_ms:
            wait_s = -(-wait_ms // 1_000)
            raise TriedTooOften(f"wrong too often, try again in {wait_s} s", wait_s)

    def _is_remembered(self, operator: Operator, password: str) -> bool:
        until_ms = self._remembered.get(self._digest(operator, password))
        return until_ms is not None and self._monotonic() < until_ms

    def _remember(self, operator: Operator, password: str) -> None:
        self._remembered[self._digest(operator, password)] = self._monotonic() + REMEMBERED_MS
        while len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _digest(self, operator: Operator, password: str) -> bytes:
        # The hash holds no NUL and stands first, the name none either: no two pairs run together.
        said = f"{operator.password_hash}\0{operator.name}\0{password}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, said, "sha256")


async def _named(operators: Operators, name: str) -> Operator | None:
    try:
        return await operators.get(name)
    except InvalidInput:  # nobody can be called that
        return None
