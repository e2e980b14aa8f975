"""Certificates of a test's own for 127.0.0.1, and the options of a server that uses one.

openssl makes them. `make_certificate` makes one that signs itself; an `Authority` signs others, also ended ones.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.ports import LOOPBACK


class Certificate(NamedTuple):
    """It signs itself, so it is its own authority."""

    certificate: Path
    key: Path

    def server_options(self, port: int, *, asks_clients: bool = False) -> list[str]:
        """Of a Redis that takes TLS on `port`; with `asks_clients` only from clients that show this certificate."""
        return [
            *("--tls-port", str(port)),
            *("--tls-cert-file", str(self.certificate)),
            *("--tls-key-file", str(self.key)),
            *("--tls-ca-cert-file", str(self.certificate)),
            *("--tls-auth-clients", "yes" if asks_clients else "no"),
        ]


def make_certificate(directory: Path) -> Certificate:
    """Skips the test where there is no openssl."""
    made = Certificate(directory / "certificate.pem", directory / "key.pem")
    _request(made.key, "gate-test", made.certificate, "-x509", "-days", "2")
    return made


class Authority:
    """Signs certificates for servers on 127.0.0.1 and for clients. Its own is the file `certificate`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.certificate, self._key = directory / "authority.pem", directory / "authority.key"
        _request(self._key, "authority", self.certificate, "-x509", "-days", "2")

    def issue(self, name: str, days: int = 30) -> Certificate:
        """A certificate and its key; with `days` 0 it has ended when this returns."""
        issued, asked = Certificate(*(self._directory / f"{name}{end}" for end in (".pem", ".key"))), f"{name}.csr"
        _request(issued.key, name, self._directory / asked, "-new")
        command = ["openssl", "x509", "-req", "-in", str(self._directory / asked), "-days", str(days)]
        command += ["-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial"]
        command += ["-copy_extensions", "copy", "-out", str(issued.certificate)]
        subprocess.run(command, check=True, capture_output=True)
        return issued

    def client_context(self, shown: Certificate | None = None) -> ssl.SSLContext:
        """Of a client that trusts this authority, and shows a certificate if it is given one."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return context


def _request(key: Path, name: str, into: Path, *kind: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here: a certificate can't be made")
    command = ["openssl", "req", *kind, "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-keyout", str(key), "-out", str(into), "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=IP:{LOOPBACK}"]
    subprocess.run(command, check=True, capture_output=True)
