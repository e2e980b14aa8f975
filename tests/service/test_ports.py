"""Ports are taken before anything starts: in use is one clear line, and what is held can be listened on by workers only."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gate.config import read_config
from gate.errors import CannotStart
from gate.option_values import Endpoint
from gate.service.ports import hold_port, hold_ports, hold_unix
from harness.ports import LOOPBACK, free_port


def listener(port: int, reuse: bool) -> socket.socket:
    listening = socket.socket()
    if reuse:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((LOOPBACK, port))
    listening.listen()
    return listening


def test_port_0_is_resolved_and_workers_can_share_it() -> None:
    held = hold_port(Endpoint(LOOPBACK, 0), "--http")
    assert held.endpoint.port > 0
    port = held.endpoint.port
    with held.holder, listener(port, reuse=True), listener(port, reuse=True):
        socket.create_connection((LOOPBACK, port), 1).close()


def test_the_holder_serves_no_client() -> None:
    held = hold_port(Endpoint(LOOPBACK, 0), "--http")
    with held.holder, pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, held.endpoint.port), 1)


@pytest.mark.parametrize("reuse", [True, False])
def test_a_port_that_somebody_listens_on_is_named(reuse: bool) -> None:
    with listener(0, reuse) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"{LOOPBACK}:{port}: the port is in use; choose another with --resp"):
            hold_port(Endpoint(LOOPBACK, port), "--resp")


@pytest.mark.parametrize(("one", "other"), [(LOOPBACK, "localhost"), ("0.0.0.0", LOOPBACK), (LOOPBACK, "0.0.0.0")])
def test_two_options_get_no_port_that_both_would_listen_on(one: str, other: str) -> None:
    port = free_port()
    config = read_config({"http": f"{one}:{port}", "admin_http": f"{other}:{port}", "resp": f"{LOOPBACK}:0"}, {})
    with pytest.raises(CannotStart, match=f"{port}: --http has this port; choose another with --admin-http HOST:PORT"):
        hold_ports(config)
    with hold_port(Endpoint(LOOPBACK, port), "--http").holder:
        pass  # nothing was kept


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.1"])
def test_an_address_that_is_not_here_is_named(host: str) -> None:
    with pytest.raises(CannotStart, match="--http"):
        hold_port(Endpoint(host, 0), "--http")


def test_a_unix_socket_replaces_a_dead_one_but_no_living_one(tmp_path: Path) -> None:
    path = tmp_path / "resp.sock"
    hold_unix(path).close()
    assert path.is_socket()
    with hold_unix(path), pytest.raises(CannotStart, match="in use"):
        hold_unix(path)


def test_a_file_at_the_place_of_the_unix_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "resp.sock"
    path.write_text("precious")
    with pytest.raises(CannotStart, match="--unix"):
        hold_unix(path)
    assert path.read_text() == "precious"
