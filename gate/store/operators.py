"""Operators: accounts that may administer the deployment, in Partition 0. No gating facts: no Change, not in a Replica.

Passwords are hashed by the caller (`passwords`), off the loop. Every method may raise `StoreUnavailable`.
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
from gate.store.writer import UNEXPLAINED, Attribution, packed_origin

# Each failed attempt means that another change was written.
MAX_CHANGE_TRIES = 20


class Operators:
    """Adds, changes, reads and removes operators."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, name: str) -> Operator | None:
        """Return the operator, or None."""
        packed = await self._packed(name)
        return unpacked_operator(packed) if packed else None

    async def list(self) -> list[Operator]:
        """Return all operators, by name."""
        (rows,) = await self._client.read(("HVALS", keys.operators()))
        return sorted((unpacked_operator(row) for row in rows), key=lambda operator: operator.name)

    async def add(self, operator: Operator, attribution: Attribution = UNEXPLAINED) -> None:
        """Add an operator. Raises `OperatorExists` if the name is taken."""
        if await self._write(operator_name(operator.name), None, b"", operator, attribution) == b"differs":
            raise OperatorExists(f"there is an operator {operator.name!r} already")

    async def change(
        self, name: str, mutate: Callable[[Operator], Operator], attribution: Attribution = UNEXPLAINED
    ) -> Operator:
        """Replace an operator by `mutate` of it. Raises `OperatorUnknown`, and `Refused` for the last admin's demotion."""
        changed = await self._swap(name, mutate, attribution)
        assert changed is not None
        return changed

    async def remove(self, name: str, attribution: Attribution = UNEXPLAINED) -> None:
        """Remove an operator. Raises `OperatorUnknown`, and `Refused` for the last admin."""
        await self._swap(name, lambda _: None, attribution)

    async def _swap(
        self, name: str, mutate: Callable[[Operator], Operator | None], attribution: Attribution
    ) -> Operator | None:
        for _ in range(MAX_CHANGE_TRIES):
            present = await self._packed(name)
            if not present:
                raise OperatorUnknown(f"there is no operator {name!r}")
            before = unpacked_operator(present)
            wanted = mutate(before)
            # Compare-and-set against the bytes that were read.
            outcome = await self._write(name, before, present, wanted, attribution)
            if outcome == b"last-admin":
                raise Refused(f"{name!r} is the only admin: make another operator admin first")
            if outcome == b"ok":
                return wanted
        raise StoreUnavailable(f"the operator {name!r} was changed by others {MAX_CHANGE_TRIES} times meanwhile")

    async def _packed(self, name: str) -> bytes:
        (packed,) = await self._client.read(("HGET", keys.operators(), operator_name(name)))
        return packed or b""

    async def _write(
        self, name: str, before: Operator | None, present: bytes, wanted: Operator | None, attribution: Attribution
    ) -> bytes:
        packed = b"" if wanted is None else msgspec.json.encode(wanted)
        kind: DeploymentKind = (
            "operator-added" if before is None else "operator-removed" if wanted is None else "operator-changed"
        )
        call = Call(
            scripts.OPERATOR_WRITE,
            [keys.operators(), keys.deployment_audit()],
            [name, present, packed, kind, attribution.by, attribution.why, _changed(before, wanted), packed_origin()],
        )
        (outcome,) = await self._client.write([call])
        assert isinstance(outcome, bytes)
        return outcome


def _changed(before: Operator | None, after: Operator | None) -> bytes:
    """Return the audit entry's value, as JSON: the role and Apps before and after, and whether the password changed."""
    shown: dict[str, object] = {"role": [one and one.role for one in (before, after)]}
    if any(one is not None and one.apps is not None for one in (before, after)):
        shown["apps"] = [one and one.apps for one in (before, after)]
    if any(one is not None and one.sso for one in (before, after)):
        shown["sso"] = [one and one.sso for one in (before, after)]
    if before is not None and after is not None and before.password_hash != after.password_hash:
        shown["password"] = "changed"
    return msgspec.json.encode(shown)


def unpacked_operator(packed: bytes) -> Operator:
    """Return the stored operator."""
    return msgspec.json.decode(packed, type=Operator)
