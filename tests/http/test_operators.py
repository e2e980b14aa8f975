"""Operators: who is authenticated, what a wrong password costs, and what is remembered."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from itertools import count

import msgspec
import pytest

from gate.core.operators import Operator
from gate.http import limits, operators
from gate.http.errors import CredentialsWrong, TriedTooOften
from gate.http.limits import OwnTable, Throttle
from gate.http.operators import OperatorAuth
from gate.store import passwords
from gate.store.operators import Operators
from gate.store.passwords import hash_password
from harness.waiting import wait_until_async
from tests.http.world import World

PASSWORD = "a long enough password"
HERE, ELSEWHERE = "192.0.2.1", "198.51.100.7"


class Clock:
    now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


class Accounts(Operators):
    """The operators, in memory: without a store, which only the other methods use."""

    def __init__(self) -> None:
        self.of = {
            "ann": Operator(name="ann", role="admin", password_hash=hash_password(PASSWORD), created_at_ms=1),
        }

    async def get(self, name: str, /) -> Operator | None:
        return self.of.get(name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(clock: Clock) -> OperatorAuth:
    return OperatorAuth(clock)


@pytest.fixture(scope="module")
def accounts() -> Accounts:
    return Accounts()


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that were verified the dear way."""
    tried: list[str] = []
    really = passwords.password_fits

    def fits(password: str, password_hash: str) -> bool:
        tried.append(password)
        return really(password, password_hash)

    monkeypatch.setattr(operators, "password_fits", fits)
    return tried


async def refused(door: OperatorAuth, accounts: Accounts, name: str, password: str, address: str = HERE) -> str:
    """How a try that must fail fails."""
    with pytest.raises((CredentialsWrong, TriedTooOften)) as fault:
        await door.admit(accounts, name, password, address)
    return type(fault.value).__name__


async def test_a_password_is_verified_once_and_then_remembered(
    door: OperatorAuth, accounts: Accounts, clock: Clock, verified: list[str]
) -> None:
    for _ in range(5):
        assert (await door.admit(accounts, "ann", PASSWORD, HERE)).name == "ann"
    await asyncio.gather(*(door.admit(accounts, "ann", PASSWORD, HERE) for _ in range(10)))
    assert len(verified) == 1
    clock.now_ms += operators.REMEMBERED_MS
    await door.admit(accounts, "ann", PASSWORD, HERE)
    assert len(verified) == 2


async def test_many_at_once_are_verified_once(door: OperatorAuth, accounts: Accounts, verified: list[str]) -> None:
    await asyncio.gather(*(door.admit(accounts, "ann", PASSWORD, HERE) for _ in range(limits.ROOM)))
    assert len(verified) == 1


async def test_too_many_at_once_are_sent_away(door: OperatorAuth, accounts: Accounts) -> None:
    tries = (door.admit(accounts, "ann", PASSWORD, HERE) for _ in range(limits.ROOM + 6))  # one of them is served
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(outcome, TriedTooOften) for outcome in outcomes) == 5
    await door.admit(accounts, "ann", PASSWORD, HERE)


async def test_a_change_of_the_account_counts_at_once(door: OperatorAuth, verified: list[str]) -> None:
    accounts = Accounts()
    await door.admit(accounts, "ann", PASSWORD, HERE)
    accounts.of["ann"] = msgspec.structs.replace(accounts.of["ann"], role="viewer")
    assert (await door.admit(accounts, "ann", PASSWORD, HERE)).role == "viewer"
    accounts.of["ann"] = msgspec.structs.replace(accounts.of["ann"], password_hash=hash_password("another one"))
    assert await refused(door, accounts, "ann", PASSWORD) == "CredentialsWrong"
    del accounts.of["ann"]
    assert await refused(door, accounts, "ann", "another one") == "CredentialsWrong"


@pytest.mark.parametrize("name", ["ann", "stranger", "", "no one", "x" * 1_000, "\N{GREEK SMALL LETTER ALPHA}"])
@pytest.mark.parametrize("password", ["", "wrong", "\0", "x" * 100_000, PASSWORD + " ", "\ud800"])
async def test_wrong_names_and_passwords_look_alike(
    door: OperatorAuth, accounts: Accounts, name: str, password: str, verified: list[str]
) -> None:
    with pytest.raises(CredentialsWrong, match="name or password"):
        await door.admit(accounts, name, password, HERE)
    assert len(verified) == 1, "the time taken shows nothing"


@pytest.mark.slow
async def test_guessing_is_slowed_down_and_not_even_compared(
    door: OperatorAuth, accounts: Accounts, clock: Clock, verified: list[str]
) -> None:
    await door.admit(accounts, "ann", PASSWORD, HERE)
    for _ in range(limits.FREE_FAILURES):
        assert await refused(door, accounts, "ann", "guess") == "CredentialsWrong"
    assert await refused(door, accounts, "ann", PASSWORD) == "TriedTooOften", "a remembered one would answer guesses"
    tried = len(verified)
    assert await refused(door, accounts, "ann", "guess") == "TriedTooOften"
    assert len(verified) == tried
    await door.admit(accounts, "ann", PASSWORD, ELSEWHERE)
    clock.now_ms += limits.FIRST_WAIT_MS
    await door.admit(accounts, "ann", PASSWORD, HERE)
    assert await refused(door, accounts, "ann", "guess") == "CredentialsWrong", "a success starts again"


@pytest.mark.slow
async def test_guesses_side_by_side_gain_nothing(door: OperatorAuth, accounts: Accounts, verified: list[str]) -> None:
    outcomes = await asyncio.gather(*(refused(door, accounts, "ann", f"guess {n}") for n in range(20)))
    assert outcomes.count("CredentialsWrong") == limits.FREE_FAILURES == len(verified)


def test_waits_double_up_to_a_bound_and_are_forgotten(clock: Clock) -> None:
    slowed, waits = Throttle(clock), []
    for _ in range(limits.FREE_FAILURES + 8):
        slowed.failed("ann", HERE)
        waits.append(slowed.wait_ms("ann", HERE))
    assert waits == [0, 0, 0, 0, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]
    assert slowed.wait_ms("bob", HERE) == 0
    clock.now_ms += limits.FORGET_MS
    slowed.failed("ann", HERE)
    assert slowed.wait_ms("ann", HERE) == 0


def test_many_names_from_one_network_stand_behind_others(clock: Clock) -> None:
    slowed = Throttle(clock)
    for number in range(limits.FREE_FAILURES_AT_ADDRESS):
        assert not slowed.is_often_wrong("2001:db8::1")
        slowed.failed(f"name {number}", f"2001:db8::{number:x}")
    assert slowed.is_often_wrong("2001:db8::ffff")
    assert slowed.wait_ms("another", "2001:db8::ffff") == 0
    assert not slowed.is_often_wrong("2001:db8:0:1::1")
    clock.now_ms += limits.FORGET_MS
    assert not slowed.is_often_wrong("2001:db8::ffff")


@pytest.mark.slow
@pytest.mark.parametrize(("names", "addresses"), [("made up", 1), ("operators", 200)])
async def test_a_flood_of_wrong_passwords_locks_no_operator_out(addresses: int, names: str) -> None:
    """Forty operators sign in, each once, from the one address that the flood comes from too, or from elsewhere."""
    accounts, door = Accounts(), OperatorAuth()
    hashed = accounts.of["ann"].password_hash
    for number in range(41):
        accounts.of[f"op-{number}"] = Operator(
            name=f"op-{number}", role="viewer", password_hash=hashed, created_at_ms=1
        )
    where = [f"192.0.2.{number}" for number in range(addresses)]
    tried = 0

    async def flood(seed: int) -> None:
        nonlocal tried
        for number in count(seed * 1_000_000):
            name = "op-40" if names == "operators" else f"name-{number}"
            with suppress(CredentialsWrong, TriedTooOften):
                await door.admit(accounts, name, "guess", where[number % addresses])
            tried += 1
            await asyncio.sleep(0.02)  # this loop serves and attacks at once

    floods = [asyncio.create_task(flood(number)) for number in range(100)]
    await wait_until_async(lambda: tried > 200, 30, "the flood")
    began_s = asyncio.get_running_loop().time()
    signing = (door.admit(accounts, f"op-{number}", PASSWORD, where[0]) for number in range(40))
    assert len({one.name for one in await asyncio.gather(*signing)}) == 40
    assert asyncio.get_running_loop().time() - began_s < 60
    for one in floods:
        one.cancel()
    await asyncio.gather(*floods, return_exceptions=True)


def test_what_is_remembered_is_bounded(clock: Clock) -> None:
    slowed = Throttle(clock, OwnTable(12))
    for number in range(30):
        slowed.failed(f"name {number}", HERE)
    # Two of the twelve are the address's own count and that of all.
    assert [number for number in range(30) if slowed.has_failed(f"name {number}", HERE)] == list(range(20, 30))


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic !", "Basic " + base64.b64encode(b"\xff:\xff").decode(), "Bearer x", "basic eDp5"]
)
async def test_headers_that_authenticate_no_operator(world: World, header: str) -> None:
    reply = await world.send("GET", "/v1/apps", headers={"Authorization": header})
    assert (reply.status, reply.body["error"]) == (401, "unauthorized")
    assert reply.headers["WWW-Authenticate"].startswith("Basic")


async def test_over_http_a_guesser_learns_when_to_come_back(world: World) -> None:
    header = {"Authorization": "Basic " + base64.b64encode(b"ann:guess").decode()}
    replies = [await world.send("GET", "/v1/apps", headers=header) for _ in range(limits.FREE_FAILURES + 1)]
    assert [reply.status for reply in replies] == [401] * limits.FREE_FAILURES + [429]
    assert replies[-1].body["error"] == "too-many-tries"
    assert 1 <= int(replies[-1].headers["Retry-After"]) <= 60
