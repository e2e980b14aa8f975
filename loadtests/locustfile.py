"""The file that locust runs: see `loadtests.run`, which starts a service first and passes its address in `GATE_LOAD_*`."""

from __future__ import annotations

from loadtests.shapes import Day
from loadtests.users.admin import AppServer
from loadtests.users.gateways import Gateway
from loadtests.users.http_checks import HttpRouter
from loadtests.users.resp import RespRouter
from loadtests.users.websockets import App, AppCrowd

__all__ = ["App", "AppCrowd", "AppServer", "Day", "Gateway", "HttpRouter", "RespRouter"]
