"""Each command with each scope: allowed if and only if its row of the table says so, also on the fast ways."""

from __future__ import annotations

from itertools import chain, combinations

import msgspec
import pytest

from gate.core.app_keys import with_finished_rotation, with_key, with_rotated_key, without_key
from gate.core.model import AppFacts
from gate.core.scopes import SCOPES, Scope, granted
from gate.wire import transactions
from gate.wire.client import Worker
from gate.wire.commands import COMMANDS
from gate.wire.table import PendingReply
from tests.replica.ledger import Ledger, app_facts, app_set, said
from tests.wire.conftest import SECRETS
from tests.wire.line import Line, command
from tests.wire.peer import Peer

BARE = app_facts(secrets=SECRETS)
SETS: list[tuple[Scope, ...]] = list(chain.from_iterable(combinations(SCOPES, size) for size in range(1, 5)))
CHECK = command("GATE.CHECK", "bob", "alice")
NOPERM = b"-NOPERM this key has no scope 'check': the key '%b' has presence; use a key with that scope\r\n"
DROPPED = b"-NOAUTH The secret that this connection gave is no longer accepted. Send AUTH app-key app-secret\r\n"
NO_APP = b"-NOAUTH Authentication required. Send AUTH app-key app-secret\r\n"
QUEUED_ONLY = {"MULTI", "EXEC", "DISCARD", "RESET", "QUIT"}
ODD_ID = b"\x00\xff\r\n*"


def secret_of(scopes: tuple[Scope, ...]) -> str:
    return f"a-secret-with-{'-'.join(scopes)}-in-it"


def with_all_keys(facts: AppFacts = BARE) -> AppFacts:
    """A key for each set of scopes."""
    for scopes in SETS:
        facts = with_key(facts, "-".join(scopes), scopes, secret_of(scopes), 1)
    return facts


def key_app(*scopes: Scope, name: str = "edge", secret: str = "the-secret-of-the-edge") -> AppFacts:
    return with_key(BARE, name, scopes, secret, 1)


def is_refused(peer: Peer, *words: bytes | str) -> bool:
    """Whether the key was the reason; what else is wrong with the command does not matter here."""
    reply = peer.raw(*words)
    if isinstance(reply, PendingReply):
        return False
    assert isinstance(reply, bytes)
    return reply.startswith(b"-NOPERM ")


def arguments_of(name: str, user: bytes) -> list[bytes]:
    return [user] * COMMANDS[name.encode()].least


@pytest.mark.parametrize("scopes", SETS, ids="-".join)
@pytest.mark.parametrize("user", [b"alice", ODD_ID], ids=["a name", "odd bytes"])
def test_each_command_is_allowed_if_its_scopes_are_there(
    ledger: Ledger, worker: Worker, scopes: tuple[Scope, ...], user: bytes
) -> None:
    ledger.commit(app_set(with_all_keys()))
    for raw_name, row in COMMANDS.items():
        name = raw_name.decode()
        peer = Peer(worker)
        assert peer("AUTH", "app", secret_of(scopes)) == b"OK"
        needed = set(row.needs or ())
        assert is_refused(peer, name, *arguments_of(name, user)) is not (needed <= granted(scopes)), name
        if name not in QUEUED_ONLY:
            peer("DISCARD" if peer.client.queued else "PING")
            peer("AUTH", "app", secret_of(scopes))
            peer("MULTI")
            assert is_refused(peer, name, *arguments_of(name, user)) is not (needed <= granted(scopes)), name


@pytest.mark.parametrize("secret", SECRETS)
def test_the_apps_own_secret_has_all_scopes(ledger: Ledger, worker: Worker, secret: str) -> None:
    ledger.commit(app_set(with_all_keys()))
    for raw_name in COMMANDS:
        peer = Peer(worker)
        peer("AUTH", "app", secret)
        assert not is_refused(peer, raw_name, *arguments_of(raw_name.decode(), b"alice"))


def test_every_command_of_gate_needs_a_scope() -> None:
    of_gate = {name for name in COMMANDS if name.startswith(b"GATE.")}
    assert {name for name, row in COMMANDS.items() if row.needs} == of_gate
    assert {scope for row in COMMANDS.values() for scope in row.needs or ()} == {"check", "presence"}


def test_a_refusal_names_the_scope_and_the_key(ledger: Ledger, worker: Worker) -> None:
    ledger.commit(app_set(key_app("check", "users", name="router-1")))
    peer = Peer(worker)
    peer("HELLO", "3", "AUTH", "app", "the-secret-of-the-edge")
    assert peer("GATE.CHECK", "bob", "alice") == 0
    assert peer.error("GATE.ONLINE", "bob") == (
        "NOPERM this key has no scope 'presence': the key 'router-1' has check, users; use a key with that scope"
    )
    assert peer.error("GATE.ROUTE", "bob", "alice").startswith("NOPERM this key has no scope 'presence'")


@pytest.mark.parametrize("times", [1, 2, 40], ids=["a lone check", "a short pipeline", "a long one"])
def test_no_fast_way_answers_a_key_without_the_scope(ledger: Ledger, worker: Worker, times: int) -> None:
    ledger.commit(app_set(key_app("presence")))
    line = Line(worker)
    assert line.send(command("AUTH", "app", "the-secret-of-the-edge")) == b"+OK\r\n"
    assert line.send(CHECK * times) == (NOPERM % b"edge") * times
    assert line.send(command("MULTI"), command("DISCARD"), CHECK) == b"+OK\r\n+OK\r\n" + NOPERM % b"edge"
    assert line.send(command("AUTH", "app", "secret"), CHECK * times) == b"+OK\r\n" + b":0\r\n" * times
    assert line.connection.client.hot_app is not None


@pytest.mark.parametrize("times", [1, 2, 40])
def test_a_removed_key_is_refused_with_the_next_command(ledger: Ledger, worker: Worker, times: int) -> None:
    present = key_app("check")
    ledger.commit(app_set(present))
    line = Line(worker)
    line.send(command("AUTH", "app", "the-secret-of-the-edge"))
    assert line.send(CHECK * times) == b":0\r\n" * times
    ledger.commit(app_set(without_key(present, "edge")))
    assert line.send(CHECK * times) == DROPPED + NO_APP * (times - 1)
    ledger.commit(app_set(present))
    assert line.send(CHECK) == NO_APP, "it has to send AUTH again"


@pytest.mark.parametrize("times", [1, 2, 40])
def test_other_scopes_count_with_the_next_command(ledger: Ledger, worker: Worker, times: int) -> None:
    ledger.commit(app_set(key_app("check")))
    line = Line(worker)
    line.send(command("AUTH", "app", "the-secret-of-the-edge"))
    assert line.send(CHECK * times) == b":0\r\n" * times
    ledger.commit(app_set(key_app("presence")))
    assert line.send(CHECK * times) == (NOPERM % b"edge") * times
    ledger.commit(app_set(key_app("admin")))
    assert line.send(CHECK * times) == b":0\r\n" * times
    assert line.connection.client.hot_app is not None, "the fast ways answer again"


def test_a_rotation_ends_only_the_previous_secret(ledger: Ledger, worker: Worker) -> None:
    both = with_rotated_key(key_app("check"), "edge", "the-next-secret-of-it")
    ledger.commit(app_set(both))
    old, new = Line(worker), Line(worker)
    old.send(command("AUTH", "app", "the-secret-of-the-edge"))
    new.send(command("AUTH", "app", "the-next-secret-of-it"))
    assert old.send(CHECK) == new.send(CHECK) == b":0\r\n"
    ledger.commit(app_set(with_finished_rotation(both, "edge")))
    assert (old.send(CHECK), new.send(CHECK)) == (DROPPED, b":0\r\n")


def test_changes_of_other_keys_end_nothing(ledger: Ledger, worker: Worker) -> None:
    ledger.commit(app_set(key_app("check")))
    line = Line(worker)
    line.send(command("AUTH", "app", "the-secret-of-the-edge"))
    more = with_key(key_app("check"), "another", ("admin",), "the-secret-of-another", 2)
    for facts in (more, without_key(more, "another"), msgspec.structs.replace(more, secrets=("fresh",))):
        ledger.commit(app_set(facts))
        assert line.send(CHECK) == b":0\r\n"


def test_a_key_opens_its_own_app_only(ledger: Ledger, worker: Worker) -> None:
    """Also of an App whose key is the beginning of another's, with a key of the same name."""
    for app, secret in (("shop", "the-secret-of-shop-one"), ("shop2", "the-secret-of-shop-two")):
        bare = app_facts(app, secrets=(f"own-{app}",))
        ledger.commit(said("app-set", app=app, value=app_set(with_key(bare, "edge", ("admin",), secret, 1)).value))
    ledger.commit(said("blocked", b"alice", b"bob", app="shop2"))
    peer = Peer(worker)
    for app, wrong in (("shop", "the-secret-of-shop-two"), ("shop2", "the-secret-of-shop-one"), ("sho", "own-shop")):
        assert peer.error("AUTH", app, wrong).startswith("WRONGPASS ")
    peer("RESET")
    first, second = Peer(worker), Peer(worker)
    first("AUTH", "shop", "the-secret-of-shop-one")
    second("AUTH", "shop2", "the-secret-of-shop-two")
    assert (first("GATE.CHECK", "bob", "alice"), second("GATE.CHECK", "bob", "alice")) == (1, 0)


# Transactions


def test_a_refusal_while_queueing_discards_the_transaction(ledger: Ledger, worker: Worker) -> None:
    ledger.commit(app_set(key_app("check")))
    peer = Peer(worker)
    peer("AUTH", "app", "the-secret-of-the-edge")
    peer("MULTI")
    assert peer("GATE.CHECK", "bob", "alice") == b"QUEUED"
    assert peer.error("GATE.ONLINE", "bob").startswith("NOPERM this key has no scope 'presence'")
    assert peer.error("EXEC").startswith("EXECABORT ")
    assert peer("GATE.CHECK", "bob", "alice") == 0


def test_scopes_are_looked_at_again_when_exec_runs(ledger: Ledger, worker: Worker) -> None:
    ledger.commit(app_set(key_app("check")))
    peer = Peer(worker)
    peer("AUTH", "app", "the-secret-of-the-edge")
    peer("MULTI")
    peer("GATE.CHECK", "bob", "alice")
    peer("PING")
    ledger.commit(app_set(key_app("presence")))
    refusal, pong = peer("EXEC")
    assert str(refusal).startswith("NOPERM this key has no scope 'check'") and pong == b"PONG"
    assert peer.client.hot_app is None
    peer("MULTI")
    ledger.commit(app_set(key_app("check")))
    assert peer("GATE.CHECK", "bob", "alice") == b"QUEUED"
    assert peer("EXEC") == [0]
    assert peer.client.hot_app is peer.client.app_reading


async def test_a_long_exec_leaves_the_connection_as_it_stood(
    ledger: Ledger, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered from another Reading, whose settings are other objects."""
    monkeypatch.setattr(transactions, "AT_ONCE_WEIGHT", 0)
    ledger.commit(app_set(key_app("check")))
    line = Line(worker)
    line.send(command("AUTH", "app", "the-secret-of-the-edge"), command("MULTI"), CHECK * 3)
    line.transport.incoming, line.transport.written = command("EXEC"), b""
    line.transport.deliver()
    assert await line.answered(16) == b"*3\r\n:0\r\n:0\r\n:0\r\n"
    client = line.connection.client
    assert client.hot_app is client.app_reading is worker.reading.apps["app"]
    assert client.facts is client.hot_app.app
    line.send(command("MULTI"), CHECK)
    ledger.commit(app_set(key_app("presence")))
    line.transport.incoming, line.transport.written = command("EXEC"), b""
    line.transport.deliver()
    assert await line.answered(60) == b"*1\r\n" + NOPERM % b"edge"
    assert line.send(CHECK) == NOPERM % b"edge"
