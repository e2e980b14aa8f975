"""The faults, a row each: how often it comes, how long it lasts, what it does, and how it ends.

A fault is a generator: what stands before its `yield` breaks something, what follows it mends. It runs in a thread, and may
block.
The log records what it yields. If Redis loses data on purpose, the fault reports this to the ledger, with the time.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from loadtests.chaos.deployment import Deployment, SiteNode
from loadtests.chaos.schedule import Kind, Planned
from loadtests.chaos.site import Site

PAGE_BYTES = 4_096
ROLES = ("replicator", "worker", "http", "background")
LAG_S = 3.0
"""A replica that is linked is behind by less than this."""
STEPS_S = (600, 7_200)
"""By how much a clock steps, either way."""


class Ledger(Protocol):
    """Where a fault records what the judge may no longer demand."""

    def losing(self, kept: tuple[float, float] | None) -> None:
        """From here on Redis may lose data; it keeps what it had at some moment of that time, or nothing."""
        ...

    def lost(self) -> None:
        """It has lost what it will lose."""
        ...


@dataclass
class Scene:
    """The parts of a run that a fault uses."""

    deployment: Deployment
    ledger: Ledger
    chance: random.Random
    planned: Planned

    @property
    def node(self) -> SiteNode:
        assert self.planned.node is not None
        return self.deployment.nodes[self.planned.node]

    @property
    def site(self) -> Site:
        """With one server."""
        assert isinstance(self.deployment, Site)
        return self.deployment


Act = Callable[[Scene], Iterator[str]]


class Skipped(Exception):
    """This fault can't be had now; the text says why."""


def _role_killed(scene: Scene) -> Iterator[str]:
    role = scene.chance.choice(ROLES)
    scene.node.signal(signal.SIGKILL, role)
    yield role


def _role_paused(scene: Scene) -> Iterator[str]:
    role = scene.chance.choice(ROLES)
    pids = scene.node.pids(role)
    scene.node.signal(signal.SIGSTOP, role)
    yield role
    for pid in pids:
        _signal(pid, signal.SIGCONT)


def _node_killed(scene: Scene) -> Iterator[str]:
    scene.node.kill()
    yield ""
    scene.node.launch()
    scene.node.is_wanted = True


def _node_stopped(scene: Scene) -> Iterator[str]:
    scene.node.is_wanted = False
    status = scene.node.running.stop()
    yield f"exit status {status}"
    scene.node.launch()
    scene.node.is_wanted = True


def _node_paused(scene: Scene) -> Iterator[str]:
    pids = scene.node.pids()
    scene.node.signal(signal.SIGSTOP)
    yield ""
    for pid in pids:
        _signal(pid, signal.SIGCONT)


def _node_clock(scene: Scene) -> Iterator[str]:
    if not scene.node.shim.is_there:
        raise Skipped("no C compiler")
    offset_s = scene.chance.choice((-1, 1)) * scene.chance.randrange(*STEPS_S)
    scene.node.shim.jump(offset_s)
    yield f"{offset_s:+d} s"
    scene.node.shim.jump(0)


def _server_clock(scene: Scene) -> Iterator[str]:
    if not scene.site.shim.is_there:
        raise Skipped("no C compiler")
    offset_s = scene.chance.choice((-1, 1)) * scene.chance.randrange(*STEPS_S)
    scene.site.shim.jump(offset_s)
    yield f"{offset_s:+d} s"
    scene.site.shim.jump(0)


def _node_disk_full(scene: Scene) -> Iterator[str]:
    if not scene.node.disk.is_there:
        raise Skipped("a small disk can be mounted by root only")
    scene.node.disk.fill()
    yield ""
    scene.node.disk.empty()


def _facts_zeroed(scene: Scene) -> Iterator[str]:
    """Some pages of the facts file in use, behind its two meta pages."""
    try:
        facts = scene.node.facts_file()
        pages = facts.stat().st_size // PAGE_BYTES
        chosen = sorted({scene.chance.randrange(2, max(3, pages)) for _ in range(3)})
        with facts.open("r+b") as file:
            for page in chosen:
                file.seek(page * PAGE_BYTES)
                file.write(bytes(PAGE_BYTES))
    except OSError as fault:
        raise Skipped(repr(fault)) from None
    yield f"pages {chosen} of {pages}"


def _facts_removed(scene: Scene) -> Iterator[str]:
    try:
        facts = scene.node.facts_file()
        facts.unlink()
    except OSError as fault:
        raise Skipped(repr(fault)) from None
    yield facts.name


def _facts_spoilt_at_rest(scene: Scene) -> Iterator[str]:
    """The node is dead while its file is overwritten or cut short."""
    scene.node.kill()
    way = scene.chance.choice(("overwritten", "cut short"))
    try:
        facts = scene.node.facts_file()
        size = facts.stat().st_size
        with facts.open("r+b") as file:
            if way == "cut short":
                file.truncate(size // 2)
            else:
                file.write(scene.chance.randbytes(min(size, 1 << 20)))
    except OSError as fault:
        way = repr(fault)
    yield way
    scene.node.launch()
    scene.node.is_wanted = True


def _cable_cut(scene: Scene) -> Iterator[str]:
    with scene.node.cable.cut_off():
        yield ""


def _cable_frozen(scene: Scene) -> Iterator[str]:
    with scene.node.cable.frozen():
        yield ""


def _cable_slow(scene: Scene) -> Iterator[str]:
    scene.node.cable.delay_ms = scene.chance.uniform(20, 600)
    yield f"{scene.node.cable.delay_ms:.0f} ms"
    scene.node.cable.delay_ms = 0.0


def _cable_half_closed(scene: Scene) -> Iterator[str]:
    scene.node.cable.half_close()
    yield ""


def _cable_some_cut(scene: Scene) -> Iterator[str]:
    nth = scene.chance.randrange(2, 4)
    scene.node.cable.cut_every(nth)
    yield f"every {nth}"


def _all_cut(scene: Scene) -> Iterator[str]:
    for node in scene.site.nodes:
        node.cable.cut()
    yield ""
    for node in scene.site.nodes:
        node.cable.mend()


def _server_paused(scene: Scene) -> Iterator[str]:
    with scene.site.primary.paused():
        yield ""


def _server_killed(scene: Scene) -> Iterator[str]:
    scene.site.primary.kill()
    yield ""
    scene.site.primary.restart()


def _server_killed_while_slow(scene: Scene) -> Iterator[str]:
    """Writes that were acknowledged during slow syncs must exist."""
    if not scene.site.shim.is_there:
        raise Skipped("no C compiler")
    scene.site.shim.delay_syncs(300)
    yield ""
    scene.site.primary.kill()
    scene.site.shim.delay_syncs(0)
    scene.site.primary.restart()


def _server_slow_disk(scene: Scene) -> Iterator[str]:
    if not scene.site.shim.is_there:
        raise Skipped("no C compiler")
    delay_ms = scene.chance.choice((20, 100, 400, 1_200))
    scene.site.shim.delay_syncs(delay_ms)
    yield f"{delay_ms} ms a sync"
    scene.site.shim.delay_syncs(0)


def _server_disk_full(scene: Scene) -> Iterator[str]:
    """With `appendfsync always` the server exits when it can't write its log."""
    server = scene.site.primary
    disk = scene.site.disk_of(server)
    if not disk.is_there:
        raise Skipped("a small disk can be mounted by root only")
    disk.fill()
    yield ""
    disk.empty()
    server.kill()
    server.restart()


def _server_out_of_memory(scene: Scene) -> Iterator[str]:
    client = scene.site.primary.client
    client.config_set("maxmemory", "1")
    yield ""
    client.config_set("maxmemory", "0")


def _server_flushed(scene: Scene) -> Iterator[str]:
    scene.ledger.losing(None)
    scene.site.primary.client.flushall()
    scene.ledger.lost()
    yield ""


def _server_emptied(scene: Scene) -> Iterator[str]:
    scene.ledger.losing(None)
    scene.site.primary.restart_empty()
    scene.ledger.lost()
    yield ""


def _server_restored(scene: Scene) -> Iterator[str]:
    """From a copy of a moment ago."""
    saving_s = time.monotonic()
    scene.site.primary.save_copy(scene.site.backup)
    saved_s = time.monotonic()
    time.sleep(scene.chance.uniform(0.1, 1.0))
    age_s = time.monotonic() - saved_s
    scene.ledger.losing((saving_s, saved_s))
    scene.site.primary.restart_from(scene.site.backup)
    scene.ledger.lost()
    yield f"of {age_s:.1f} s before"


def _lately() -> tuple[float, float]:
    now_s = time.monotonic()
    return (now_s - LAG_S, now_s)


def _keep(chance: random.Random) -> int | None:
    """Which of the open connections a move cuts: all, every second, or none."""
    return chance.choice((1, 2, None))


def _server_demoted(scene: Scene) -> Iterator[str]:
    """As `FAILOVER` does it: writes pause, the replica has everything, the roles change. Nothing is lost."""
    site = scene.site
    old = site.primary
    # Writes wait rather than be lost; the pause ends by itself if something here fails.
    old.client.execute_command("CLIENT", "PAUSE", "3000", "WRITE")
    try:
        if not site.caught_up():
            raise Skipped("the replica was not linked")
        site.swap()
    finally:
        old.client.execute_command("CLIENT", "UNPAUSE")
    time.sleep(scene.chance.choice((0.0, 0.0, 0.5)))  # the address may move later than the role
    keep = _keep(scene.chance)
    site.point_cables(keep)
    yield f"cut {keep}"


def _server_failed_over(scene: Scene) -> Iterator[str]:
    """The primary dies, and the replica takes over as it is: the last writes may be lost."""
    site = scene.site
    if site.secondary.client.info("replication").get("master_link_status") != "up":
        raise Skipped("the replica was not linked")
    scene.ledger.losing(_lately())
    site.primary.kill()
    site.primary.restart()
    site.swap()
    site.point_cables(1)
    scene.ledger.lost()
    yield ""


def _server_split(scene: Scene) -> Iterator[str]:
    """The address moves for new connections, and the old server lives on with those that were open."""
    site = scene.site
    old = site.primary
    if site.secondary.client.info("replication").get("master_link_status") != "up":
        raise Skipped("the replica was not linked")
    scene.ledger.losing(_lately())
    site.secondary.client.replicaof("NO", "ONE")
    site.primary, site.secondary = site.secondary, site.primary
    site.point_cables(2)
    yield ""
    for node in site.nodes:
        node.cable.cut_every(1)
    old.client.replicaof("127.0.0.1", site.primary.port)
    scene.ledger.lost()


def _log_trimmed(scene: Scene) -> Iterator[str]:
    client = scene.site.primary.client
    for log in client.scan_iter("gate:{*}:log"):
        client.xtrim(log, maxlen=scene.chance.randrange(3), approximate=False)
    yield ""


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


Table = dict[str, tuple[Kind, Act]]
FAULTS: Table = {
    #                        weight  shortest  longest  domain   rest  per node
    "role killed":          (Kind(12, 0.1, 0.2, "process", 1.0, True), _role_killed),
    "role paused":          (Kind(12, 0.2, 3.5, "process", 0.3, True), _role_paused),
    "node killed":          (Kind(4, 0.1, 1.5, "process", 3.0, True), _node_killed),
    "node stopped":         (Kind(3, 0.1, 1.0, "process", 3.0, True), _node_stopped),
    "node paused":          (Kind(4, 0.3, 4.0, "process", 0.5, True), _node_paused),
    "facts zeroed":         (Kind(3, 0.1, 0.2, "facts", 2.0, True), _facts_zeroed),
    "facts removed":        (Kind(3, 0.1, 0.2, "facts", 2.0, True), _facts_removed),
    "facts spoilt at rest": (Kind(2, 0.1, 0.5, "process", 3.0, True), _facts_spoilt_at_rest),
    "clock of a node":      (Kind(6, 2.0, 6.0, "clock", 1.0, True), _node_clock),
    "clock of Redis":       (Kind(4, 2.0, 6.0, "server clock", 1.0, False), _server_clock),
    "disk of a node full":  (Kind(4, 0.5, 3.0, "disk", 1.0, True), _node_disk_full),
    "cable cut":            (Kind(8, 0.1, 2.0, "cable", 0.3, True), _cable_cut),
    "cable frozen":         (Kind(8, 0.2, 3.0, "cable", 0.3, True), _cable_frozen),
    "cable slow":           (Kind(6, 0.5, 2.0, "cable", 0.3, True), _cable_slow),
    "cable half closed":    (Kind(4, 0.1, 0.2, "cable", 0.5, True), _cable_half_closed),
    "some connections cut": (Kind(6, 0.1, 0.2, "cable", 0.3, True), _cable_some_cut),
    "all cables cut":       (Kind(3, 0.2, 2.0, "server", 0.5, False), _all_cut),
    "Redis hangs":          (Kind(6, 0.2, 2.5, "server", 0.5, False), _server_paused),
    "Redis killed":         (Kind(6, 0.1, 0.8, "server", 1.0, False), _server_killed),
    "Redis killed, slow":   (Kind(3, 0.5, 1.0, "server", 1.0, False), _server_killed_while_slow),
    "Redis slow on disk":   (Kind(4, 0.5, 2.5, "server", 0.5, False), _server_slow_disk),
    "Redis disk full":      (Kind(2, 0.5, 1.5, "server", 1.0, False), _server_disk_full),
    "Redis out of memory":  (Kind(4, 0.3, 1.5, "server", 0.3, False), _server_out_of_memory),
    "Redis flushed":        (Kind(3, 0.1, 0.2, "server", 4.0, False), _server_flushed),
    "Redis emptied":        (Kind(3, 0.1, 0.2, "server", 4.0, False), _server_emptied),
    "Redis restored":       (Kind(3, 0.1, 0.2, "server", 4.0, False), _server_restored),
    "Redis demoted":        (Kind(6, 0.1, 1.0, "server", 1.5, False), _server_demoted),
    "Redis failed over":    (Kind(3, 0.1, 0.3, "server", 3.0, False), _server_failed_over),
    "Redis split":          (Kind(2, 1.0, 2.5, "server", 3.0, False), _server_split),
    "Changelog trimmed":    (Kind(3, 0.1, 0.2, "changelog", 1.0, False), _log_trimmed),
}  # fmt: skip
OF_NODES = {name: row for name, row in FAULTS.items() if row[0].is_per_node and row[0].domain != "cable"}
"""Faults of nodes, with every kind of Redis."""
