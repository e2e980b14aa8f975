"""The document as one page of HTML: no script, no font, nothing from any other place, so that it works in a closed network.

Rendered once from the document and a template; its style lies inside it, and the policy it is sent with lets a browser load
nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gate.http.forms import FORM_TYPE
from gate.http.openapi.document import openapi_document
from gate.http.openapi.types_told import example_of, told

Schema = dict[str, Any]

_STYLE_FILE = "page.css"
_TEMPLATES = Environment(
    loader=PackageLoader("gate.http.openapi", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_JSON = "application/json"


class Shown(NamedTuple):
    """One endpoint, ready for the template."""

    anchor: str
    method: str
    path: str
    summary: str
    text: Markup
    credentials: str
    fields: list[Schema]
    body: Markup | None
    answers: list[tuple[str, Markup, Markup]]
    example: str


@cache
def page_html() -> bytes:
    """The page."""
    document = openapi_document()
    page = _TEMPLATES.get_template("page.html").render(
        document=document,
        about=_text(document["info"]["description"]),
        style=Markup(_style()),  # our own file, and the policy names its hash
        tags=[
            (tag["name"], _text(tag["description"]), list(_shown(document, tag["name"]))) for tag in document["tags"]
        ],
        schemas=[(name, _text(one.get("description", "")), _members(one)) for name, one in _schemas(document)],
        schemes=document["components"]["securitySchemes"],
    )
    return page.encode()


@cache
def policy() -> dict[str, str]:
    """The headers that keep the page to itself."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    allowed = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {"Content-Security-Policy": allowed, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def _style() -> str:
    source, _, _ = _TEMPLATES.loader.get_source(_TEMPLATES, _STYLE_FILE)  # type: ignore[union-attr]
    return source


def _schemas(document: Schema) -> Iterator[tuple[str, Schema]]:
    yield from sorted(document["components"]["schemas"].items())


def _shown(document: Schema, tag: str) -> Iterator[Shown]:
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            if one["tags"] == [tag]:
                yield Shown(
                    one["operationId"],
                    method.upper(),
                    path,
                    one["summary"],
                    _text(one.get("description", "")),
                    " or ".join(" + ".join(way) for way in one["security"]) or "none",
                    list(_fields(one)),
                    _body(one),
                    list(_answers(document, one)),
                    _curl(document, path, method.upper(), one),
                )


def _fields(operation: Schema) -> Iterator[Schema]:
    for one in operation.get("parameters", ()):
        yield _row(one["name"], one["in"], one["schema"], one["required"], one.get("description"))
    form = operation.get("requestBody", {}).get("content", {}).get(FORM_TYPE)
    if form:
        required = form["schema"].get("required", ())
        for name, schema in form["schema"]["properties"].items():
            yield _row(name, "form", schema, name in required)


def _members(schema: Schema) -> list[Schema]:
    required = schema.get("required", ())
    rows = [_row(name, "", one, name in required) for name, one in schema.get("properties", {}).items()]
    return rows or [_row("", "", schema, True)]


def _row(name: str, place: str, schema: Schema, is_required: bool, text: str | None = None) -> Schema:
    said = _text(text or schema.get("description", ""))
    return {"name": name, "place": place, "type": told(schema), "required": is_required, "text": said}


def _body(operation: Schema) -> Markup | None:
    content = operation.get("requestBody", {}).get("content", {}).get(_JSON)
    return None if content is None else told(content["schema"])


def _answers(document: Schema, operation: Schema) -> Iterator[tuple[str, Markup, Markup]]:
    for status, answer in operation["responses"].items():
        whole = document["components"]["responses"][answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
        body = Markup("")
        for content in whole.get("content", {}).values():  # one, or none
            body = told(content["schema"].get("allOf", [content["schema"]])[0])
        yield status, _text(whole["description"]), body


def _text(text: str) -> Markup:
    """Text with its code in backquotes as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _curl(document: Schema, path: str, method: str, operation: Schema) -> str:
    """A call that can be pasted; the credentials are variables of the shell."""
    query = []
    for one in operation.get("parameters", ()):
        value = quote(str(example_of(document, one["schema"])), safe="")
        if one["in"] == "path":
            path = path.replace(f"{{{one['name']}}}", value)
        elif one["required"]:
            query.append(f"{one['name']}={value}")
    target = f"{path}?{'&'.join(query)}" if query else path
    content = operation.get("requestBody", {}).get("content", {})
    said = [
        f'curl -X {method} "http://$GATE_HTTP{target}"',
        *_credentials(operation),
        *_upgrade(operation),
        *_sent(document, content),
    ]
    return " \\\n    ".join(said)


def _credentials(operation: Schema) -> list[str]:
    schemes = {name for way in operation["security"][:1] for name in way}
    if "app" in schemes:
        return ['-u "$KEY:$SECRET"']
    if "operator" in schemes:
        return ['-u "$OPERATOR:$PASSWORD"']
    if "token" in schemes:
        return ['-H "Authorization: Bearer $TOKEN"']
    headers = {"App-Key": "KEY", "Nonce": "NONCE", "Timestamp": "TIMESTAMP", "Signature": "SIGNATURE"}
    return [f'-H "{name}: ${value}"' for name, value in headers.items()] if schemes else []


def _upgrade(operation: Schema) -> list[str]:
    """What makes it a WebSocket handshake, and shows the frames that come."""
    if "101" not in operation["responses"]:
        return []
    return [
        "-H 'Connection: Upgrade' -H 'Upgrade: websocket'",
        "-H 'Sec-WebSocket-Version: 13' -H \"Sec-WebSocket-Key: $(head -c 16 /dev/urandom | base64)\"",
        "--no-buffer --output -",
    ]


def _sent(document: Schema, content: Schema) -> Iterator[str]:
    if FORM_TYPE in content:
        form = content[FORM_TYPE]["schema"]
        for name in form.get("required", ()):
            value = example_of(document, form["properties"][name])
            for one in value if isinstance(value, list) else [value]:
                yield f"--data-urlencode '{name}={one}'"
    if _JSON in content:
        yield f"-H 'Content-Type: {_JSON}'"
        yield f"-d '{json.dumps(example_of(document, content[_JSON]['schema']), ensure_ascii=False)}'"
