"""The certificate of a role's TLS port: read at start and again on SIGHUP, and looked at every minute for its end.

A reload changes what new connections get. If the new files can't be used, the old certificate stays in use, and the log and
`/readyz` say so. Called by the roles `worker` and `http`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence

import structlog

from gate.clock import wall_ms
from gate.errors import CannotStart, InvalidConfig
from gate.metrics import TLS_NOT_AFTER
from gate.option_values import Endpoint
from gate.service.role import RoleContext
from gate.tls import ends_at_s, server_context, shown_end, warning_of

LOOK_EVERY_S = 60.0
_TOPIC = "tls"

_log = structlog.get_logger()

UseTls = Callable[[ssl.SSLContext, str, int], None]
"""Serves TLS on a host and port, or gives new connections another context. `OSError` if the port can't be had."""


class Certificates:
    """Of one role's process."""

    def __init__(self, context: RoleContext, endpoint: Endpoint, use: UseTls, alpn: Sequence[str] = ()) -> None:
        """Serve TLS there. A certificate that can't be read is no reason to end: a restart goes on without the TLS port.

        Raises `CannotStart` if the port can't be had.
        """
        files = context.config.tls_files
        assert files is not None  # the options demand it
        self._context, self._endpoint, self._use, self._files, self._alpn = context, endpoint, use, files, alpn
        self._end_s: int | None = None
        self._problem = ""
        self.load()
        context.on_reload = self.load
        self._look()

    def load(self) -> None:
        """Read the files, and use them for new connections."""
        try:
            tls, end_s = server_context(self._files, self._alpn), ends_at_s(self._files.certificate)
        except InvalidConfig as fault:
            kept = "the old one stays in use" if self._end_s is not None else "its port is not served"
            self._problem = (
                f"the TLS certificate can't be used, {kept}: {self._without_paths('; '.join(fault.problems))}"
            )
            _log.error("the TLS certificate can't be used", kept=kept, problem="; ".join(fault.problems))
        else:
            self._serve(tls)
            # After the port has it: if that failed, the role ends, and no certificate was in use.
            self._end_s, self._problem = end_s, ""
            TLS_NOT_AFTER.set(end_s)
            _log.info("the TLS certificate is in use", file=self._files.certificate, ends=shown_end(end_s))
            # Logged with the file's name, which `/readyz` must not show.
            if warning := warning_of(f"in {self._files.certificate}", end_s, wall_ms() / 1_000):
                _log.warning(warning)
        self._note()

    def _serve(self, tls: ssl.SSLContext) -> None:
        try:
            self._use(tls, self._endpoint.host, self._endpoint.port)
        except OSError as fault:
            raise CannotStart(f"can't listen on {self._endpoint}: {fault.strerror}") from None

    def _note(self) -> None:
        warning = "" if self._end_s is None else warning_of("of --tls-cert", self._end_s, wall_ms() / 1_000)
        self._context.note("; ".join(filter(None, (self._problem, warning))), _TOPIC)

    def _without_paths(self, problem: str) -> str:
        """Name options in the place of files: `/readyz` is open to all clients."""
        files = self._files
        named = ((files.certificate, "--tls-cert"), (files.key, "--tls-key"), (files.client_ca, "--tls-client-ca"))
        for path, option in named:
            problem = problem.replace(path, f"the file of {option}") if path else problem
        return problem

    def _look(self) -> None:
        self._note()
        asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look)
