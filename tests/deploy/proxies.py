"""The proxies of `deploy/proxies` as running programs: the sample files, with this machine's addresses and a certificate."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.ports import LOOPBACK, free_port
from harness.service import GateService
from harness.tls import make_certificate
from harness.waiting import wait_until
from tests.deploy.files import DEPLOY

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
FOLDER = DEPLOY / "proxies"
NGINX = """pid {folder}/nginx.pid;
error_log {folder}/error.log;
daemon off;
master_process off;
events {{}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {site};
}}
"""
"""The file around a site, which Debian's package has in /etc/nginx/nginx.conf."""


class Proxy(NamedTuple):
    """A running proxy: its ports for HTTP over TLS, for plain HTTP, and for RESP over TLS; None where it has none."""

    name: str
    https: int
    plain: int
    resp: int | None
    log: Path


@contextmanager
def running_proxy(name: str, folder: Path, service: GateService) -> Iterator[Proxy]:
    """The proxy of this name in front of a service. Skips the test where the program is not installed."""
    program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip(f"no {name} here: scripts/install-test-tools installs it")
    made = make_certificate(folder)
    (folder / "fullchain.pem").write_bytes(made.certificate.read_bytes())
    (folder / "gate.pem").write_bytes(made.certificate.read_bytes() + made.key.read_bytes())
    proxy = Proxy(name, free_port(), free_port(), free_port() if name == "haproxy" else None, folder / "output")
    command = _nginx(folder, proxy, service) if name == "nginx" else _haproxy(folder, proxy, service)
    subprocess.run([program, *command, *CHECK[name]], check=True, capture_output=True, timeout=START_TIMEOUT_S)
    with proxy.log.open("wb") as log:
        process = subprocess.Popen([program, *command], stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: process.poll() is not None or _accepts(proxy.https), START_TIMEOUT_S, f"{name} to accept")
        assert process.poll() is None, proxy.log.read_text()
        yield proxy
    finally:
        process.kill()
        process.wait(STOP_TIMEOUT_S)


CHECK: Mapping[str, tuple[str, ...]] = {"nginx": ("-t",), "haproxy": ("-c",)}
"""The option of each program that only checks the file."""


def _nginx(folder: Path, proxy: Proxy, service: GateService) -> list[str]:
    site = folder / "gate.conf"
    site.write_text(
        replaced(
            "nginx.conf",
            {
                "listen 443 ssl;": f"listen {LOOPBACK}:{proxy.https} ssl;",
                "listen [::]:443 ssl;": "",
                "listen 80;": f"listen {LOOPBACK}:{proxy.plain};",
                "listen [::]:80;": "",
                "server 127.0.0.1:8080": f"server {service.http.removeprefix('http://')}",
                "/etc/ssl/gate/": f"{folder}/",
                "/var/log/nginx/": f"{folder}/",
            },
        )
    )
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, site=site))
    return ["-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def _haproxy(folder: Path, proxy: Proxy, service: GateService) -> list[str]:
    conf = folder / "haproxy.cfg"
    conf.write_text(
        replaced(
            "haproxy.cfg",
            {
                "bind :443 ssl": f"bind {LOOPBACK}:{proxy.https} ssl",
                "bind :80\n": f"bind {LOOPBACK}:{proxy.plain}\n",
                "bind :6391 ssl": f"bind {LOOPBACK}:{proxy.resp} ssl",
                "server node-1 127.0.0.1:8080": f"server node-1 {service.http.removeprefix('http://')}",
                "server node-1 127.0.0.1:6390": f"server node-1 {LOOPBACK}:{service.resp_port}",
                "/etc/ssl/gate/": f"{folder}/",
            },
        )
    )
    return ["-f", str(conf), "-db"]


def replaced(name: str, values: Mapping[str, str]) -> str:
    """A sample with other values; each must be in it."""
    text = (FOLDER / name).read_text()
    for old, new in values.items():
        assert old in text, f"{name} has no {old!r}"
        text = text.replace(old, new)
    return text


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0
