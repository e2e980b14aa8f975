"""Operators: who may administer the deployment, in Partition 0. No gating fact: no Change, nothing for a Replica.

Passwords are hashed by the caller (`passwords`), off the loop. Every method raises `StoreUnavailable`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gate.core.operators import Operator, operator_name
from gate.errors import OperatorExists, OperatorUnknown, Refused, StoreUnavailable
from gate.store import keys, scripts
from gate.store.audit import DeploymentKind
from gate.store.client import Client
from gate.store.scripts import Call
from gate.store.writer import UNEXPLAINED, Attribution

MAX_CHANGE_TRIES = 20
"""Each failed try means that somebody else's change went in."""


class Operators:
    """Adds, changes, reads and removes operators."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, name: str) -> Operator | None:
        """The operator, or None."""
        packed = await self._packed(name)
        return _unpacked(packed) if packed else None

    async def operator_of_cookie(self, name: str, digest: bytes) -> Operator | None:
        """The operator of this name, or None; None too where the session cookie with this digest was ended."""
        packed, ended_until = await self._client.read(
            ("HGET", keys.operators(), operator_name(name)), ("ZSCORE", keys.revoked_cookies(), digest)
        )
        return _unpacked(packed) if packed and ended_until is None else None

    async def revoke_cookie(self, digest: bytes, until_ms: int) -> None:
        """The session cookie with this digest, which would be good until then, is none from now on, on every node."""
        await self._client.write([Call(scripts.COOKIE_REVOKE, [keys.revoked_cookies()], [digest, until_ms])])

    async def list(self) -> list[Operator]:
        """All of them, by name."""
        (rows,) = await self._client.read(("HVALS", keys.operators()))
        return sorted((_unpacked(row) for row in rows), key=lambda operator: operator.name)

    async def add(self, operator: Operator, because: Attribution = UNEXPLAINED) -> None:
        """Raises `OperatorExists` if the name is taken."""
        if await self._write(operator_name(operator.name), None, b"", operator, because) == b"differs":
            raise OperatorExists(f"there is an operator {operator.name!r} already")

    async def change(
        self, name: str, mutate: Callable[[Operator], Operator], because: Attribution = UNEXPLAINED
    ) -> Operator:
        """Replace an operator by `mutate` of it. Raises `OperatorUnknown`, and `Refused` for the last admin's demotion."""
        changed = await self._swap(name, mutate, because)
        assert changed is not None
        return changed

    async def remove(self, name: str, because: Attribution = UNEXPLAINED) -> None:
        """Raises `OperatorUnknown`, and `Refused` for the last admin."""
        await self._swap(name, lambda _: None, because)

    async def _swap(
        self, name: str, mutate: Callable[[Operator], Operator | None], because: Attribution
    ) -> Operator | None:
        for _ in range(MAX_CHANGE_TRIES):
            present = await self._packed(name)
            if not present:
                raise OperatorUnknown(f"there is no operator {name!r}")
            before = _unpacked(present)
            wanted = mutate(before)
            outcome = await self._write(name, before, present, wanted, because)
            if outcome == b"last-admin":
                raise Refused(f"{name!r} is the only admin: make another operator admin first")
            if outcome == b"ok":
                return wanted
        raise StoreUnavailable(f"the operator {name!r} was changed by others {MAX_CHANGE_TRIES} times meanwhile")

    async def _packed(self, name: str) -> bytes:
        (packed,) = await self._client.read(("HGET", keys.operators(), operator_name(name)))
        return packed or b""

    async def _write(
        self, name: str, before: Operator | None, present: bytes, wanted: Operator | None, because: Attribution
    ) -> bytes:
        packed = b"" if wanted is None else msgspec.json.encode(wanted)
        kind: DeploymentKind = (
            "operator-added" if before is None else "operator-removed" if wanted is None else "operator-changed"
        )
        call = Call(
            scripts.OPERATOR_WRITE,
            [keys.operators(), keys.deployment_audit()],
            [name, present, packed, kind, because.by, because.why, _changed(before, wanted)],
        )
        (outcome,) = await self._client.write([call])
        assert isinstance(outcome, bytes)
        return outcome


def _changed(before: Operator | None, after: Operator | None) -> bytes:
    """What the audit shows, as JSON: the role before and after, and whether the password is another one, never its hash."""
    shown: dict[str, object] = {"role": [one and one.role for one in (before, after)]}
    if before is not None and after is not None and before.password_hash != after.password_hash:
        shown["password"] = "changed"
    return msgspec.json.encode(shown)


def _unpacked(packed: bytes) -> Operator:
    return msgspec.json.decode(packed, type=Operator)
