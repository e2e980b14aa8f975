"""What Schemathesis needs to know of Gate: who calls, and what values of Gate's own formats look like.

Schemathesis imports this by itself.

The environment names the service and its credentials, as JSON in `FUZZED`.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st

from gate.core.ids import MAX_ID_BYTES
from gate.core.model import AppFacts
from gate.core.presence import KINDS, SESSION_RANDOM_BYTES, session_id
from gate.core.slices import MAX_SLICES
from gate.http.fields import page_token, place_token
from gate.store.places import Place
from harness.signing import signature_headers

FUZZED = "GATE_FUZZED"
TIMEOUT_S = 10.0
OWN_APPS: list[object] = []
"""Keys of the Apps whose credentials are used; operators' calls are kept off them."""
THROWAWAY_APP = "a-throwaway"
"""What those are done to instead; it may be there or not."""
GOING = ("/user/deactivate", "/user/reactivate", "/user/activate", "/user/abandon")

_TEXT_IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_ID_BYTES).filter(
    lambda text: len(text.encode()) <= MAX_ID_BYTES
)
FORMATS = {
    "user-id": _TEXT_IDS,
    "user-ids": st.lists(_TEXT_IDS.filter(lambda text: "," not in text), min_size=1, max_size=3).map(",".join),
    "base64-id": st.binary(min_size=1, max_size=MAX_ID_BYTES).map(lambda raw: base64.b64encode(raw).decode()),
    "app-name": st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=64),
    "webhook-url": st.sampled_from(["", "https://app.example/gate", "http://10.0.0.1:8000/?a=b"]),
    "page-token": st.integers(0, 1 << 53).map(page_token),
    "place-token": st.builds(
        lambda moment, user: place_token(Place(moment, user)),
        st.integers(0, 1 << 53),
        st.binary(min_size=1, max_size=64),
    ),
    "feed-cursor": st.builds(
        lambda seq, at_us: f"652f1a3b00c2e-{seq}-{at_us:x}", st.integers(0, 1 << 40), st.integers(0, 1 << 51)
    ),
    "session-id": st.binary(min_size=SESSION_RANDOM_BYTES, max_size=SESSION_RANDOM_BYTES).map(
        lambda raw: session_id(raw, b"alice")
    ),
    "event-kinds": st.lists(st.sampled_from(KINDS), min_size=1).map(",".join),
    "revision": st.sampled_from(["0:0123456789abcdef:1", "1:0123456789abcdef:0,2:fedcba9876543210:999999999"]),
}
for _name, _strategy in FORMATS.items():
    schemathesis.openapi.format(_name, _strategy)


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Numbers as programs write them. To JSON Schema 1.0 is an integer, to the decoder it is not."""
    if isinstance(body, dict):
        return {name: map_body(context, value) for name, value in body.items()}
    if isinstance(body, list):
        return [map_body(context, value) for value in body]
    return int(body) if isinstance(body, float) and body.is_integer() else body


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Values that it read in answers are used again, those of `GET /v1/apps` as well: its own Apps must outlive the search."""
    if case.path_parameters and case.path_parameters.get("app") in OWN_APPS:
        case.path_parameters["app"] = THROWAWAY_APP
    # A number of slices is refused where the App has more: which ones are allowed depends on earlier requests.
    body = case.body
    if isinstance(body, dict) and type(slices := body.get("presence_slices")) is int and 1 <= slices <= MAX_SLICES:
        body["presence_slices"] = MAX_SLICES
    # An App that refuses needs an age, which is 0 unless an earlier request set one.
    if isinstance(body, dict) and (body.get("on_stale") == "refuse" or body.get("max_staleness_ms") == 0):
        body["max_staleness_ms"] = body.get("max_staleness_ms") or 1


def _basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


@schemathesis.auth(refresh_interval=None)
class Caller:
    """Every kind of credentials on one node.

    Users are deactivated in an App of its own: elsewhere they would be refused what the document allows.
    """

    def __init__(self) -> None:
        known = json.loads(os.environ[FUZZED])
        self._http = known["http"]
        self._operator = _basic(known["operator"], known["operator_password"])
        self._app = AppFacts(key=known["app_key"], secrets=(known["app_secret"],))
        self._app_of_the_gone = self._created()
        OWN_APPS.extend((self._app.key, self._app_of_the_gone.key))
        self._token = self._minted()

    def get(self, case: schemathesis.Case[Any], context: schemathesis.AuthContext) -> Caller:
        """There is nothing to log in to."""
        return self

    def set(self, case: schemathesis.Case[Any], data: Caller, context: schemathesis.AuthContext) -> None:
        """The credentials that a call of this path is made with."""
        case.headers.update(self._headers(case.path))

    def _headers(self, path: str) -> dict[str, str]:
        if path.startswith(("/v1/apps", "/v1/deployment-audit")):
            return self._operator
        if path.startswith("/client/"):
            return {"Authorization": f"Bearer {self._token}"}
        if path.startswith("/v1/"):
            return _basic(self._app.key, self._app.secrets[0])
        if path.startswith("/user/"):
            app = self._app_of_the_gone if path.startswith(GOING) else self._app
            signed = signature_headers(app.key, app.secrets[0])
            del signed["Content-Type"]  # it is the request's
            return signed
        return {}

    def _created(self) -> AppFacts:
        url = f"{self._http}/v1/apps"
        made = requests.post(url, json={"name": "the gone"}, headers=self._operator, timeout=TIMEOUT_S).json()
        return AppFacts(key=made["app_key"], secrets=(made["app_secret"],))

    def _minted(self) -> str:
        headers = signature_headers(self._app.key, self._app.secrets[0])
        url = f"{self._http}/user/getToken.json"
        reply = requests.post(url, {"userId": "the-bearer"}, headers=headers, timeout=TIMEOUT_S)
        token: str = reply.json()["token"]
        return token
