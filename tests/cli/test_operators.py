"""Operators from the command line, and what their accounts open over HTTP."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request

import pytest
import requests

from harness.service import GateService, Services
from tests.cli.command import Command


@pytest.fixture(scope="module")
def service(start_module_service: Services) -> GateService:
    """Operators come, go, and lose their password."""
    return start_module_service.start()


def status_of(service: GateService, name: str, password: str, path: str = "/v1/apps", method: str = "GET") -> int:
    pair = base64.b64encode(f"{name}:{password}".encode()).decode()
    request = urllib.request.Request(service.http + path, method=method, headers={"Authorization": f"Basic {pair}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_first_operator_is_in_the_credentials(service: GateService) -> None:
    credentials = service.credentials
    assert status_of(service, credentials.operator, credentials.operator_password) == 200
    listed = Command(service.data).json("operator", "list")["operators"]
    assert {one["operator"]: one["role"] for one in listed}[credentials.operator] == "admin"


def test_an_account_from_its_making_to_its_end(service: GateService) -> None:
    gate = Command(service.data)
    made = gate.json("operator", "add", "ann", "--role", "viewer")
    assert made == {"operator": "ann", "role": "viewer", "password": made["password"]}
    assert status_of(service, "ann", made["password"]) == 200
    assert status_of(service, "ann", made["password"], f"/v1/apps/{service.app_key}", "DELETE") == 403
    assert "already" in gate("operator", "add", "ann", status=1).err
    assert gate.json("operator", "role", "ann", "operator") == {"operator": "ann", "role": "operator"}
    gate("operator", "passwd", "ann", "--password-stdin", stdin="pässword with spaces\n".encode())
    assert status_of(service, "ann", made["password"]) == 401
    assert status_of(service, "ann", "pässword with spaces") == 200
    shown = gate("operator", "list").out
    assert "ann" in shown and "operator" in shown and "argon2" not in shown
    gate("operator", "remove", "ann")
    assert status_of(service, "ann", "pässword with spaces") == 401
    assert "no operator 'ann'" in gate("operator", "remove", "ann", status=1).err


def test_a_made_up_password_is_shown_once(service: GateService) -> None:
    gate = Command(service.data)
    password = gate("operator", "add", "bob").out.strip().rpartition(" ")[2]
    assert status_of(service, "bob", password) == 200
    again = gate("operator", "passwd", "bob").out.strip().rpartition(" ")[2]
    assert again != password and status_of(service, "bob", again) == 200


def test_a_changed_password_leaves_the_credentials(service: GateService) -> None:
    gate, credentials = Command(service.data), service.credentials
    gate("operator", "passwd", credentials.operator, "--password-stdin", stdin=b"another password\n")
    assert service.credentials.operator_password == ""
    assert service.credentials.app_secret == credentials.app_secret
    assert status_of(service, credentials.operator, credentials.operator_password) == 401
    assert status_of(service, credentials.operator, "another password") == 200


def test_the_last_admin_stays(service: GateService) -> None:
    gate, admin = Command(service.data), service.credentials.operator
    assert "only admin" in gate("operator", "remove", admin, status=1).err
    assert "only admin" in gate("operator", "role", admin, "viewer", status=1).err


@pytest.mark.parametrize("typed", [b"", b"short\n", b"\xff" * 10, b"x" * 257, b"with\ttab in it\n"])
def test_passwords_that_are_none_are_not_repeated(service: GateService, typed: bytes) -> None:
    refused = Command(service.data)("operator", "add", "a:b", "--password-stdin", stdin=typed, status=2)
    named = [line.split(":")[1].strip() for line in refused.err.splitlines()]
    assert named == ["operator", "password"]
    assert not typed.strip() or typed.strip().decode("utf-8", "replace") not in refused.out + refused.err


def test_an_account_is_limited_to_apps_and_the_limit_is_lifted(service: GateService) -> None:
    gate, own = Command(service.data), service.app_key
    assert own is not None
    other = gate.json("app", "create", "Other")["app_key"]
    assert "no App" in gate("operator", "add", "eve", "--app", "no-such-app", status=1).err
    made = gate.json("operator", "add", "eve", "--role", "operator", "--app", own)
    assert made["apps"] == [own]
    assert status_of(service, "eve", made["password"], f"/v1/apps/{own}") == 200
    assert status_of(service, "eve", made["password"], f"/v1/apps/{other}") == 404
    assert status_of(service, "eve", made["password"], "/v1/deployment-audit") == 403
    assert gate.json("operator", "set", "eve", "--app", own, "--app", other)["apps"] == sorted([own, other])
    assert status_of(service, "eve", made["password"], f"/v1/apps/{other}") == 200
    changed = gate.json("operator", "set", "eve", "--all-apps", "--role", "viewer")
    assert (changed["role"], "apps" in changed) == ("viewer", False)
    assert status_of(service, "eve", made["password"], "/v1/deployment-audit") == 200
    assert "give --role, --app or --all-apps" in gate("operator", "set", "eve", status=2).err
    entry = gate.json("audit", "--deployment")["entries"][0]
    assert entry["changed"]["apps"] == [sorted([own, other]), None]


def test_an_account_of_a_proxy_has_no_password(service: GateService) -> None:
    gate = Command(service.data)
    made = gate.json("operator", "add", "fay@example.com", "--sso")
    assert made == {"operator": "fay@example.com", "role": "viewer", "sso": True}
    [listed] = [one for one in gate.json("operator", "list")["operators"] if one["operator"] == "fay@example.com"]
    assert listed["sso"] is True
    assert "trusted proxy signs it in" in gate("operator", "passwd", "fay@example.com", status=1).err
    assert status_of(service, "fay@example.com", "") == 401
    assert "--password-stdin" in gate("operator", "add", "gil", "--sso", "--password-stdin", status=2).err


def test_sessions_of_the_console_are_listed_and_ended(start_service: Services) -> None:
    options = ("--trusted-proxies", "127.0.0.1", "--operator-header", "X-Forwarded-User",
               "--operator-groups-header", "X-Groups", "--operator-groups", "ops=operator")  # fmt: skip
    service = start_service.start(*options)
    gate, proxied = Command(service.data), {"X-Forwarded-User": "fay", "X-Groups": "staff,ops"}
    assert gate.json("operator", "sessions") == {"sessions": []}
    cookies = [
        requests.get(f"{service.http}/console/sign-in", headers=proxied, allow_redirects=False, timeout=10).cookies
        for _ in range(2)
    ]

    def place(number: int) -> str:
        answer = requests.get(
            f"{service.http}/console/sessions",
            headers=proxied,
            cookies=cookies[number],
            allow_redirects=False,
            timeout=10,
        )
        return answer.headers.get("Location", "")

    assert [place(0), place(1)] == ["", ""]
    sessions = gate.json("operator", "sessions", "fay")["sessions"]
    assert [(one["operator"], one["by"], one["address"]) for one in sessions] == [("fay", "proxy", "127.0.0.1")] * 2
    assert "key" not in sessions[0]
    assert "fay" in gate("operator", "sessions").out
    partly = gate("operator", "sessions", "--end", sessions[0]["id"], "--end", "gone", status=1)
    assert "ended 1 session" in partly.out and "no such session: gone" in partly.err
    assert sorted(bool(place(number)) for number in (0, 1)) == [False, True]
    assert "no such session" in gate("operator", "sessions", "--end", sessions[0]["id"], status=1).err
    for option in ((), ("--end-all",)):
        assert "no operator 'someone-else'" in gate("operator", "sessions", "someone-else", *option, status=1).err
    assert gate.json("operator", "sessions", "--end-all") == {"ended": 1}
    assert place(0) and place(1)
