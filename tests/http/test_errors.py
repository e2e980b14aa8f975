"""Every error in both wordings: status, code or word, and nothing else in the body than documented."""

from __future__ import annotations

import pytest

from gate.errors import (
    AppUnknown,
    GateError,
    InvalidInput,
    ListFull,
    NotFound,
    Refused,
    ReplicaMissing,
    Stale,
    StoreUnavailable,
)
from gate.http.bodies import TooLong, WrongContentType
from gate.http.errors import (
    CredentialsWrong,
    Internal,
    MethodWrong,
    MinimumUnmet,
    PathUnknown,
    rongcloud_problem,
    v1_problem,
)

PATH = "/user/block.json"

CASES: list[tuple[GateError, int, int, str, int, str]] = [
    (InvalidInput("userId", "is required"), 400, 1002, "The parameter userId is required.", 400, "invalid"),
    (InvalidInput("body", "must be JSON"), 400, 1002, "The request body must be JSON.", 400, "invalid"),
    (WrongContentType("Content-Type", "must be x"), 400, 1002, "The parameter Content-Type must be x.", 400, "invalid"),
    (TooLong("userId", "is too long"), 400, 1005, "The parameter userId is too long.", 413, "too-long"),
    (AppUnknown("no App has the key 'x'"), 400, 1002, "invalid App-Key.", 401, "unauthorized"),
    (CredentialsWrong("wrong", "wrong-secret"), 401, 1004, "wrong", 401, "unauthorized"),
    (PathUnknown("no endpoint"), 404, 404, "no endpoint", 404, "not-found"),
    (NotFound("no such thing"), 400, 1002, "no such thing", 404, "not-found"),
    (MethodWrong("GET", "POST"), 405, 405, "GET is not allowed here, use POST", 405, "method-not-allowed"),
    (ListFull(3, 2, 2), 400, 1002, str(ListFull(3, 2, 2)), 409, "list-full"),
    (Refused("deactivated"), 400, 1002, "deactivated", 409, "refused"),
    (MinimumUnmet("late"), 503, 1000, "late", 409, "stale"),
    (Stale("old"), 503, 1000, "old", 503, "stale"),
    (StoreUnavailable("away"), 503, 1000, "away", 503, "unavailable"),
    (ReplicaMissing("none"), 503, 1000, "none", 503, "unavailable"),
    (Internal("a bug"), 500, 1000, "a bug", 500, "internal"),
]


@pytest.mark.parametrize(("fault", "status", "code", "message", "v1_status", "word"), CASES)
def test_each_error_in_both_wordings(
    fault: GateError, status: int, code: int, message: str, v1_status: int, word: str
) -> None:
    rongcloud = rongcloud_problem(fault, PATH)
    assert rongcloud.status == status
    assert rongcloud.body == {"code": code, "errorMessage": message, "url": PATH}
    v1 = v1_problem(fault, PATH)
    assert (v1.status, v1.body["error"]) == (v1_status, word)
    assert set(v1.body) == {"error", "message"} | ({"parameter"} if isinstance(fault, InvalidInput) else set())
    for problem in (rongcloud, v1):
        assert ("Retry-After" in problem.headers) == (problem.status == 503)
        assert ("Allow" in problem.headers) == (problem.status == 405)
    assert ("WWW-Authenticate" in v1.headers) == (v1_status == 401)


def test_a_write_that_may_still_land_says_so() -> None:
    fault = StoreUnavailable("no answer in time", "unknown")
    for word in (rongcloud_problem, v1_problem):
        assert word(fault, PATH).body["outcome"] == "unknown"
        assert "outcome" not in word(StoreUnavailable("refused"), PATH).body


def test_an_unknown_key_looks_like_a_wrong_secret_under_v1() -> None:
    body = v1_problem(AppUnknown("no App has the key 'x'"), "/v1/check").body
    assert body == {"error": "unauthorized", "message": "the App key or its secret is wrong"}
