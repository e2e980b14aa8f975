"""What locust runs: see `loadtests.run`, which starts a service first. `GATE_LOAD_*` say where it is."""

from __future__ import annotations

from loadtests.shapes import Day
from loadtests.users.admin import AppServer
from loadtests.users.gateways import Gateway
from loadtests.users.http_checks import HttpRouter
from loadtests.users.resp import RespRouter
from loadtests.users.websockets import App, AppCrowd

__all__ = ["App", "AppCrowd", "AppServer", "Day", "Gateway", "HttpRouter", "RespRouter"]
