"""Schemathesis against a live node: whatever the document allows or forbids, the answers are documented ones, and never a 5xx.

Requests that the document allows are done, those that it forbids are refused. Answers may hold no member that it doesn't tell.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from copy import deepcopy
from itertools import cycle
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig

from gate.core.ids import MAX_ID_BYTES
from gate.core.model import AppFacts
from gate.core.registration import MAX_PORTRAIT_BYTES, name_is_too_long
from gate.http.openapi import openapi_document
from gate.http.paging import page_token
from tests.harness.service import GateService, Services
from tests.http.world import basic, form, signed

MAX_EXAMPLES = 5
"""Random ones, beside those at each bound: enough in every run, since each run of the suite goes on from other seeds."""
TIMEOUT_S = 10.0
GOING = ("/user/deactivate", "/user/reactivate", "/user/activate", "/user/delusers")
FORM = "application/x-www-form-urlencoded"
KNOWN_BY_NO_SCHEMA = {
    "include-path-regex": "^/user/(info|refresh|reactivate|activate|token/expire|block/query)\\.json$|^/v1/tokens$"
}
"""Allowed by the document, and refused all the same: unknown Users, as RongCloud does; too early, too far ahead, too deep."""

TEXT_IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_ID_BYTES).filter(
    lambda text: len(text.encode()) <= MAX_ID_BYTES
)
FORMATS = {
    "user-id": TEXT_IDS,
    "user-ids": st.lists(TEXT_IDS.filter(lambda text: "," not in text), min_size=1, max_size=3).map(",".join),
    "base64-id": st.binary(min_size=1, max_size=MAX_ID_BYTES).map(lambda raw: base64.b64encode(raw).decode()),
    "profile-name": st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: not name_is_too_long(text)),
    "portrait": st.text(st.characters(exclude_categories=["Cs"])).filter(
        lambda text: len(text.encode()) <= MAX_PORTRAIT_BYTES
    ),
    "app-name": st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=64),
    "webhook-url": st.sampled_from(["", "https://app.example/gate", "http://10.0.0.1:8000/?a=b"]),
    "page-token": st.integers(0, 1 << 53).map(page_token),
    "revision": st.from_regex(r"[0-9]:[0-9a-f]{16}:[0-9]{1,9}", fullmatch=True),
}
for name, strategy in FORMATS.items():
    schemathesis.openapi.format(name, strategy)


def as_tested(document: dict[str, Any]) -> dict[str, Any]:
    """The document, its answers closed against members that it doesn't tell, its forms read as what they are: text."""
    tested = deepcopy(document)
    for schema in tested["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    bodies = [one.get("requestBody", {}) for methods in tested["paths"].values() for one in methods.values()]
    for body in bodies:
        members = body.get("content", {}).get(FORM, {}).get("schema", {}).get("properties", {})
        for field, schema in members.items():
            if schema.get("type") == "array":
                members[field] = {"anyOf": [schema, schema["items"]]}
    return tested


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Numbers as programs write them. To JSON Schema 1.0 is an integer, to the decoder it is not."""
    if isinstance(body, dict):
        return {name: map_body(context, value) for name, value in body.items()}
    if isinstance(body, list):
        return [map_body(context, value) for value in body]
    return int(body) if isinstance(body, float) and body.is_integer() else body


REFUSALS = ["400", "401", "403", "404", "405", "409", "413", "429"]
CONFIG = SchemathesisConfig.from_dict(
    {
        # Every call is made with credentials of ours.
        "generation": {"with-security-parameters": False},
        "checks": {
            # Asked of every endpoint below, where a wrong password does not slow down what comes after it.
            "ignored_auth": {"enabled": False},
            "negative_data_rejection": {"expected-statuses": [*REFUSALS, "430"]},
            "positive_data_acceptance": {"expected-statuses": ["2xx", "403", "404", "409"]},
        },
        "operations": [
            # What is wrong with one operation is that one's result.
            {"include-path": "/v1/bulk", "checks": {"negative_data_rejection": {"enabled": False}}},
            {**KNOWN_BY_NO_SCHEMA, "checks": {"positive_data_acceptance": {"enabled": False}}},
            {"include-tag": "Not offered", "checks": {"positive_data_acceptance": {"enabled": False}}},
        ],
    }
)
schema = schemathesis.openapi.from_dict(as_tested(openapi_document()), config=CONFIG)


class Caller:
    """Every kind of credentials on one node. App endpoints are called by Basic and by signature in turn.

    Users are deactivated and deleted in an App of its own: elsewhere they would be refused what the document allows.
    """

    def __init__(self, service: GateService, session: requests.Session) -> None:
        self.session = session
        self.http = service.http
        self._known = service.credentials
        self._signs = cycle([False, True])
        self._app = AppFacts(key=self._known.app_key, secrets=(self._known.app_secret,))
        self._app_of_the_gone = self._created()
        self._token = self._minted()

    def headers(self, path: str) -> dict[str, str]:
        """What a call of this path is made with."""
        if path.startswith("/v1/apps"):
            return self._operator()
        if path.startswith("/client/"):
            return {"Authorization": f"Bearer {self._token}"}
        if path.startswith("/v1/"):
            return signed(self._app) if next(self._signs) else basic(self._app)
        if path.startswith("/user/"):
            return signed(self._app_of_the_gone if path.startswith(GOING) else self._app)
        return {}

    def _operator(self) -> dict[str, str]:
        pair = f"{self._known.operator}:{self._known.operator_password}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

    def _created(self) -> AppFacts:
        body, url = {"name": "the gone"}, f"{self.http}/v1/apps"
        made = self.session.post(url, json=body, headers=self._operator(), timeout=TIMEOUT_S).json()
        return AppFacts(key=made["app_key"], secrets=(made["app_secret"],))

    def _minted(self) -> str:
        headers = {**signed(self._app), "Content-Type": FORM}
        url = f"{self.http}/user/getToken.json"
        reply = self.session.post(url, form([("userId", "the-bearer")]), headers=headers, timeout=TIMEOUT_S)
        token: str = reply.json()["token"]
        return token


@pytest.fixture(scope="module")
def caller(start_module_service: Services) -> Iterator[Caller]:
    with requests.Session() as session:
        yield Caller(start_module_service.start(), session)


@schema.parametrize()
@settings(max_examples=MAX_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
def test_answers_are_the_documented_ones(case: schemathesis.Case, caller: Caller) -> None:
    case.call_and_validate(
        base_url=caller.http, session=caller.session, headers=caller.headers(case.path), timeout=TIMEOUT_S
    )
