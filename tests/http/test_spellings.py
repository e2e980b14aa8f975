"""Each path has one spelling: what a proxy's filter does not know, Gate does not serve."""

from __future__ import annotations

import pytest

from gate.http.routing import is_plain_target, routed
from tests.http.lines import Line, a_check, a_request
from tests.http.test_apps import ask, begin_operator
from tests.http.world import World, basic, signed

ROUTES = ["/metrics", "/healthz", "/docs", "/openapi.json", "/console/", "/v1/apps", "/v1/check", "/user/block.json"]


def spellings(path: str) -> list[str]:
    """Other spellings, each of which some server, proxy or framework takes for the path."""
    first, letter = path[1:].partition("/")[0], path[1]
    return [
        *([f"/{path}", f"{path}//"] if first != "user" else []),
        f"/%{ord(letter):02x}{path[2:]}",
        f"/%{ord(letter):02X}{path[2:]}",
        f"/%25{ord(letter):02x}{path[2:]}",
        f"/.{path}",
        f"/%2e{path}",
        f"/x/..{path}",
        f"/x/%2e%2e{path}",
        f"/x/..%2f{path[1:]}",
        f"/%2f{path[1:]}",
        f"/{first}%2f{path[1:].partition('/')[2]}",
        f"{path};x",
        f"{path};x=y",
        f"/;{path}",
        f"{path}%20",
        f"{path}%00",
        f"{path}%3fx",
        f"{path}#x",
        f"{path}%23x",
        # Below /v1/apps stands the key of an App.
        *([f"{path.rstrip('/')}/."] if path != "/v1/apps" else []),
        path.upper(),
        path.replace("/", "\\"),
    ]


@pytest.mark.parametrize("path", ROUTES)
async def test_no_other_spelling_of_a_path_is_served(world: World, path: str) -> None:
    method = b"POST" if path.startswith("/user/") else b"GET"
    assert b" 404 " not in (await answered(world, method, path))[:13]
    for other in spellings(path):
        head = await answered(world, method, other)
        # Below the console's prefix, a stranger learns nothing but where to sign in.
        is_sign_in = b" 303 " in head[:13] and b"Location: /console/sign-in" in head and other.startswith("/console/")
        is_refused = b" 404 " in head[:13] or b" 400 " in head[:13]
        assert is_refused or is_sign_in, (other, head)
        if b" 404 " in head[:13]:
            assert (b'"code":404' in head) == (other.endswith(".json") or other.startswith("/user/")), (other, head)


async def test_an_app_has_one_spelling_in_a_path(world: World) -> None:
    """Otherwise a proxy that refuses the removal of `shop` would pass on that of `%73hop`."""
    operator = await begin_operator(world, "admin")
    key = world.app.key
    assert (await ask(world, operator, "GET", f"apps/{key}")).status == 200
    for other in (f"%{ord(key[0]):02x}{key[1:]}", f"{key[:-1]}%{ord(key[-1]):02X}", f"{key}%00", f"%2e%2e%2f{key}"):
        assert (await ask(world, operator, "GET", f"apps/{other}")).status in (400, 404), other


@pytest.mark.parametrize("origin", ["http://gate", "HTTPS://gate:1", "http://u:p@gate"])
async def test_an_absolute_target_is_the_path_that_it_names(world: World, origin: str) -> None:
    for path, status in (
        ("/healthz", 200),
        ("/%68ealthz", 404),
        ("/x/../healthz", 404),
        ("//healthz", 404),
        ("?", 302),
    ):
        assert b" %d " % status in (await answered(world, b"GET", origin + path))[:13], path
    head = await answered(world, b"GET", f"{origin}/v1/users/a%2Fb/dossier", basic(world.app))
    assert b"no User is registered as 'a/b'" in head


@pytest.mark.parametrize(
    ("method", "target"), [(b"OPTIONS", "*"), (b"CONNECT", "gate:80"), (b"GET", "ftp://gate/healthz"), (b"PRI", "*")]
)
async def test_other_kinds_of_targets_name_nothing(world: World, method: bytes, target: str) -> None:
    head = await answered(world, method, target)
    assert b" 404 " in head[:13] or b" 400 " in head[:13], head


async def test_slashes_are_merged_under_user_alone(world: World) -> None:
    for target, status in (
        ("//user//block.json", 1002),
        ("//v2//message/broadcast.json", 1009),
        ("//x.json", 404),
        ("//openapi.json", 404),
        ("/user//%62lock.json", 404),
    ):
        head = await answered(world, b"POST", target, signed(world.app))
        assert b'"code":%d' % status in head, (target, head)
    assert (await world.v1("GET", "/check?from=a&to=b")).status == 404
    assert (await world.v1("GET", "users//a/dossier")).status == 404


async def test_ids_are_bytes_of_any_kind_in_their_place_only(world: World) -> None:
    for user in ("..", "%2e%2e", ".", ";", "a;b", "%61", "a%2f..%2f", "%23", "a%3F", "%25"):
        reply = await world.v1("GET", f"users/{user}/dossier")
        assert reply.body["message"].startswith("no User is registered as"), user
        assert (await world.v1("GET", f"users/{user}/%64ossier")).status == 404, user
        assert (await world.v1("GET", f"%75sers/{user}/dossier")).status == 404, user
        assert (await world.v1("GET", f"users/{user};/dossier")).status == 404, user
    assert (await world.v1("GET", "users/a/../apps")).status == 404


async def test_the_short_way_looks_up_the_same_paths(world: World) -> None:
    line = await Line.to(world.server)
    for spelling, status in (
        ("/v1/check?from=a&to=b", 200),
        ("/v1/check?from=a&to=b#x", 200),
        ("http://gate/v1/check?from=a&to=b", 200),
        ("/v1//check?from=a&to=b", 404),
        ("/v1/%63heck?from=a&to=b", 404),
        ("/v1/check/?from=a&to=b", 404),
        ("/v1/check#?from=a&to=b", 404),
        ("/v1/check;?from=a&to=b", 404),
        ("/v1/./check?from=a&to=b", 404),
    ):
        [answer] = await line.ask(a_request(f"GET {spelling} HTTP/1.1", basic(world.app)))
        assert b" %d " % status in answer[:13], (spelling, answer)
    assert b" 200 " in (await line.ask(a_check(world)))[0][:13]
    line.end()


@pytest.mark.parametrize(
    "target", ["/", "/?a", "/v1/users/a.b", "/user/block.json?x=//%41", "/console/console.css", "/v1/"]
)
def test_a_plain_target_is_left_as_it_is(target: str) -> None:
    assert is_plain_target(target)
    assert routed(target)[0] == target
    assert routed(target)[1].path == target.partition("?")[0]


async def answered(world: World, method: bytes, target: str, headers: dict[str, str] | None = None) -> bytes:
    line = await Line.to(world.server)
    [answer] = await line.ask(a_request(f"{method.decode()} {target} HTTP/1.1", headers or {}))
    line.end()
    return answer
