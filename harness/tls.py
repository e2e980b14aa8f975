"""A certificate of a test's own for 127.0.0.1, made by openssl, and the options of a server that uses it."""

from __future__ import annotations

import shutil
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
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here: a certificate can't be made")
    made = Certificate(directory / "certificate.pem", directory / "key.pem")
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-keyout", str(made.key), "-out", str(made.certificate), "-days", "2", "-subj", "/CN=gate-test"]
    command += ["-addext", f"subjectAltName=IP:{LOOPBACK}"]
    subprocess.run(command, check=True, capture_output=True)
    return made
