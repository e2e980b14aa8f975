"""The checks of `gate doctor` that look at a running service's TLS ports: the files, the end, and the certificate shown."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from gate.cli.findings import Finding, fail, ok, warn
from gate.clock import wall_ms
from gate.errors import InvalidConfig
from gate.listening import near_address
from gate.option_values import TlsFiles
from gate.service.running import Running
from gate.tls import ends_at_s, server_context, shown_end, warning_of

CONNECT_TIMEOUT_S = 2.0
_SUBJECT = "TLS certificate"


def findings(service: Running) -> Iterator[Finding]:
    """Of one service that has a TLS port."""
    certificate, key, client_ca = (
        service.options.get(name, (None, ""))[0] for name in ("tls_cert", "tls_key", "tls_client_ca")
    )
    if certificate is None or key is None:
        return
    yield _files(TlsFiles(certificate, key, client_ca))
    for name, address in (("RESP", service.resp_tls), ("HTTP", service.http_tls)):
        if address is not None:
            yield _port(f"{name} with TLS {address}", address, Path(certificate), service.pid)


def _files(files: TlsFiles) -> Finding:
    """They can be read, belong together, and do not end soon."""
    try:
        server_context(files)
        end_s = ends_at_s(files.certificate)
    except InvalidConfig as fault:
        return fail(_SUBJECT, "; ".join(fault.problems), "replace the file, then send SIGHUP to `gate serve`")
    now_s = wall_ms() / 1_000
    if warning := warning_of(f"in {files.certificate}", end_s, now_s):
        level = fail if end_s <= now_s else warn
        return level(_SUBJECT, warning, "renew it, then send SIGHUP to `gate serve`")
    return ok(_SUBJECT, f"{files.certificate} ends on {shown_end(end_s)}")


def _port(subject: str, address: str, certificate: Path, pid: int) -> Finding:
    """It answers, and shows the certificate of the file."""
    host, _, port = near_address(address).rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it looks at the certificate, and sends nothing
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S) as plain,
            context.wrap_socket(plain) as peer,
        ):
            shown = peer.getpeercert(binary_form=True)
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
