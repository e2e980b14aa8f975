"""The request's id: the caller's own where it is fit to be echoed."""

from __future__ import annotations

import re

import pytest

from gate.http.responses import JSON_TYPE, json_response, request_id_of


@pytest.mark.parametrize("given", ["a" * 32, "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "x"])
def test_a_fit_id_is_echoed(given: str) -> None:
    assert request_id_of({"X-Request-Id": given}) == given


@pytest.mark.parametrize("given", ["", "a b", "é", "x" * 65, "a\tb"])
def test_another_is_replaced_by_32_hex_digits(given: str) -> None:
    assert re.fullmatch("[0-9a-f]{32}", request_id_of({"X-Request-Id": given}))
    assert request_id_of({}) != request_id_of({})


def test_json_is_labelled_as_rongcloud_labels_it() -> None:
    reply = json_response({"code": 200, "name": "你"})
    assert reply.headers["Content-Type"] == JSON_TYPE == "application/json;charset=UTF-8"
    assert reply.body == '{"code":200,"name":"你"}'.encode()
