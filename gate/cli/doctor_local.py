"""The checks of `gate doctor` that look at this machine: directory, disk, credentials, limits, Replica, ports, certificates."""

from __future__ import annotations

import http.client
import os
import resource
import shutil
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gate.cli.check import opened_replica
from gate.cli.findings import Finding, fail, ok, warn
from gate.cli.local_node import replicator_lives
from gate.cli.options import CREDENTIALS_FILE
from gate.cli.output import counted
from gate.cli.time_format import shown_duration
from gate.clock import wall_ms
from gate.core.file_text import read_text
from gate.errors import InvalidConfig, ReplicaError
from gate.listening import near_address
from gate.option_values import TlsFiles
from gate.replica import file_check, native_core
from gate.replica.layout import replica_dir
from gate.replica.reader import status_of
from gate.replica.status_page import NEVER_FRESH_MS, State
from gate.service.running import Running
from gate.tls import ends_at_s, server_context, shown_end, warning_of

LOW_DISK_BYTES = 1 << 30
# Below this the append-only file's next rewrite, or the next snapshot, is likely to fail.
NO_DISK_BYTES = 64 << 20
# Connections a worker should be able to hold, and some for files.
FEW_FILES = 16_384
CONNECT_TIMEOUT_S = 1.0
# A handshake takes several trips and some work of the server.
TLS_TIMEOUT_S = 2.0
_CERTIFICATE = "TLS certificate"
DAMAGE_ADVICE = "it is loaded again by itself; look at the disk, its cable and the memory of this machine"


def directory(data: Path) -> Finding:
    """The data directory exists, is writable, and is closed to other users of the machine."""
    subject = f"data directory {data}"
    try:
        mode = stat.S_IMODE(data.stat().st_mode)
    except OSError as fault:
        return fail(subject, f"can't be looked at: {fault.strerror}", "start `gate serve`, or say --data DIR")
    if not data.is_dir():
        return fail(subject, "is no directory", "say --data DIR")
    # By the real user: under sudo this is not the service's.
    if not os.access(data, os.W_OK | os.X_OK):
        return fail(subject, "can't be written by this user", "run as the service's user, or chown the directory")
    if mode & 0o077:
        return warn(subject, f"is open to others (mode {mode:03o})", f"chmod 700 {data}")
    return ok(subject, "writable, and closed to other users")


def disk_space(data: Path) -> Finding:
    """There is room for the append-only file and for a second Replica in addition to the first."""
    # The directory may not exist yet; its disk does.
    there = next((path for path in (data, *data.absolute().parents) if path.exists()), Path("/"))
    free_bytes = shutil.disk_usage(there).free
    found = f"{free_bytes / (1 << 30):.1f} GiB free"
    advice = "free some, or move the data directory to a larger disk: writes are refused when it is full"
    if free_bytes < NO_DISK_BYTES:
        return fail("disk space", found, advice)
    return warn("disk space", found, advice) if free_bytes < LOW_DISK_BYTES else ok("disk space", found)


def credentials(data: Path) -> Finding:
    """`credentials.json`: well-formed, and unreadable to others."""
    path = data / CREDENTIALS_FILE
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        document = msgspec.json.decode(read_text(path.read_bytes()))
    except FileNotFoundError:
        return warn(CREDENTIALS_FILE, "is not there", "the first start of `gate serve` writes it; else say --app KEY")
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as fault:
        return fail(CREDENTIALS_FILE, f"can't be read: {fault}", f"restore {path}, or move it away and start again")
    if mode & 0o077:
        return fail(
            CREDENTIALS_FILE,
            f"can be read by others (mode {mode:03o})",
            f"chmod 600 {path}; then gate app rotate-secret, since the secret may be known",
        )
    if not isinstance(document, dict) or not {"app_key", "app_secret"} <= document.keys():
        return fail(CREDENTIALS_FILE, "lacks app_key or app_secret", f"restore {path}, or move it away and start again")
    return ok(CREDENTIALS_FILE, "complete, mode 600")


def file_limit() -> Finding:
    """The hard limit: the service raises its soft one by itself."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return ok("open files", "no limit")
    found = f"at most {most:,} a process"
    if most < FEW_FILES:
        return warn("open files", found, f"raise the hard limit to {FEW_FILES:,} or more (ulimit -Hn, LimitNOFILE=)")
    return ok("open files", found)


def processors() -> Finding:
    """How many cores this may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count == 1:
        return warn("cores", "one", "it works; checks, writes and the replicator share it")
    return ok("cores", str(count))


def compiled_core() -> Finding:
    """Whether programs started here answer checks by it."""
    compiled, why_not = native_core.state()
    if compiled:
        return ok("compiled core", "in use for checks")
    return warn("compiled core", why_not, "checks are answered by Python, with the same answers, several times slower")


def replica_state(data: Path) -> Finding:
    """There is one, its replicator lives, and its facts are fresh."""
    try:
        with opened_replica(data) as opened:
            status_page, known = opened.view(), status_of(opened)
    except ReplicaError as fault:
        return fail("Replica", str(fault), "start `gate serve`; a damaged Replica is rebuilt by itself")
    # Reads the whole file; checks go on meanwhile.
    if damage := file_check.adds_up(replica_dir(data) / known.file):
        return fail("Replica", f"{known.file} is damaged: {damage}", DAMAGE_ADVICE)
    if not replicator_lives(status_page):
        age = (
            "of unknown age"
            if status_page.stale_ms >= NEVER_FRESH_MS
            else f"{shown_duration(status_page.stale_ms)} old"
        )
        return fail("Replica", f"no replicator runs here; facts are {age}", "start `gate serve`")
    # Before stale facts in general: it has a cause of its own, and other advice.
    if status_page.state is State.CUT_OFF:
        advice = (
            "see the lines on disk space and Redis; where they are well, the replicator's log: "
            "another node may have this one's id"
        )
        return fail("Replica", f"cut off from Redis for {shown_duration(status_page.stale_ms)}", advice)
    if status_page.stale_ms or not status_page.ready:
        advice = "wait; if it stays so, read the replicator's log"
        return warn("Replica", f"{known.state}, {'ready' if status_page.ready else 'not ready'}", advice)
    if status_page.damages:
        return warn("Replica", f"{counted(status_page.damages, 'damaged file')} replaced since it began", DAMAGE_ADVICE)
    reloads = f", {counted(status_page.reloads, 'reload')} since it began" if status_page.reloads else ""
    return ok("Replica", f"{known.state}, fresh, {known.file}{reloads}")


def http_port(address: str, option: str = "--http") -> Finding:
    """Gate answers `/readyz` there."""
    subject = f"{'HTTP' if option == '--http' else 'admin HTTP'} {address}"
    host, _, port = address.rpartition(":")
    try:
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=CONNECT_TIMEOUT_S)
        # No secret is sent: whatever listens there may not be Gate.
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read(4_096).decode(errors="replace")
        connection.close()
    except ValueError:
        return fail(subject, "is no HOST:PORT", f"say {option} HOST:PORT")
    except (OSError, http.client.HTTPException) as fault:
        return fail(subject, f"does not answer: {fault}", f"start `gate serve`, or say {option} HOST:PORT")
    if answer.status == 200:
        return ok(subject, "ready")
    if answer.status == 503:
        return fail(subject, f"not ready: {body.strip()[:200]}", "wait, then read the service's log")
    return fail(subject, f"something else listens there (status {answer.status})", f"say {option} HOST:PORT")


def resp_port(address: str) -> Finding:
    """Something that speaks RESP answers there."""
    subject = f"RESP {address}"
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S) as peer:
            peer.sendall(b"*1\r\n$4\r\nPING\r\n")
            # Of another service anything may come; the first bytes tell.
            answer = peer.recv(256)
    except ValueError:
        return fail(subject, "is no HOST:PORT", "say --resp HOST:PORT")
    except OSError as fault:
        return fail(subject, f"does not answer: {fault}", "start `gate serve`, or say --resp HOST:PORT")
    # Without AUTH a worker may refuse the PING, but it does so in RESP.
    if answer.startswith((b"+PONG", b"-NOAUTH")):
        return ok(subject, "answers")
    return fail(subject, "something else listens there", "say --resp HOST:PORT")


def tls_ports(service: Running) -> Iterator[Finding]:
    """Of one service that has a TLS port."""
    certificate, key, client_ca = (
        service.options.get(name, (None, ""))[0] for name in ("tls_cert", "tls_key", "tls_client_ca")
    )
    if certificate is None or key is None:
        return
    yield _certificate(TlsFiles(certificate, key, client_ca))
    for name, address in (("RESP", service.resp_tls), ("HTTP", service.http_tls)):
        if address is not None:
            yield _tls_port(f"{name} with TLS {address}", address, Path(certificate), service.pid)


def _certificate(files: TlsFiles) -> Finding:
    """They can be read, belong together, and do not end soon."""
    try:
        server_context(files)
        end_s = ends_at_s(files.certificate)
    except InvalidConfig as fault:
        return fail(_CERTIFICATE, "; ".join(fault.problems), "replace the file, then send SIGHUP to `gate serve`")
    now_s = wall_ms() / 1_000
    if warning := warning_of(f"in {files.certificate}", end_s, now_s):
        level = fail if end_s <= now_s else warn
        return level(_CERTIFICATE, warning, "renew it, then send SIGHUP to `gate serve`")
    return ok(_CERTIFICATE, f"{files.certificate} ends on {shown_end(end_s)}")


def _tls_port(subject: str, address: str, certificate: Path, pid: int) -> Finding:
    """It answers, and shows the certificate of the file."""
    host, _, port = near_address(address).rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it looks at the certificate, and sends nothing
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), TLS_TIMEOUT_S) as plain,
            context.wrap_socket(plain) as peer,
        ):
            shown = peer.getpeercert(binary_form=True)
        # The service may still show the certificate of its start, until SIGHUP.
        kept = ssl.PEM_cert_to_DER_cert(_first_certificate(certificate.read_text()))
    except (OSError, ValueError) as fault:
        return fail(subject, f"does not answer: {fault}", "read the service's log")
    if shown != kept:
        return warn(subject, "shows another certificate than the file has", f"kill -HUP {pid} lets it read the file")
    return ok(subject, "answers, with the certificate of the file")


def _first_certificate(text: str) -> str:
    """The server's own; the chain follows it."""
    end = "-----END CERTIFICATE-----"
    return text[text.find("-----BEGIN CERTIFICATE-----") : text.find(end) + len(end)]
