"""Which operator calls, and whether the role suffices: HTTP Basic with the operator's name and password.

An argon2 verification is dear, so one runs at a time on a node, in a thread, whichever HTTP process it is for; a success is
remembered for some minutes under an HMAC of name, password and stored hash, by a key that this process alone has. The account
itself is read from Redis with each request, so a changed password, role or a removal counts at once.

A name that failed too often at an address is refused there for a while (`throttle`), before anything is compared, the
remembered successes too: else those would answer guesses as fast as they come. Nothing else is refused for others' failures:
it waits, in lanes. Behind one proxy, where everybody has the proxy's address, a flood of wrong passwords is served after every
operator who did not fail there.

    0   an operator's name that has not failed at this address: one at a time of those, and a few of that name
    1   any other, from an address that has not failed often
    2   everything else, at a pace of its own

Wrong name and wrong password look the same, and take the same while nothing waits: a client that floods this node can tell
names that exist by their shorter wait. No other name is served with them, since a flood can make up as many as it likes.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from aiohttp import web

from gate.clock import monotonic_ms
from gate.core.app_keys import key_name
from gate.core.model import AppFacts
from gate.core.operators import MAX_PASSWORD_BYTES, Operator, OperatorRole, may
from gate.core.scopes import ALL_SCOPES, Caller
from gate.errors import AppUnknown, InvalidInput, NotFound
from gate.http.auth import APP_HEADER, basic_pair
from gate.http.context import WHO, AppRequest, Deps, RequestContext
from gate.http.errors import CredentialsWrong, RoleInsufficient, TriedTooOften
from gate.http.limits import Lanes, LanesFull, Throttle
from gate.http.routing import app_in
from gate.http.shared import Shared
from gate.http.sign_ins import SignIns
from gate.store.operators import Operators
from gate.store.passwords import decoy_hash, password_fits
from gate.store.writer import WriteReceipt

T = TypeVar("T")

REMEMBERED_MS = 5 * 60_000
MAX_REMEMBERED = 256
# In the first lane, where one name must not take the room of others.
FIRST_OF_A_NAME = 4

_WRONG = "the operator's name or password is wrong"


@dataclass(slots=True)
class OperatorRequest(RequestContext):
    """A request of an operator whose role suffices."""

    request: web.Request
    deps: Deps
    now_ms: int
    operator: Operator

    def path_app(self) -> str:
        """The App that the path names."""
        return app_in(self.request.raw_path)

    def path_key(self) -> str:
        """The name of the App's key that the path names; `NotFound` if no key can have it."""
        name = self.request.match_info["name"]
        try:
            return key_name(name)
        except InvalidInput as fault:
            raise NotFound(str(fault)) from None

    async def app(self) -> AppFacts:
        """The App that the path names, as it is in Redis."""
        return await found_app(self.deps.store.apps.get(self.path_app()))

    async def update_app(self, mutate: Callable[[AppFacts], AppFacts], reason: str) -> tuple[AppFacts, WriteReceipt]:
        """Change the App that the path names. The operator is the actor in its audit."""
        updating = self.deps.store.apps.update(self.path_app(), mutate, self.now_ms, reason, self.operator.name)
        return await found_app(updating)


async def found_app(asked: Awaitable[T]) -> T:
    """Await a call about the App of the path. An unknown App is `NotFound` here: the operator's credentials are right."""
    try:
        return await asked
    except AppUnknown as fault:
        raise NotFound(str(fault)) from None


Reach = Literal["app", "apps", "deployment"]
"""What an endpoint concerns: the App in its path; the Apps that the operator may see; or the deployment, which takes an
operator that is not limited to Apps."""


async def operator_request(
    request: web.Request, deps: Deps, operator_auth: OperatorAuth, needed: OperatorRole, reach: Reach
) -> OperatorRequest:
    """The call of an operator with at least this role. Raises what its mistakes are, and `StoreUnavailable`."""
    operator = await _admitted(request, deps, operator_auth, needed)
    if reach == "deployment" and operator.apps is not None:
        raise RoleInsufficient(f"this takes an operator of all Apps, and {operator.name} is limited to some")
    call = OperatorRequest(request, deps, deps.now_ms(), operator)
    # After the password: only an operator learns whether an App exists, and of its own Apps alone.
    if reach == "app" and not operator.reaches(call.path_app()):
        raise _no_app(call.path_app())
    return call


async def operator_app_request(
    request: web.Request, deps: Deps, operator_auth: OperatorAuth | None, needed: OperatorRole | None
) -> AppRequest:
    """The call of an operator about the Users of the App that `Gate-App` names. The App's rate limits are not spent.

    `operator_auth` is None on a port where operators are not served, `needed` where no operator may call.
    """
    if operator_auth is None:
        raise CredentialsWrong("operators are served at the port of --admin-http", "not-accepted")
    if needed is None:
        raise RoleInsufficient(f"this takes an App's key and secret, without {APP_HEADER}")
    operator = await _admitted(request, deps, operator_auth, needed)
    keys = request.headers.getall(APP_HEADER)
    if len(keys) > 1:  # a proxy that filters by the one must not let the other through
        raise InvalidInput(APP_HEADER, "must be given once")
    [key] = keys
    app = None
    if operator.reaches(key):
        with deps.replica as snapshot:
            app = snapshot.app(key)
    if app is None:
        raise _no_app(key)
    request[WHO] = {"app": app.app.key, "operator": operator.name}
    return AppRequest(request, deps, app.app, deps.now_ms(), Caller("operator", operator.name, ALL_SCOPES))


def _no_app(key: str) -> NotFound:
    """Of an App that does not exist, or is out of the operator's reach: the two look the same."""
    return NotFound(f"there is no App with the key {key[:100]!r}")


async def _admitted(request: web.Request, deps: Deps, operator_auth: OperatorAuth, needed: OperatorRole) -> Operator:
    """The operator that calls. From here on the writes of this request are the operator's in the audit."""
    name, password = basic_pair(request.headers.get("Authorization", ""), "an operator's name and password")
    try:
        operator = await operator_auth.admit(deps.store.operators, name, password, deps.address_of(request))
    except CredentialsWrong:
        await operator_auth.sign_ins.refused(request, deps, "operator", name)
        raise
    # Before the role is looked at: a refusal for the role has its operator in the log.
    request[WHO] = {"operator": operator.name}
    await operator_auth.sign_ins.accepted(request, deps, "operator", operator.name)
    if not may(operator.role, needed):
        raise RoleInsufficient(f"this takes the role {needed}, and {operator.name} is {operator.role}")
    return operator


class OperatorAuth:
    """Verifies passwords for one process, and remembers what it may."""

    def __init__(self, monotonic: Callable[[], int] = monotonic_ms, shared: Shared | None = None) -> None:
        """`shared` with the node's other HTTP processes; None where there are none."""
        self.shared = shared or Shared()
        self._monotonic = monotonic
        self.sign_ins = SignIns(monotonic)
        self._throttle = Throttle(monotonic, self.shared.failures)
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, int] = OrderedDict()
        self._lanes = Lanes(3, self.shared.processes)
        self._first: Counter[tuple[str, str]] = Counter()
        """Who is in the first lane: a name at an address, and a name whatever the address."""

    async def admit(self, operators: Operators, name: str, password: str, address: str) -> Operator:
        """The operator that this is; `CredentialsWrong` or, without looking, `TriedTooOften`."""
        self._refuse_early(name, address)
        operator = await _named(operators, name)
        if operator is None or not self._is_remembered(operator, password):
            await self._verify_in_turn(operator, name, password, address)
        assert operator is not None, "an unknown name was refused above"
        self._throttle.succeeded(name, address)
        return operator

    async def _verify_in_turn(self, operator: Operator | None, name: str, password: str, address: str) -> None:
        lane = self._lane(operator, name, address)
        seats = ((name, address), (name, "")) if lane == 0 else ()
        self._first.update(seats)
        try:
            async with self._lanes.turn(lane):
                self._refuse_early(name, address)  # those that went before may have failed
                if operator is None or not self._is_remembered(operator, password):
                    async with self.shared.verifying():
                        self._refuse_early(name, address)  # as above, at another process
                        await self._verify(operator, name, password, address)
        except LanesFull:
            raise TriedTooOften("too many log in at this moment", 1) from None
        finally:
            self._first.subtract(seats)
            for seat in seats:
                if not self._first[seat]:
                    del self._first[seat]

    def _lane(self, operator: Operator | None, name: str, address: str) -> int:
        has_room = not self._first[name, address] and self._first[name, ""] < FIRST_OF_A_NAME
        if operator is not None and has_room and not self._throttle.has_failed(name, address):
            return 0
        return 2 if self._throttle.is_often_wrong(address) else 1

    async def _verify(self, operator: Operator | None, name: str, password: str, address: str) -> None:
        has_password = operator is not None and not operator.sso
        # A name that does not exist costs a verification too: its absence must not show by the time.
        stored = (
            operator.password_hash if operator is not None and has_password else await asyncio.to_thread(decoy_hash)
        )
        # No stored password is longer, and a header may be: an overlong one is compared as an empty one, in the same time.
        tried = password if len(password.encode("utf-8", "surrogatepass")) <= MAX_PASSWORD_BYTES else ""
        fits = await asyncio.to_thread(password_fits, tried, stored)
        if operator is None or not has_password or not fits:
            self._throttle.failed(name, address)
            raise CredentialsWrong(_WRONG, "wrong-password")
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
    except InvalidInput:  # no operator can have this name
        return None
