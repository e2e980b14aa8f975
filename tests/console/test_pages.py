"""What the pages show: who is online, a User, a Verdict; to whom; and that no id or name can be more than text."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from html.parser import HTMLParser
from urllib.parse import quote_from_bytes

import msgspec
import pytest
from aiohttp import web

from gate.console.request_context import ConsoleContext
from gate.console.views import OF_APP
from gate.core.model import FOREVER_MS, AppFacts, ListKind
from gate.core.operators import ROLES, OperatorRole
from harness.waiting import wait_until_async
from tests.console.conftest import Place
from tests.console.visitor import Shown, Visitor
from tests.http.world import now_ms

ODD_IDS = [
    b"<script>alert(1)</script>",
    b"\"'><img src=x onerror=alert(1)>",
    b"a b+c&d=e%41#f?g",
    b"line\r\nbreak",
    b"\xff\x00\xfe",
    b" led by a space",
    "\u202eturned \u5e97".encode(),
    b"../../v1/apps",
    b"{{ 7 * 7 }}{% raw %}",
    b"\\x41",
    b"x" * 64,
]


class Tags(HTMLParser):
    """What a browser takes for tags, whatever the bytes look like."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []

    @classmethod
    def of(cls, page: str) -> list[tuple[str, dict[str, str]]]:
        parser = cls()
        parser.feed(page)
        return parser.found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


async def block(place: Place, owner: bytes, member: bytes, until_ms: int = FOREVER_MS) -> None:
    world = place.world
    written = await world.store.lists.add(world.app.key, ListKind.BLACKLIST, owner, [member], until_ms, now_ms(), 100)
    assert await world.node.acks.wait(written, 5_000) == "all"


def assert_sealed(shown: Shown) -> None:
    """Every answer bears these, refusals and redirects included."""
    policy = shown.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert (shown.headers["X-Frame-Options"], shown.headers["X-Content-Type-Options"]) == ("DENY", "nosniff")
    assert (shown.headers["Referrer-Policy"], shown.headers["Server"]) == ("same-origin", "gate")
    assert len(shown.headers["X-Request-Id"]) >= 32
    tags = Tags.of(shown.page)
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on") or name == "style"]
    assert all(
        tag not in ("style", "img") or "/console/mark.svg" in attributes.get("src", "") for tag, attributes in tags
    )
    assert all("/console/console.js" in attributes.get("src", "") for tag, attributes in tags if tag == "script")


async def test_every_answer_is_sealed_and_pages_are_not_kept(place: Place) -> None:
    visitor, stranger = await place.visitor(), Visitor(place.world, "stranger")
    key = place.world.app.key
    targets = ["", "sign-in", "nothing", f"{key}/", f"{key}/nothing", "no-such-app/overview"]
    targets += [f"{key}/{page}" for page in ("overview", "user", "user?user=a", "check", "check?from=a&to=b")]
    for browser in (visitor, stranger):
        for target in targets:
            shown = await browser.get(f"/console/{target}")
            assert_sealed(shown)
            assert shown.headers["Cache-Control"] == "no-store", target
    bare = await stranger.get("/console")
    assert (bare.status, bare.place) == (303, "/console/")


async def test_statuses_methods_and_heads(place: Place) -> None:
    visitor, key = await place.visitor(), place.world.app.key
    for target, status in (
        ("nothing", 404),
        (f"{key}/nothing", 404),
        ("no-such-app/overview", 404),
        ("bad.key/overview", 404),
    ):
        shown = await visitor.get(f"/console/{target}")
        assert (shown.status, "There is nothing here" in shown.text) == (status, True), target
    assert (await visitor.get(f"/console/{key}/")).place == f"/console/{key}/overview"
    head = await visitor.get(f"/console/{key}/overview", method="HEAD")
    assert (head.status, head.page) == (200, "") and int(head.headers["Content-Length"]) > 1_000
    for target, method, allowed in (
        (f"{key}/overview", "DELETE", "GET"), (f"{key}/user/kick", "GET", "POST"), ("sign-in", "PUT", "GET, POST"),
        ("console.css", "POST", "GET"), ("sign-out", "GET", "POST"),
    ):  # fmt: skip
        wrong = await visitor.get(f"/console/{target}", method=method)
        assert (wrong.status, wrong.headers["Allow"]) == (405, allowed), target


async def test_files_are_kept_and_change_their_address_with_their_content(place: Place) -> None:
    stranger = Visitor(place.world, "stranger")
    page = (await stranger.get("/console/sign-in")).page
    addresses = re.findall(r'(?:href|src)="(/console/[a-z.]+\?v=[0-9a-f]{12})"', page)
    assert {one.partition("?")[0].rpartition(".")[2] for one in addresses} == {"css", "js", "svg"}
    for address in addresses:
        file = await stranger.get(address)
        assert file.status == 200 and "immutable" in file.headers["Cache-Control"]
        assert "http://" not in file.page.replace("http://www.w3.org/2000/svg", "") and "https://" not in file.page
        head = await stranger.get(address, method="HEAD")
        assert (head.status, head.page, head.headers["Content-Length"]) == (200, "", str(len(file.page.encode())))
        unchanged = await stranger.get(address, **{"If-None-Match": file.headers["ETag"]})
        assert (unchanged.status, unchanged.page) == (304, "")
        assert_sealed(unchanged)
    assert not re.search(r'(?:href|src|action)="(?!/console/|#main")', page)


async def test_the_apps_are_chosen_from_all(place: Place) -> None:
    visitor = await place.visitor("viewer")
    other = AppFacts(key=f"other-{now_ms()}", secrets=("s-1",), name="<b>Shop</b> 店", environment="production")
    written = await place.world.store.apps.create(other, now_ms())
    assert await place.world.node.acks.wait(written, 5_000) == "all"
    shown = await visitor.get("/console/")
    assert f'href="/console/{other.key}/overview"' in shown.page and "&lt;b&gt;Shop" in shown.page
    assert f'href="/console/{place.world.app.key}/overview"' in shown.page and "s-1" not in shown.page
    assert "<b>Shop</b> 店 production" in (await visitor.get(f"/console/{other.key}/overview")).text
    assert (await visitor.get("/console/apps")).text.count(other.key) == 1


async def test_who_is_online_by_gateway_platform_and_slice_now_and_over_the_hour(place: Place) -> None:
    visitor, presence, key = await place.visitor("viewer"), place.world.presence, place.world.app.key
    empty = await visitor.app("gateways")
    assert "No User is online." in empty.text and "No Gateway has taken a lease." in empty.text
    assert "No samples yet" in (await visitor.app("overview")).text and '<svg class="box"' not in empty.page
    await place.gateway_session(b"alice")
    await place.gateway_session(b"bob", "Web", b"edge-2")
    assert await presence.sample(key)
    shown = await visitor.app("gateways")
    assert "Gateways that hold a lease 2 Sessions 2 Users online 2" in shown.text
    assert re.search(r"edge-1 holds 1 \d+ (ms|s) ago 1", shown.text)
    assert "Slice Users online Sessions Sweeping 0 2 2 0" in shown.text
    assert shown.page.count('data-kind="gateway-') == 2
    overview = await visitor.app("overview")
    assert re.search(r'aria-label="Sessions by platform over the last hour: (iOS|Web) now 1, most 1; ', overview.page)
    assert (await visitor.part("overview/live")).startswith("Users online 2")
    assert (await visitor.part("gateways/live")).startswith("Gateways that hold a lease 2")
    await presence.end_lease(key, b"edge-2", 1)
    assert re.search(r"edge-2 ended 1", (await visitor.app("gateways")).text)


async def test_a_user_with_its_sessions_and_its_state(place: Place) -> None:
    visitor, world = await place.visitor(), place.world
    session = await place.gateway_session(b"alice")
    until_ms = now_ms() + 600_000
    for penalties, end_ms in ((world.store.bans, until_ms), (world.store.mutes, FOREVER_MS)):
        written = await penalties.impose(world.app.key, [b"alice"], end_ms, now_ms())
        assert await world.node.acks.wait(written, 5_000) == "all"
    shown = await visitor.app("user?user=alice")
    assert "Now online" in shown.text and "edge-1" in shown.text and f'value="{session}"' in shown.page
    assert "banned until 20" in shown.text and "muted without end" in shown.text and "Deactivated no" in shown.text
    unknown = await visitor.app("user?user=unknown")
    assert "Now offline Last seen never Last active never" in unknown.text and "Registered no" in unknown.text
    assert "Presence" not in (await visitor.app("user")).text


@pytest.mark.parametrize("role", ROLES)
async def test_a_kick_closes_one_session_or_all_and_takes_the_role(place: Place, role: OperatorRole) -> None:
    visitor, world = await place.visitor(role), place.world
    sessions = [
        await place.gateway_session(b"alice", platform, b"edge-%d" % at) for at, platform in enumerate(("iOS", "Web"))
    ]
    page = await visitor.app("user?user=alice")
    assert (">Kick</button>" in page.page) is (role != "viewer")
    refused = await visitor.kick("bob", sessions[0])
    assert refused.status == (403 if role == "viewer" else 400)
    done = await visitor.kick("alice", sessions[0], reason="too <b>loud</b>")
    (presence,) = await world.presence.presences(world.app.key, [b"alice"])
    if role == "viewer":
        assert (done.status, len(presence.sessions)) == (403, 2)
        assert "this takes the role operator" in done.text.lower()
        return
    assert done.status == 303 and [one.id for one in presence.sessions] == [sessions[1]]
    after = await visitor.get(done.place)
    assert "1 Session closed." in after.text and f'value="{sessions[0]}"' not in after.page
    assert "nothing was closed" in (await visitor.get((await visitor.kick("alice", sessions[0])).place)).text
    assert "1 Session closed." in (await visitor.get((await visitor.kick("alice", "all")).place)).text
    assert not await world.presence.is_online(world.app.key, b"alice")
    entries, _ = await world.store.audit.page(world.app.key, 10, user=b"alice")
    first = entries[-1]
    assert (first.kind, first.by, first.why) == ("kicked", visitor.name, "too <b>loud</b>")


async def test_a_link_can_not_say_what_was_not_done(place: Place) -> None:
    visitor, other = await place.visitor(), await place.visitor()
    done = await other.kick("alice", "all")
    said = done.place.partition("said=")[2]
    for text in (said, "9" + said[1:], "9-1", "", "x.y", "%FF"):
        assert "closed" not in (await visitor.app(f"user?user=alice&said={text}")).text
    assert "closed" in (await other.get(done.place)).text


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "The field session must be a Session's id, or all"),
        ({"session": "x"}, "The field session must be the id that opening it answered"),
        ({"session": "all", "reason": "x" * 513}, "The field reason must be at most 512 characters"),
        ({"session": "all", "reason": b"\xff"}, "The field reason must be UTF-8"),
    ],
)
async def test_a_kick_that_can_not_be_read_says_why(place: Place, fields: dict[str, str | bytes], problem: str) -> None:
    visitor = await place.visitor()
    token = (await visitor.app("user")).form_token
    target = f"/console/{place.world.app.key}/user/kick"
    shown = await visitor.post(f"{target}?user=alice", {"form_token": token, **fields})
    assert (shown.status, problem in shown.text) == (400, True)
    assert (await visitor.post(target, {"form_token": token, "session": "all"})).status == 400
    assert (await visitor.post(f"{target}?user=a", {"form_token": token, "session": "y" * 300_000})).status == 413


async def test_every_rule_of_a_verdict_is_explained(place: Place) -> None:
    visitor = await place.visitor("viewer")
    await block(place, b"bob", b"alice")
    denied = await visitor.app("check?from=alice&to=bob")
    assert "No: the sender is on the recipient's Blacklist" in denied.text
    assert denied.text.count("passes") == 7 and "denies : the reason" in denied.text
    assert "its facts are complete to the second" in denied.text
    allowed = await visitor.app("check?from=bob&to=alice")
    assert "Yes: no rule denies it" in allowed.text and allowed.text.count("passes") == 8
    until_ms = now_ms() + 600_000
    await block(place, b"bob", b"carol", until_ms)
    timed = await visitor.app("check?from=carol&to=bob")
    assert "This may change by itself at 20" in timed.text
    assert "shadow mode" not in denied.text
    await place.world.set_app(msgspec.structs.replace(place.world.app, shadow=True))
    shadowed = await visitor.app("check?from=alice&to=bob")
    assert "No: the sender is on the recipient's Blacklist" in shadowed.text
    assert "This App is in shadow mode: every check answers allowed" in shadowed.text
    for target in ("check", "check?from=alice", "check?to=bob"):
        half = await visitor.app(target)
        assert (half.status, "Every rule" in half.text) == (200, False)


@pytest.mark.parametrize("raw", ODD_IDS)
async def test_any_id_can_be_shown_linked_and_kicked_and_is_only_text(place: Place, raw: bytes) -> None:
    visitor, query = await place.visitor(), quote_from_bytes(raw, safe="")
    session = await place.gateway_session(raw)
    await block(place, raw, raw)
    pages = [await visitor.app(f"user?user={query}"), await visitor.app(f"check?from={query}&to={query}")]
    pages.append(await visitor.app(f"user?user={quote_from_bytes(b64encode(raw), safe='')}&user_as=base64"))
    for shown in pages:
        assert shown.status == 200
        assert_sealed(shown)
        assert "<img src=x" not in shown.page and "<script>" not in shown.page and "{{ 49" not in shown.page
        assert "\u202e" not in shown.page
    assert f'value="{session}"' in pages[0].page and f'value="{session}"' in pages[2].page
    assert f"user?user={query}" in pages[1].page and "blacklisted" in pages[1].text
    assert (await visitor.kick(query, session)).status == 303
    assert not await place.world.presence.is_online(place.world.app.key, raw)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("user=" + "x" * 65, "must be 1 to 64 bytes, 65 were sent"),
        ("user=a&user=b", "must be given once"),
        ("user=!!&user_as=base64", "is not base64"),
        ("user=&user_as=base64", ""),
        ("user=a&user_as=hex", "must be text or base64"),
        ("user=a&user_as=%ff", "must be UTF-8"),
        ("user=" + b64encode(b"x" * 65).decode().replace("=", "%3D") + "&user_as=base64", "must be 1 to 64 bytes"),
    ],
)
async def test_an_invalid_id_is_reported_next_to_its_field(place: Place, query: str, problem: str) -> None:
    shown = await (await place.visitor()).app(f"user?{query}")
    assert (shown.status, problem in shown.text) == (400 if problem else 200, True)
    assert "<h2" not in shown.page and ("aria-invalid" in shown.page) is bool(problem)


async def test_a_bug_is_a_page_without_its_details(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(context: ConsoleContext) -> web.Response:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setitem(OF_APP, "check", OF_APP["check"]._replace(show=broken))
    shown = await (await place.visitor()).app("check")
    assert (shown.status, "Something is broken here" in shown.text, "secret" in shown.page) == (500, True, False)
    assert_sealed(shown)


async def test_a_query_without_end_is_refused_in_words(place: Place) -> None:
    shown = await (await place.visitor()).app("user?" + "a&" * 5_000)
    assert (shown.status, "must hold at most" in shown.text) == (400, True)


async def test_ids_stay_out_of_the_log(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    secret = os.urandom(8).hex()
    visitor = await place.visitor()
    await visitor.app(f"user?user={secret}")
    await visitor.app(f"check?from={secret}&to={secret}")
    await visitor.kick(secret, "all")
    logged = capsys.readouterr().out
    assert "/console/" in logged and secret not in logged and visitor.cookies["gate-console"] not in logged


async def test_with_redis_away_those_who_were_here_read_on(place: Place) -> None:
    visitor, viewer, late = await place.visitor(), await place.visitor("viewer"), await place.visitor()
    session = await place.gateway_session(b"alice")
    await block(place, b"bob", b"alice")
    for browser in (visitor, viewer):
        assert (await browser.get("/console/")).status == 200
    token = (await visitor.app("user?user=alice")).form_token
    stranger = Visitor(place.world, visitor.name)
    form = await stranger.get("/console/sign-in")
    async with place.redis_away():
        world = place.world
        await wait_until_async(lambda: world.node.is_following, 5, "the replicator to stay")
        for browser in (visitor, viewer):
            for target in ("overview", "user?user=alice", "check?from=alice&to=bob"):
                shown = await browser.app(target)
                assert (shown.status, "Redis can not be reached" in shown.text) == (200, True), target
                assert "Checks go on from this node's Replica; its facts are" in shown.text
                assert ">Kick</button>" not in shown.page
        assert "No: the sender is on the recipient's Blacklist" in (await visitor.app("check?from=alice&to=bob")).text
        assert "can not be reached" in await visitor.part("overview/live")
        assert world.app.key in (await visitor.get("/console/")).text
        kick = await visitor.post(
            f"/console/{world.app.key}/user/kick?user=alice", {"form_token": token, "session": session}
        )
        assert (kick.status, kick.headers["Retry-After"]) == (503, "1")
        assert "nothing was changed" in kick.text
        unknown = await late.app("overview")
        assert (unknown.status, "Who asks can't be verified" in unknown.text) == (503, True)
        assert "127.0.0.1" not in unknown.page and "reset" not in unknown.page
        sent = {"form_token": form.form_token, "name": visitor.name, "password": "x"}
        refused = await stranger.post("/console/sign-in", sent)
        assert (refused.status, "sign-in is not possible now" in refused.text) == (503, True)
        assert "127.0.0.1" not in refused.page
        assert (
            await viewer.post("/console/sign-out", {"form_token": (await viewer.app("user")).form_token})
        ).status == 303
        assert (await viewer.app("overview")).status == 303
    assert "Redis can not be reached" not in (await visitor.app("overview")).text
    assert await place.world.presence.is_online(place.world.app.key, b"alice")


async def test_an_operator_of_some_apps_sees_only_their_pages(place: Place) -> None:
    hidden = place.world.app
    await place.world.begin_app()
    visitor = await place.visitor()
    await place.world.store.operators.change(
        visitor.name, lambda one: msgspec.structs.replace(one, apps=(place.world.app.key,))
    )
    listed = await visitor.get("/console/")
    assert (listed.status, listed.place) == (303, f"/console/{place.world.app.key}/overview")
    assert (await visitor.app("overview")).status == 200
    for page in OF_APP:
        shown = await visitor.get(f"/console/{hidden.key}/{page}")
        assert shown.status == 404 and "There is no App" in shown.text, page
    token = (await visitor.app("user")).form_token
    kicked = await visitor.post(f"/console/{hidden.key}/user/kick?user=a", {"form_token": token, "session": ""})
    assert kicked.status == 404
