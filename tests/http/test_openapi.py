"""The document says what is served: every path and method, both ways; its page needs no other host."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import cast

import pytest
from openapi_spec_validator import validate

from gate.http import openapi
from gate.http.app import make_app
from gate.http.client import page
from gate.http.context import Deps
from gate.http.errors import CODES, SESSIONS_FULL, TOKEN_FAULTS, WORDS
from gate.http.openapi import VIEWER_FILES, openapi_document
from gate.http.openapi.components import CODE_MEANINGS, WORD_MEANINGS
from tests.http.world import World

DOCUMENT = openapi_document()


@pytest.mark.slow
def test_the_document_is_valid_openapi() -> None:
    validate(DOCUMENT)


def test_what_is_served_is_described_and_what_is_described_is_served() -> None:
    routes = make_app(cast(Deps, None)).router.routes()  # only a request would use what it depends on
    served = {
        (path, route.method)
        for route in routes
        if route.resource is not None
        and (path := route.resource.canonical) not in page.FILES | VIEWER_FILES
        and "{path}" not in path
        if route.method not in ("*", "HEAD", "OPTIONS")
    }
    described = {(path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == served


def test_every_endpoint_is_named_once_and_says_something() -> None:
    operations = [one for methods in DOCUMENT["paths"].values() for one in methods.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    assert [one["operationId"] for one in operations if not one["summary"]] == []
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    assert {tag for one in operations for tag in one["tags"]} == tags


def test_every_word_and_code_has_a_meaning_and_none_is_made_up() -> None:
    assert set(WORD_MEANINGS) == {word for _, _, word in WORDS} | {
        word for _, word in (*TOKEN_FAULTS.values(), SESSIONS_FULL)
    }
    assert set(CODE_MEANINGS) == {code for _, _, code in CODES}


def test_every_schema_is_referred_to_and_every_reference_leads_somewhere() -> None:
    referred = set(re.findall(r"'#/components/(\w+/[\w.-]+)'", str(DOCUMENT)))
    components = {f"{kind}/{name}" for kind, named in DOCUMENT["components"].items() for name in named}
    assert referred - components == set()
    assert {one for one in components - referred if not one.startswith("securitySchemes/")} == set()


async def test_the_document_is_served_to_anyone(world: World) -> None:
    reply = await world.send("GET", "/openapi.json")
    assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (200, "*")
    assert reply.body["openapi"] == "3.1.0"
    assert reply.body["paths"].keys() == DOCUMENT["paths"].keys()


async def test_the_page_needs_no_other_host_and_no_inline_script(world: World) -> None:
    reply = await world.send("GET", "/docs")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = reply.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy and "http" not in policy
    html = reply.body.decode()
    assert "<style" not in html and re.findall(r"<script(?! src=)", html) == []
    for file in re.findall(r'(?:src|href)="([^"]+)"', html):
        assert (await world.send("GET", f"/{file}")).status == 200, file


def test_the_viewer_is_the_one_that_was_vendored() -> None:
    folder = Path(openapi.__file__).parent / "viewer"
    package = json.loads((folder / "package.json").read_bytes())
    assert {name: sha256((folder / name).read_bytes()).hexdigest() for name in package["files"]} == package["files"]
    assert {"LICENSE", "NOTICE"} < package["files"].keys()


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_the_documents_are_only_read(world: World, path: str) -> None:
    assert (await world.send("POST", path, b"{}")).status == 405
