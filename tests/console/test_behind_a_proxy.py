"""The console and the document below a path that a proxy takes off: `--public-url`; and what proxies forward."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from gate.console.request_context import SESSION_COOKIE
from harness.servers import RedisServer
from tests.console.visitor import Visitor, begin_operator
from tests.http.world import running_world

PUBLIC = "https://im.example/gate/one"
PATH = "/gate/one"
LINK = re.compile(r'(?:href|src|action|data-live)="([^"#?][^"]*)"')


class Proxied(Visitor):
    """Reaches the console past a proxy that takes `PATH` off, and has the browser's Origin."""

    def inside(self, place: str) -> str:
        """What Gate is asked where the browser goes to this place."""
        assert place.startswith(PATH + "/"), place
        return place.removeprefix(PATH)


async def test_every_link_redirect_and_cookie_is_below_the_public_path(
    tmp_path: Path, private_redis: RedisServer
) -> None:
    async with running_world(private_redis.url, tmp_path, public_url=PUBLIC) as world:
        visitor = Proxied(world, await begin_operator(world))
        reply = await world.session.get(f"http://{world.server.host}:{world.server.port}/", allow_redirects=False)
        assert reply.headers["Location"] == f"{PATH}/console/"
        asked = await visitor.get("/console/")
        assert (asked.status, asked.place) == (303, f"{PATH}/console/sign-in")
        wanted = await visitor.get(f"/console/{world.app.key}/check?from=a&to=b")
        form = await visitor.get(visitor.inside(wanted.place))
        done = await visitor.sign_in(Origin="https://im.example")
        cookie = done.cookies[SESSION_COOKIE]
        assert (done.place, cookie["path"], cookie["secure"]) == (f"{PATH}/console/", f"{PATH}/console/", True)
        links = {link for page in (form, await visitor.app("check?from=a&to=b"), await visitor.app("user?user=a"),
                                     await visitor.app("overview"))
                 for link in LINK.findall(page.page)}  # fmt: skip
        assert len(links) > 5
        assert {link for link in links if not link.startswith(f"{PATH}/console/")} == set()
        for link in sorted(links):
            if re.search(r"\.(css|js|svg)", link):
                assert (await visitor.get(visitor.inside(link))).status == 200
        document = (await world.send("GET", "/openapi.json")).body
        assert document["servers"] == [{"url": PUBLIC}]


async def test_a_text_that_looks_like_a_link_is_left_alone(tmp_path: Path, private_redis: RedisServer) -> None:
    async with running_world(private_redis.url, tmp_path, public_url=PUBLIC) as world:
        visitor = Proxied(world, await begin_operator(world))
        await visitor.sign_in(Origin="https://im.example")
        shown = await visitor.app("check?from=/console/x&to=b")
        assert 'name="from" value="/console/x"' in shown.page
        form = {"form_token": shown.form_token, "users": "ann", "ends": "600", "reason": "/console/ops wants it"}
        asked = await visitor.post(f"/console/{world.app.key}/bans", form, Origin="https://im.example")
        assert visitor.hidden(asked)["reason"] == "/console/ops wants it"
        assert f'action="{PATH}/console/{world.app.key}/bans"' in asked.page
        keys = await visitor.app("keys")
        assert set(re.findall(r'="(/console/[^"]*)"', keys.page)) == set(), "no link is left out"


async def test_without_a_public_url_nothing_is_put_before_a_path(tmp_path: Path, private_redis: RedisServer) -> None:
    async with running_world(private_redis.url, tmp_path) as world:
        visitor = Visitor(world, await begin_operator(world))
        assert (await visitor.get("/console/")).place == "/console/sign-in"
        assert (await world.send("GET", "/openapi.json")).body["servers"] == [{"url": "/"}]


@pytest.mark.parametrize(
    "forwarded", [{"X-Forwarded-Proto": "https, http"}, {"Forwarded": "for=1.2.3.4;proto=https, proto=http"}]
)
@pytest.mark.parametrize("trusted", ["127.0.0.0/8", "10.0.0.0/8"])
async def test_a_trusted_proxy_reports_the_scheme_of_the_outermost_one(
    tmp_path: Path, private_redis: RedisServer, forwarded: dict[str, str], trusted: str
) -> None:
    async with running_world(private_redis.url, tmp_path, trusted_proxies=(ip_network(trusted),)) as world:
        visitor = Visitor(world, await begin_operator(world))
        form = await visitor.get("/console/sign-in", **forwarded)
        assert [bool(cookie["secure"]) for cookie in form.cookies.values()] == [trusted == "127.0.0.0/8"]


async def test_a_forwarded_host_of_no_trusted_proxy_opens_no_form(tmp_path: Path, private_redis: RedisServer) -> None:
    async with running_world(private_redis.url, tmp_path, trusted_proxies=(ip_network("10.0.0.0/8"),)) as world:
        visitor = Visitor(world, await begin_operator(world))
        await visitor.get("/console/sign-in")
        headers = {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"}
        assert (await visitor.sign_in(**headers)).status == 403
