"""Facts that a failover lost are listed before the swap, in lines that restore them; from ledgers, and on a live Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gate.core.model import FOREVER_MS, ListKind
from gate.replica import lost
from gate.replica.lost import Loss, list_lost, losses
from gate.store.store import Store
from harness.cable import Cable
from harness.servers import RedisServer
from tests.cli.command import Command
from tests.replica.ledger import Ledger, app_facts, app_set, said
from tests.replica.node import APP, Node
from tests.replica.test_on_redis import until_writable

LATER_MS = 4_000_000_000_000


@pytest.fixture
def ledgers(tmp_path: Path) -> Iterator[tuple[Ledger, Ledger]]:
    """Of the same App, under another number in the second file."""
    both = Ledger(tmp_path / "a", 1, app_facts()), Ledger(tmp_path / "b", 1, app_facts("other"), app_facts())
    yield both
    for ledger in both:
        ledger.close()


async def listed(ledgers: tuple[Ledger, Ledger], folder: Path) -> tuple[Loss, list[dict[str, Any]]]:
    loss = await list_lost(folder, ledgers[0].file, ledgers[1].file, "behind", lambda: None)
    lines = [json.loads(line) for name in loss.files.values() for line in (folder / name).read_text().splitlines()]
    return loss, lines


async def test_each_kind_is_a_line_that_an_import_takes(ledgers: tuple[Ledger, Ledger], tmp_path: Path) -> None:
    old, fresh = ledgers
    for ledger in ledgers:
        ledger.commit(said("ban-imposed", b"kept"), said("blocked", b"bob", b"kept"))
    old.commit(
        said("ban-imposed", b"eve", until_ms=LATER_MS),
        said("ban-imposed", b"\xff"),
        said("mute-imposed", b"eve"),
        said("ban-imposed", b"ended", until_ms=5),
        said("blocked", b"bob", b"m1", b"m2"),
        said("blocked", b"bob", b"m3", until_ms=LATER_MS),
        said("admitted", b"zoe", b"m1"),
    )
    fresh.commit(said("ban-imposed", b"new"), said("blocked", b"bob", b"new"))
    loss, lines = await listed(ledgers, tmp_path / "lost")
    assert sorted(lines, key=str) == sorted(
        [
            {"kind": "ban", "user": "eve", "until": LATER_MS},
            {"kind": "ban", "user": {"b64": "/w=="}, "permanent": True},
            {"kind": "mute", "user": "eve", "permanent": True},
            {"kind": "blacklist", "owner": "bob", "members": ["m1", "m2"]},
            {"kind": "blacklist", "owner": "bob", "members": ["m3"], "until": LATER_MS},
            {"kind": "whitelist", "owner": "zoe", "members": ["m1"]},
        ],
        key=str,
    )
    assert (loss.lost, loss.returned, loss.is_complete) == (7, 2, True)
    assert loss.kinds == {"ban": 2, "mute": 1, "blacklist": 3, "whitelist": 1}
    assert (tmp_path / "lost" / loss.files["app"]).stat().st_mode & 0o777 == 0o600


async def test_an_end_that_became_earlier_is_lost(ledgers: tuple[Ledger, Ledger], tmp_path: Path) -> None:
    ledgers[0].commit(said("ban-imposed", b"eve"), said("blocked", b"bob", b"m"))
    ledgers[1].commit(said("ban-imposed", b"eve", until_ms=LATER_MS), said("blocked", b"bob", b"m", until_ms=LATER_MS))
    _, lines = await listed(ledgers, tmp_path)
    assert lines == [
        {"kind": "ban", "user": "eve", "permanent": True},
        {"kind": "blacklist", "owner": "bob", "members": ["m"]},
    ]


async def test_entries_that_ended_or_last_longer_now_are_not_lost(
    ledgers: tuple[Ledger, Ledger], tmp_path: Path
) -> None:
    ledgers[0].commit(said("blocked", b"bob", b"ended", until_ms=5), said("blocked", b"bob", b"m", until_ms=LATER_MS))
    ledgers[1].commit(said("blocked", b"bob", b"m"))
    loss, lines = await listed(ledgers, tmp_path)
    assert (loss.lost, lines) == (0, [])


async def test_registrations_and_switches_come_back_but_no_deactivated_user(
    ledgers: tuple[Ledger, Ledger], tmp_path: Path
) -> None:
    """An import must not register a deactivated User again: an operator decides."""
    for ledger in ledgers:
        ledger.commit(said("user-registered", b"kept", value=b"1"), said("whitelist-switched", b"kept", value=b"1"))
    ledgers[0].commit(
        said("user-registered", b"eve", value=b"1"),
        said("whitelist-switched", b"eve", value=b"1"),
        said("user-registered", b"left", value=b"1"),
        said("user-deactivated", b"left"),
    )
    ledgers[1].commit(said("whitelist-switched", b"new", value=b"1"), app_set(app_facts("later")))
    loss, lines = await listed(ledgers, tmp_path)
    assert lines == [{"kind": "user", "user": "eve"}, {"kind": "whitelist-switch", "user": "eve", "on": True}]
    assert loss.by_hand == ["App app: the deactivation of left"]
    assert loss.kinds == {"user": 1, "whitelist-switch": 1}


async def test_what_is_named_is_bounded_and_all_of_it_counted(
    ledgers: tuple[Ledger, Ledger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost, "MAX_BY_HAND", 2)
    ledgers[0].commit(*[said("user-deactivated", b"u%d" % number) for number in range(5)])
    loss, _ = await listed(ledgers, tmp_path)
    assert (len(loss.by_hand), loss.by_hand_count) == (2, 5)


async def test_nothing_lost_leaves_no_file(ledgers: tuple[Ledger, Ledger], tmp_path: Path) -> None:
    for ledger in ledgers:
        ledger.commit(said("ban-imposed", b"kept"))
    loss, lines = await listed(ledgers, tmp_path / "lost")
    assert (loss.lost, loss.by_hand_count, lines, (tmp_path / "lost").exists()) == (0, 0, [], False)


async def test_what_an_import_cannot_take_is_named(tmp_path: Path) -> None:
    old = Ledger(tmp_path / "a", 1, app_facts(name="after"), app_facts("gone"))
    fresh = Ledger(tmp_path / "b", 1, app_facts())
    old.commit(said("tokens-revoked", b"eve", value=b"7000"))
    loss, _ = await listed((old, fresh), tmp_path / "lost")
    old.close()
    fresh.close()
    assert loss.by_hand == [
        "App app: its settings differ",
        "App app: the revocation of Tokens of eve",
        "App gone: it is missing",
    ]


async def test_past_its_bounds_it_counts_and_says_so(
    ledgers: tuple[Ledger, Ledger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledgers[0].commit(*[said("ban-imposed", b"%04d" % number) for number in range(1_000)])
    monkeypatch.setattr(lost, "MAX_BYTES", 1_000)
    loss, lines = await listed(ledgers, tmp_path / "lost")
    assert (loss.lost, loss.is_complete) == (1_000, False)
    assert 0 < len(lines) < 30
    assert (tmp_path / "lost" / loss.files["app"]).stat().st_size <= 1_000


async def test_past_its_time_it_compares_no_more(
    ledgers: tuple[Ledger, Ledger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledgers[0].commit(*[said("ban-imposed", b"%04d" % number) for number in range(1_000)])
    monkeypatch.setattr(lost, "LISTED_MS", -1)
    monkeypatch.setattr(lost, "COMPARED_AT_ONCE", 10)
    loss, lines = await listed(ledgers, tmp_path / "lost")
    assert (loss.compared, loss.is_complete) == (10, False)
    assert len(lines) < 10
    assert losses(tmp_path) == [loss]


async def test_an_import_of_the_file_puts_everything_back(
    redis_node: Node, store: Store, private_redis: RedisServer, cable: Cable, tmp_path: Path
) -> None:
    await store.bans.impose(APP, [b"kept"], FOREVER_MS, 1)
    private_redis.save_copy(tmp_path / "older.rdb")
    await store.bans.impose(APP, [b"lost", b"\xff"], FOREVER_MS, 1)
    await store.mutes.impose(APP, [b"quiet"], LATER_MS, 1)
    await store.lists.add(APP, ListKind.BLACKLIST, b"bob", [b"m%d" % each for each in range(50)], FOREVER_MS, 1, 1_000)
    await redis_node.until_word(b"m49", b"bob", "blacklisted")
    with cable.cut_off():
        private_redis.restart_from(tmp_path / "older.rdb")
        await until_writable(store)
    await redis_node.until_reloaded(2)
    assert redis_node.word(b"lost", b"bob") == "allowed"
    (loss,) = losses(redis_node.directory)
    assert (loss.lost, loss.kinds, loss.is_complete) == (53, {"ban": 2, "mute": 1, "blacklist": 50}, True)
    assert [line["lost"] for line in redis_node.logged if line["event"] == "facts that Redis lost were listed"] == [53]

    command = Command(tmp_path, APP, private_redis.url)
    command("import", redis_node.directory / lost.FOLDER / loss.files[APP])
    await redis_node.until_word(b"lost", b"bob", "sender-banned")
    await redis_node.until_word(b"\xff", b"bob", "sender-banned")
    await redis_node.until_word(b"quiet", b"bob", "sender-muted")
    await redis_node.until_word(b"m49", b"bob", "blacklisted")


async def test_a_rebuild_that_was_asked_for_lists_nothing(redis_node: Node, store: Store) -> None:
    from gate.replica.files import request_rebuild

    await store.bans.impose(APP, [b"eve"], FOREVER_MS, 1)
    await redis_node.until_word(b"eve", b"bob", "sender-banned")
    request_rebuild(redis_node.directory)
    await redis_node.until_reloaded(2)
    assert losses(redis_node.directory) == []


@pytest.mark.slow
def test_the_command_shows_each_loss_and_how_to_undo_it(tmp_path: Path) -> None:
    folder = tmp_path / "replica" / lost.FOLDER
    folder.mkdir(parents=True)
    command = Command(tmp_path)
    assert command("replica", "lost").out == "nothing is known to be lost\n"
    loss = Loss(
        at_ms=1_700_000_000_000,
        reason="behind",
        lost=3,
        kinds={"ban": 1, "blacklist": 2},
        files={"app": "1.app.ndjson"},
        by_hand=["App app: its settings differ"],
        by_hand_count=1,
        returned=2,
    )
    lost.write_file(folder / "1.json", msgspec.json.encode(loss))
    shown = command("replica", "lost").out
    assert "(behind): 3 facts lost: 1 ban, 2 blacklist\n" in shown
    assert f"  gate import {folder}/1.app.ndjson --app app\n" in shown
    assert "  by hand: App app: its settings differ\n" in shown
    found = command.json("replica", "lost", "--json")
    assert (found["folder"], found["losses"][0]["lost"]) == (str(folder), 3)
    (folder / "2.json").write_text("{")
    assert command("replica", "lost", status=None).status != 0
