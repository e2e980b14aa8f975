"""A network partition between servers on this machine: packets are dropped by rules of the kernel, in both directions.

It needs a network namespace of its own (`run_apart`), so that the rest of the machine is unaffected, and servers with an
address each (`apart_host`). Clients have another one, and reach a server that is cut off from the others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from itertools import product

_MARK = "TESTS_RUN_APART"
_RULES = """
ip link set lo up
ip addr add 10.77.0.1/16 dev lo
ip rule add pref 100 lookup local
ip rule del pref 0
ip link add void type veth peer name void-end
ip link set void arp off up
ip link set void-end arp off up
ip route add default dev void table 50
"""
"""All of 10.77.0.0/16 is this machine. The kernel looks for local addresses before any rule; here after those of a partition.

Packets of a partition go to a device that drops them. A rule that refuses them would make a server connect from elsewhere.
"""


def run_apart(module: str, arguments: Sequence[str]) -> None:
    """Start this program again in a network namespace of its own, unless it runs in one or the machine does not permit it."""
    if is_apart() or not _may_be_apart():
        return
    command = [*_unshare(), sys.executable, "-m", module, *arguments]
    os.execvpe(command[0], command, {**os.environ, _MARK: "1"})


def prepare() -> None:
    """In the namespace, before any server starts."""
    subprocess.run(["sh", "-e", "-c", _RULES], check=True)


def apart_host(number: int) -> str:
    """The address of one server, from 1."""
    return f"10.77.1.{number}"


def is_apart() -> bool:
    """Whether this process can cut servers off from each other."""
    return os.environ.get(_MARK) == "1"


def cut(one: Iterable[str], other: Iterable[str]) -> None:
    """Drop every packet between hosts of one side and of the other."""
    _change("add", list(one), list(other))


def mend(one: Iterable[str], other: Iterable[str]) -> None:
    """Let packets pass again."""
    _change("del", list(one), list(other))


def _change(verb: str, one: list[str], other: list[str]) -> None:
    for source, target in [*product(one, other), *product(other, one)]:
        rule = ["ip", "rule", verb, "pref", "50", "from", source, "to", target, "lookup", "50"]
        subprocess.run(rule, check=True)


def _unshare() -> list[str]:
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]


def _may_be_apart() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    tried = subprocess.run([*_unshare(), "sh", "-e", "-c", _RULES], capture_output=True, check=False)
    return tried.returncode == 0
