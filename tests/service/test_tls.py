"""`gate serve` with TLS ports: the clients people use, certificates of every kind, SIGHUP, and a drain."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import redis

from harness.ports import LOOPBACK, free_port
from harness.processes import family
from harness.service import GateService, Services
from harness.tls import Authority, Certificate
from harness.waiting import wait_until
from tests.cli.command import Command
from tests.presence.test_gateways import token_of
from tests.service.running import get, kill, readyz, refused

WAIT_S = 10.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class TlsNode(NamedTuple):
    """A service with both TLS ports, whose certificate is in files that a test may replace."""

    service: GateService
    files: Certificate
    authority: Authority
    resp: int
    http: int

    def client(self, **options: Any) -> redis.Redis:
        credentials = self.service.credentials
        return redis.Redis(
            host=LOOPBACK,
            port=self.resp,
            username=credentials.app_key,
            password=credentials.app_secret,
            ssl=True,
            ssl_ca_certs=str(self.authority.certificate),
            socket_timeout=WAIT_S,
            **options,
        )

    def replace(self, certificate: Certificate) -> None:
        shutil.copy(certificate.key, self.files.key)
        shutil.copy(certificate.certificate, self.files.certificate)

    def shown(self, port: int) -> str:
        """The subject of the certificate that a new connection gets."""
        context = self.authority.client_context()
        with (
            socket.create_connection((LOOPBACK, port), WAIT_S) as plain,
            context.wrap_socket(plain, server_hostname=LOOPBACK) as peer,
        ):
            named: Any = peer.getpeercert()
            return str(named["subject"][0][0][1])

    @property
    def both_show(self) -> set[str]:
        return {self.shown(self.resp), self.shown(self.http)}

    def reload(self) -> None:
        os.kill(self.service.pid, signal.SIGHUP)


def started(services: Services, authority: Authority, directory: Path, first: Certificate, *more: str) -> TlsNode:
    files = Certificate(directory / "in-use.pem", directory / "in-use.key")
    resp, http = free_port(), free_port()
    shutil.copy(first.certificate, files.certificate)
    shutil.copy(first.key, files.key)
    options = ["--resp-tls", f"{LOOPBACK}:{resp}", "--http-tls", f"{LOOPBACK}:{http}"]
    options += ["--tls-cert", str(files.certificate), "--tls-key", str(files.key), *more]
    return TlsNode(services.start(*options), files, authority, resp, http)


@pytest.fixture(scope="module")
def node(
    start_module_service: Services, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TlsNode]:
    """Its certificate may be another one after a test, of the same authority."""
    directory = tmp_path_factory.mktemp("tls")
    yield started(start_module_service, authority, directory, authority.issue("first"))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


# Clients


def test_the_ready_line_names_the_tls_ports_last(node: TlsNode) -> None:
    line = next(line for line in node.service.output.splitlines() if line.startswith("gate ready"))
    assert line.endswith(f" app={node.service.app_key} resp-tls={LOOPBACK}:{node.resp} http-tls={LOOPBACK}:{node.http}")


def test_redis_cli_over_tls(node: TlsNode) -> None:
    credentials = node.service.credentials
    command = ["redis-cli", "--tls", "--cacert", str(node.authority.certificate), "-h", LOOPBACK, "-p", str(node.resp)]
    command += ["--no-auth-warning", "--user", credentials.app_key, "--pass", credentials.app_secret]
    asked = run(*command, "GATE.VERDICT", "ann", "bob")
    assert asked.stdout.strip() == "allowed", asked


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_over_tls(node: TlsNode, protocol: int) -> None:
    with node.client(protocol=protocol) as client, client.pipeline(transaction=False) as pipeline:
        for _ in range(500):
            pipeline.execute_command("GATE.CHECK", "ann", "bob")
        assert pipeline.execute() == [1] * 500
        with client.pipeline(transaction=True) as transaction:
            transaction.execute_command("GATE.CHECK", "ann", "bob")
            assert transaction.execute() == [1]


def test_the_plain_ports_go_on(node: TlsNode) -> None:
    with node.service.resp_client() as client:
        assert client.execute_command("GATE.CHECK", "ann", "bob") == 1
    assert readyz(node.service)[0] == 200


def test_curl_over_tls(node: TlsNode) -> None:
    credentials, url = node.service.credentials, f"https://{LOOPBACK}:{node.http}"
    trust = ["curl", "-sS", "--cacert", str(node.authority.certificate)]
    who = ["-u", f"{credentials.app_key}:{credentials.app_secret}"]
    asked = run(*trust, *who, "-w", " %{http_code} %{http_version}", f"{url}/v1/check?from=ann&to=bob")
    assert asked.stdout.endswith(" 200 1.1") and '"allowed":true' in asked.stdout, asked
    offered = run(*trust, "--http2", "-o", "/dev/null", "-w", "%{http_version}", f"{url}/healthz")
    assert offered.stdout == "1.1"
    assert run("curl", "-sS", f"{url}/healthz").returncode != 0  # an authority that it does not know
    assert run(*trust, f"http://{LOOPBACK}:{node.http}/healthz").returncode != 0


async def test_a_websocket_over_tls(node: TlsNode) -> None:
    token = await asyncio.to_thread(token_of, node.service, "ann")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"wss://{LOOPBACK}:{node.http}/client/v1/connect",
            ssl=node.authority.client_context(),
            headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientWSTimeout(ws_close=WAIT_S),
        ) as client,
    ):
        assert (await client.receive_json(timeout=WAIT_S))["type"] == "welcome"
        await client.send_json({"type": "ping"})
        assert await client.receive_json(timeout=WAIT_S) == {"type": "pong"}


def test_events_that_block_over_tls(node: TlsNode) -> None:
    with node.client() as reader, node.client() as gateway:
        cursor = reader.execute_command("GATE.EVENTS", "$")[0]
        gateway.execute_command("GATE.LEASE", "edge", 1)
        pending = reader.connection_pool.get_connection()
        pending.send_command("GATE.EVENTS", cursor, "BLOCK", 8_000)
        gateway.execute_command("GATE.CONNECT", token_of(node.service, "eve"), "iOS", "edge")
        assert b"eve" in b"".join(map(bytes, _flat(pending.read_response())))
        pending.disconnect()


def _flat(reply: Any) -> Iterator[bytes]:
    if isinstance(reply, dict):
        reply = [*reply, *reply.values()]
    if isinstance(reply, list):
        for one in reply:
            yield from _flat(one)
    elif isinstance(reply, bytes):
        yield reply


def test_the_node_shows_when_its_certificate_ends(node: TlsNode) -> None:
    node.replace(node.authority.issue("shown"))
    node.reload()
    wait_until(lambda: node.both_show == {"shown"}, WAIT_S, "the new certificate")
    assert "gate_tls_certificate_not_after_seconds 1." in get(node.service, "/metrics")[1]
    command = Command(node.service.data)
    status = command("status").out
    assert f"TLS       HTTP {LOOPBACK}:{node.http}, RESP {LOOPBACK}:{node.resp}, certificate ends 2" in status
    doctor = command("doctor", status=None).out
    assert "TLS certificate: " in doctor and doctor.count("answers, with the certificate of the file") == 2, doctor
    node.replace(node.authority.issue("not-read-yet"))
    assert f"kill -HUP {node.service.pid}" in command("doctor", status=None).out


# Certificates


def test_open_connections_outlive_a_reload(node: TlsNode) -> None:
    with node.client(single_connection_client=True) as early:
        early.execute_command("GATE.CHECK", "ann", "bob")
        node.replace(node.authority.issue("second"))
        node.reload()
        wait_until(lambda: node.both_show == {"second"}, WAIT_S, "the new certificate")
        assert early.execute_command("GATE.CHECK", "ann", "bob") == 1
        assert early.connection is not None


def test_a_bad_new_file_keeps_the_old_certificate(node: TlsNode) -> None:
    node.replace(node.authority.issue("third"))
    node.reload()
    wait_until(lambda: node.both_show == {"third"}, WAIT_S, "the new certificate")
    shutil.copy(node.authority.issue("fourth").key, node.files.key)
    node.reload()
    node.service.wait_for_output("the TLS certificate can't be used")
    warned = wait_until(lambda: readyz(node.service)[1].get("warnings"), WAIT_S, "the warning")
    assert [one for one in warned if "the old one stays in use" in one and "is not the key" in one]
    assert str(node.files.key.parent) not in str(warned)
    assert node.both_show == {"third"}
    kill(node.service, "worker")  # its next process has no certificate: it goes on without the TLS port
    wait_until(lambda: readyz(node.service)[0] == 200, WAIT_S, "all roles")
    node.replace(node.authority.issue("fifth"))
    node.reload()
    wait_until(lambda: _show(node) == {"fifth"}, WAIT_S, "the TLS port of the new worker")
    wait_until(lambda: not readyz(node.service)[1].get("warnings"), WAIT_S, "no warning")


def _show(node: TlsNode) -> set[str]:
    try:
        return node.both_show
    except OSError:
        return set()


def test_a_certificate_that_ended_is_served_with_a_warning(
    start_service: Services, authority: Authority, tmp_path: Path
) -> None:
    node = started(start_service, authority, tmp_path, authority.issue("ended", days=0))
    with pytest.raises(redis.ConnectionError, match="expired"), node.client() as client:
        client.ping()
    warned = readyz(node.service)[1]["warnings"]
    assert any("certificate of --tls-cert ended on" in one for one in warned)
    assert str(node.files.certificate.parent) not in str(warned)
    assert "clients refuse it" in node.service.output
    assert "ended on" in Command(node.service.data)("doctor", status=1).out
    trusting = run("curl", "-ks", f"https://{LOOPBACK}:{node.http}/healthz")
    assert trusting.stdout == '{"status":"ok"}'


def test_client_certificates_on_both_ports(start_service: Services, authority: Authority, tmp_path: Path) -> None:
    clients, foreign = Authority(tmp_path / "clients"), Authority(tmp_path / "foreign")
    files = authority.issue("asks"), "--tls-client-ca", str(clients.certificate)
    node = started(start_service, authority, tmp_path, files[0], *files[1:])
    url = f"https://{LOOPBACK}:{node.http}/healthz"
    trust = ("curl", "-sS", "--cacert", str(authority.certificate))
    for shown in (None, foreign.issue("client"), clients.issue("old", days=0)):
        files_of = {} if shown is None else {"ssl_certfile": str(shown.certificate), "ssl_keyfile": str(shown.key)}
        with pytest.raises(redis.ConnectionError), node.client(**files_of) as client:
            client.ping()
        given = [] if shown is None else ["--cert", str(shown.certificate), "--key", str(shown.key)]
        assert run(*trust, *given, url).returncode != 0
    good = clients.issue("router")
    with node.client(ssl_certfile=str(good.certificate), ssl_keyfile=str(good.key)) as client:
        assert client.execute_command("GATE.CHECK", "ann", "bob") == 1
    assert run(*trust, "--cert", str(good.certificate), "--key", str(good.key), url).returncode == 0


# Start and stop


def test_a_drain_with_open_tls_connections(start_service: Services, authority: Authority, tmp_path: Path) -> None:
    node = started(start_service, authority, tmp_path, authority.issue("drained"))
    idle, handshake = node.client(single_connection_client=True), socket.create_connection((LOOPBACK, node.http))
    with idle, handshake, socket.create_connection((LOOPBACK, node.http)) as plain:
        idle.ping()
        with authority.client_context().wrap_socket(plain, server_hostname=LOOPBACK) as kept:
            kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert kept.recv(4_096).startswith(b"HTTP/1.1 200")
            members = family(node.service.pid)
            assert node.service.stop(timeout_s=8) == 0
            assert len(members) > 3
            assert kept.recv(4_096) == b""
        assert handshake.recv(16) == b""


@pytest.fixture
def hangup_ends() -> Iterator[None]:
    """A program inherits an ignored SIGHUP, as under nohup, so this process takes it as usual for a while."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup_ends")
def test_the_end_of_a_terminal_ends_a_service_without_tls(start_service: Services) -> None:
    service = start_service.start()
    os.kill(service.pid, signal.SIGHUP)
    wait_until(lambda: not service.is_running, WAIT_S, "its end")
    service.kill_all()


@pytest.mark.parametrize("fault", ["absent", "other-key", "no-pem", "passphrase", "client-ca"])
def test_files_that_can_not_be_used_are_refused_at_the_start(authority: Authority, tmp_path: Path, fault: str) -> None:
    good, bad = authority.issue("good"), tmp_path / "bad"
    certificate, key, more, said = good.certificate, good.key, [], ""
    if fault == "absent":
        certificate, said = (
            tmp_path / "absent.pem",
            f"--tls-cert: {tmp_path / 'absent.pem'} can't be read: No such file",
        )
    elif fault == "other-key":
        key, said = authority.issue("other").key, "is not the key of the certificate"
    elif fault == "no-pem":
        bad.write_text("no PEM")
        certificate, said = bad, "must be PEM files"
    elif fault == "passphrase":
        run("openssl", "pkcs8", "-topk8", "-in", str(key), "-out", str(bad), "-passout", "pass:secret")
        key, said = bad, "has a passphrase"
    else:
        bad.write_text("no PEM")
        more, said = ["--tls-client-ca", str(bad)], f"--tls-client-ca: {bad} holds no certificate"
    files = ["--tls-cert", str(certificate), "--tls-key", str(key), *more]
    refusal = refused(tmp_path / "data", "--resp-tls", f"{LOOPBACK}:0", *files)
    assert refusal.status == 2 and len(refusal.lines) == 1 and said in refusal.lines[0], refusal
    assert not (tmp_path / "data").exists()


def test_the_context_is_for_servers_of_tls_1_2_and_later(authority: Authority) -> None:
    from gate.option_values import TlsFiles
    from gate.tls import server_context

    files = authority.issue("context")
    context = server_context(TlsFiles(str(files.certificate), str(files.key)), ["http/1.1"])
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
