"""Commands in flight to the masters of a Redis Cluster, and which of them are sent again. Pure. Used by `cluster`.

A command that was answered MOVED, ASK or TRYAGAIN has not run. One of three rules decides which of a call's commands to one
slot are sent again, and in which order: `again`, `keep_order` and `repeat_from_there`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gate.errors import StoreUnavailable
from gate.store.address import Address
from gate.store.link import Command, Link, Reply, is_noscript, may_have_run
from gate.store.scripts import Call
from gate.store.topology import slot_of

_KEYLESS = frozenset({"PING", "TIME", "INFO", "CONFIG", "SCAN"})
_KEY_IS_THIRD = frozenset({"XINFO", "XGROUP"})


class Ask:
    """One command or one run of a script, on its way to the owner of its slot."""

    __slots__ = ("call", "command", "fault", "is_again", "is_behind", "link", "reply", "slot", "target", "waits")

    def __init__(self, slot: int, command: Command | None, call: Call | None = None, is_behind: bool = False) -> None:
        self.slot = slot
        self.command = command
        self.call = call
        self.is_behind = is_behind
        self.reply: Reply = None
        self.link: Link | None = None
        """The Link from which the reply came."""
        self.fault: StoreUnavailable | None = None
        self.target: Address | None = None
        """Where the next attempt goes, after ASKING."""
        self.is_again = False
        """Whether it has not run, and is to be sent again."""
        self.waits = False
        """Whether a pause must come first."""

    @classmethod
    def of(cls, call: Call, is_behind: bool = False) -> Ask:
        """Return the one of a script, all of whose keys are in one slot."""
        return cls(slot_of(call.keys[0]), None, call, is_behind)

    @property
    def some_ran(self) -> bool:
        """Whether it may have changed anything."""
        return self.fault.outcome == "unknown" if self.fault is not None else may_have_run(self.reply)

    @property
    def makes_names(self) -> bool:
        """Whether it is a script that received only a prefix of the names of its keys."""
        return self.call is not None and len(self.call.keys) == 1 and self.call.keys[0].endswith(b":")

    def give_up(self) -> None:
        """Set the fault: there is no time left to send it again."""
        why = f": {self.reply}" if self.reply is not None else ""
        self.fault = StoreUnavailable(f"slot {self.slot} is being moved to another master{why}")


def by_slot(asks: Sequence[Ask], rule: Callable[[Sequence[Ask]], list[Ask]]) -> list[Ask]:
    """Return those to send again. After one that has to wait, all others of its slot wait as well."""
    slots: dict[int, list[Ask]] = {}
    for ask in asks:
        slots.setdefault(ask.slot, []).append(ask)
    chosen: list[Ask] = []
    for some in slots.values():
        waits = False
        for ask in rule(some):
            waits = waits or ask.waits
            # Keeps the order within a slot.
            if waits:
                ask.waits, ask.target = True, None
            chosen.append(ask)
    return chosen


def again(asks: Sequence[Ask]) -> list[Ask]:
    """For commands that change nothing: those that have not run."""
    return [ask for ask in asks if ask.is_again]


def keep_order(asks: Sequence[Ask]) -> list[Ask]:
    """For writes: repeat none that was refused before another one that ran; its error stands. Reads behind them run again.

    A script that the server did not know is repeated nevertheless, as on a single server.
    """
    if not any(ask.is_again for ask in asks):
        return []
    ran = [at for at, ask in enumerate(asks) if not ask.is_again and not ask.is_behind]
    # A write before this one must not run after it.
    last = ran[-1] if ran else -1
    return [
        ask for at, ask in enumerate(asks) if ask.is_behind or (ask.is_again and (at > last or is_noscript(ask.reply)))
    ]


def repeat_from_there(asks: Sequence[Ask]) -> list[Ask]:
    """For writes that may be repeated: all from the first that has not run, including those that have."""
    first = next((at for at, ask in enumerate(asks) if ask.is_again), len(asks))
    return list(asks[first:])


def commands_of(asks: Sequence[Ask], link: Link) -> list[Command]:
    """Return their commands; a script by its source if this connection has not sent that yet."""
    commands: list[Command] = []
    for ask in asks:
        # ASKING permits exactly the next command on a slot that is being moved.
        if ask.target is not None:
            commands.append(("ASKING",))
        if ask.call is None:
            assert ask.command is not None
            commands.append(ask.command)
        else:
            sha = ask.call.script.sha
            commands.append(ask.call.by_sha if sha in link.scripts else ask.call.by_source)
            link.scripts.add(sha)
    return commands


def key_of(command: Command) -> bytes:
    """Return the first key of a command; empty for a command without keys."""
    name = str(command[0])
    if name in _KEYLESS:
        return b""
    key = command[2 if name in _KEY_IS_THIRD else 1]
    return key if isinstance(key, bytes) else str(key).encode()
