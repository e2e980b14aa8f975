"""One User's page: what it shows, each of its acts, who may do them, and what a refusal leaves."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from gate.core.model import FOREVER_MS, ListKind, UserFacts
from gate.core.operators import ROLES, OperatorRole, may
from gate.core.token import verify
from gate.replica.reading import Reading
from tests.console.conftest import Place
from tests.console.test_pages import ODD_IDS, Tags
from tests.console.visitor import Shown, Visitor
from tests.http.world import now_ms

ACTS = {
    "ban": ("Ban ann?", "ann is banned until"), "unban": ("Lift the Ban of ann?", "ann is not banned any more."),
    "mute": ("Mute ann?", "ann is muted until"), "unmute": ("Lift the Mute of ann?", "ann is not muted any more."),
    "register": ("", "ann is registered."), "profile": ("", "The name and portrait of ann are changed."),
    "revoke": ("Revoke all Tokens of ann?", "All Tokens of ann are revoked."),
    "switch": ("Switch the Whitelist of ann off?", "The Whitelist of ann is off."),
    "deactivate": ("Deactivate ann?", "ann is deactivated."), "delete": ("Delete ann?", "ann is deleted."),
}  # fmt: skip


async def act(visitor: Visitor, path: str, user: str = "ann", /, **fields: str | bytes) -> Shown:
    """The answer to the form of an act on the User's page; `user` as it stands in a link."""
    token = (await visitor.app("check")).form_token
    return await visitor.post(
        f"/console/{visitor.world.app.key}/user/{path}?user={user}", {"form_token": token, **fields}
    )


async def facts(place: Place, user: bytes = b"ann") -> UserFacts:
    (found,) = await place.world.store.users.facts(place.world.app.key, [user])
    return found


async def registered(place: Place, user: bytes = b"ann", name: str | None = None) -> None:
    await place.world.store.users.enrol(place.world.app, user, now_ms(), name)


async def kinds(place: Place, user: bytes = b"ann") -> list[tuple[str, str, str]]:
    entries, _ = await place.world.store.audit.page(place.world.app.key, 50, user=user)
    return [(one.kind, one.by, one.why) for one in entries]


async def test_a_ban_is_asked_first_then_imposed_changed_and_lifted(place: Place) -> None:
    visitor = await place.visitor()
    asked = await act(visitor, "ban", ends="3600", reason="spam <b>")
    assert (asked.status, (await facts(place)).banned_until_ms) == (200, 0)
    assert "Ban ann?" in asked.text and "can't send or connect until 20" in asked.text and "spam <b>" in asked.text
    done = await act(visitor, "ban", confirmed="yes", ends="3600", reason="spam <b>")
    assert done.status == 303
    shown = await visitor.get(done.place)
    assert "ann is banned until 20" in shown.text and "Reason: spam <b> by operator" in shown.text
    assert 3_500_000 < (await facts(place)).banned_until_ms - now_ms() <= 3_600_000
    assert await place.world.word("ann", "bob") == "sender-banned"
    assert "Change the Ban…" in shown.text
    await act(visitor, "ban", confirmed="yes", ends="never")
    assert (await facts(place)).banned_until_ms == FOREVER_MS
    assert "banned without end" in (await visitor.app("user?user=ann")).text
    await act(visitor, "unban", confirmed="yes", reason="a mistake")
    assert await place.world.word("ann", "bob") == "allowed"
    assert (await kinds(place))[0] == ("ban-lifted", visitor.name, "a mistake")
    assert "a mistake" in (await visitor.app("audit?user=ann")).text and "/audit?user=ann" in shown.page


@pytest.mark.parametrize("name", ACTS)
async def test_each_act_says_what_it_did_and_is_audited(place: Place, name: str) -> None:
    visitor = await place.visitor("admin")
    question, said = ACTS[name]
    if name != "register":
        await registered(place)
    fields = {"ends": "600", "reason": "because", "name": "Ann", "portrait": "", "on": "no"}
    asked = await act(visitor, name, **fields)
    if question:
        assert (asked.status, question in asked.text) == (200, True)
        asked = await act(visitor, name, **visitor.hidden(asked))
    assert asked.status == 303
    assert said in (await visitor.get(asked.place)).text
    if name == "delete":  # with its audit
        return
    assert (await kinds(place))[0][1:] == (visitor.name, "because")


@pytest.mark.parametrize("role", ROLES)
async def test_forms_and_acts_hold_to_the_role(place: Place, role: OperatorRole) -> None:
    visitor = await place.visitor(role)
    await registered(place)
    page = (await visitor.app("user?user=ann")).page
    forms = set(re.findall(r'action="[^"]*/user/([a-z]+)\?', page))
    for name, needed in (*((name, "operator") for name in ("ban", "mute", "switch", "profile", "revoke", "deactivate")),
                         ("token", "admin"), ("delete", "admin")):  # fmt: skip
        assert (name in forms) == may(role, needed), name  # type: ignore[arg-type]
        sent = await act(visitor, name, confirmed="yes", ends="600")
        assert (sent.status == 403) != may(role, needed), name  # type: ignore[arg-type]
    assert ("you are a viewer" in page) == (role == "viewer")


async def test_an_operator_of_other_apps_sees_and_does_nothing_here(place: Place) -> None:
    visitor = await place.visitor()
    token = (await visitor.app("check")).form_token
    await place.world.store.operators.change(visitor.name, lambda one: msgspec.structs.replace(one, apps=("other",)))
    key = place.world.app.key
    for page in (
        "user",
        "user?user=ann",
        "bans",
        "mutes",
        "deactivated",
        "user/list?user=ann",
        "user/dossier?user=ann",
    ):
        assert (await visitor.get(f"/console/{key}/{page}")).status == 404
    for target in ("user/ban?user=ann", "bans", "deactivated", "user/list?user=ann"):
        sent = await visitor.post(f"/console/{key}/{target}", {"form_token": token, "users": "ann", "confirmed": "yes"})
        assert sent.status == 404
    assert (await facts(place)).banned_until_ms == 0


async def test_a_foreign_form_and_redis_away_change_nothing(place: Place) -> None:
    visitor = await place.visitor()
    target = f"/console/{place.world.app.key}/user/ban?user=ann"
    form: dict[str, str | bytes] = {"form_token": (await visitor.app("check")).form_token, "confirmed": "yes"}
    assert (await visitor.post(target, {**form, "form_token": "x"})).status == 403
    assert (await visitor.post(target, form, Origin="https://evil.example")).status == 403
    async with place.redis_away():
        assert (await visitor.post(target, form)).status == 503
        shown = await visitor.app("user?user=ann")
        assert (shown.status, "not banned" in shown.text, "/user/ban" in shown.page) == (200, True, False)
    assert (await facts(place)).banned_until_ms == 0


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"ends": "at", "until": "2001-01-01T00:00"}, "must be in the future"),
        ({"ends": "at", "until": ""}, "must be a moment in UTC"),
        ({"ends": "600", "reason": "x" * 513}, "must be at most 512 characters"),
    ],
)
async def test_a_wrong_form_is_shown_again_as_it_was_sent(place: Place, fields: dict[str, str], problem: str) -> None:
    visitor = await place.visitor()
    for sent in (await act(visitor, "ban", **fields), await act(visitor, "ban", confirmed="yes", **fields)):
        assert (sent.status, problem in sent.text) == (400, True)
        inputs = [
            attributes for tag, attributes in Tags.of(sent.page) if tag == "input" and "aria-invalid" in attributes
        ]
        assert len(inputs) == 1 and inputs[0]["value"] in fields.values()
        assert f'value="{fields["ends"]}" selected' in sent.page
    assert (await facts(place)).banned_until_ms == 0


async def test_refusals_stand_next_to_their_form(place: Place) -> None:
    visitor = await place.visitor("admin")
    await place.world.store.deactivation.deactivate(place.world.app.key, [b"ann"], now_ms())
    for name, problem in (
        ("mute", "The User is deactivated"),
        ("reactivate", "can be reactivated from 20"),
        ("register", "is deactivated"),
    ):
        sent = await act(visitor, name, confirmed="yes", ends="600")
        assert (sent.status, problem in sent.text) == (400, True), name
    sent = await act(visitor, "register", "a%20b")
    assert (sent.status, "Only an id of letters" in sent.text) == (400, True)
    sent = await act(visitor, "profile", "stranger", name="x")
    assert (sent.status, "No User is registered under this id." in sent.text) == (400, True)
    await place.world.set_app(msgspec.structs.replace(place.world.app, user_limit=1))
    await registered(place, b"one")
    sent = await act(visitor, "register", "two")
    assert (sent.status, "limit of 1 registered Users" in sent.text) == (400, True)


async def test_an_unknown_id_says_so_and_can_be_registered(place: Place) -> None:
    visitor = await place.visitor()
    shown = await visitor.app("user?user=stranger")
    assert "Gate knows nothing of this id" in shown.text and "Register this User" in shown.text
    done = await act(
        visitor, "register", "stranger", name="A Stranger", portrait="javascript:alert(1)", reason="asked for"
    )
    shown = await visitor.get(done.place)
    assert "stranger is registered." in shown.text and "knows nothing" not in shown.text and "A Stranger" in shown.text
    assert not [1 for tag, attributes in Tags.of(shown.page) if "javascript:" in attributes.get("href", "")]
    assert (await kinds(place, b"stranger"))[0] == ("user-registered", visitor.name, "asked for")


async def test_a_token_is_shown_once_and_opens_its_user(place: Place) -> None:
    visitor = await place.visitor("admin")
    asked = await act(visitor, "token", reason="a test device")
    assert asked.status == 200 and "is not stored" in asked.text
    shown = await act(visitor, "token", **visitor.hidden(asked))
    (token,) = re.findall(r"<textarea[^>]*>([^<]+)</textarea>", shown.page)
    reading = Reading(place.world.node.directory)
    with reading:
        assert verify(token, reading.app, now_ms()).user == b"ann"
    reading.close()
    assert shown.headers["Cache-Control"] == "no-store"
    assert ("token-minted", visitor.name, "a test device") in await kinds(place)
    assert token not in (await visitor.app("user?user=ann")).page


async def test_the_dossier_is_a_file_of_everything(place: Place) -> None:
    visitor = await place.visitor("viewer")
    await registered(place, name="Ann")
    sent = await visitor.app("user/dossier?user=ann")
    assert sent.headers["Content-Disposition"] == 'attachment; filename="dossier.json"'
    assert (json.loads(sent.page)["name"], sent.headers["Cache-Control"]) == ("Ann", "no-store")
    assert (await visitor.app("user/dossier?user=stranger")).status == 404


@pytest.mark.parametrize("user", ODD_IDS)
async def test_any_id_is_banned_listed_and_only_text(place: Place, user: bytes) -> None:
    visitor, query = await place.visitor(), "".join(f"%{byte:02X}" for byte in user)
    done = await act(visitor, "ban", query, confirmed="yes", ends="never")
    assert (await facts(place, user)).banned_until_ms == FOREVER_MS
    shown = [await visitor.get(done.place), await visitor.app("bans"), await visitor.app(f"user/list?user={query}")]
    for page in shown:
        tags = Tags.of(page.page)
        assert page.status == 200 and not [
            1 for _, attributes in tags if any(name.startswith("on") for name in attributes)
        ]
        assert {tag for tag, _ in tags} >= {"main"} and "alert" not in str([one for one in tags if one[0] == "script"])
    lift = next(a["value"] for tag, a in Tags.of(shown[1].page) if tag == "button" and a.get("name") == "id")
    token = shown[1].form_token
    target = f"/console/{place.world.app.key}/bans"
    await visitor.post(target, {"form_token": token, "id": lift, "confirmed": "yes"})
    assert (await facts(place, user)).banned_until_ms == 0


async def test_lists_are_searched_added_to_and_removed_from(place: Place) -> None:
    visitor, world = await place.visitor(), place.world
    target = f"/console/{world.app.key}/user/list?user=ann&kind=blacklist"
    token = (await visitor.get(target)).form_token
    users = "\n".join(f"enemy-{number}" for number in range(60))
    done = await visitor.post(target, {"form_token": token, "users": users, "ends": "never", "reason": "feud"})
    assert "60 Users are on the Blacklist." in (await visitor.get(done.place)).text
    assert await world.word("enemy-7", "ann") == "blacklisted"
    first = await visitor.get(target)
    (following,) = re.findall(r'rel="next" href="([^"]+)"', first.page)
    second = await visitor.get(following.replace("&amp;", "&"))
    assert (first.page.count("<tr>"), second.page.count("<tr>")) == (51, 11)
    found = await visitor.get(target + "&match=NEMY-7")
    assert found.page.count('name="id"') == 1 and "enemy-7" in found.text
    (member,) = re.findall(r'name="id" value="([^"]+)"', found.page)
    done = await visitor.post(target, {"form_token": token, "id": member, "reason": "made up"})
    assert "1 User is off the Blacklist." in (await visitor.get(done.place)).text
    assert await world.word("enemy-7", "ann") == "allowed"
    assert [(kind, why) for kind, _, why in await kinds(place)] == [("unblocked", "made up"), ("blocked", "feud")]
    assert "Blacklist: 59 entries" in (await visitor.app("user?user=ann")).text


async def test_a_list_that_is_full_or_a_wrong_form_says_so(place: Place) -> None:
    visitor, world = await place.visitor(), place.world
    await world.set_app(msgspec.structs.replace(world.app, list_ceiling=2))
    target = f"/console/{world.app.key}/user/list?user=ann&kind=whitelist"
    token = (await visitor.get(target)).form_token
    for fields, problem in (
        ({"users": "a\nb\nc"}, "ceiling of 2 entries"), ({"users": " "}, "at least one id"),
        ({"users": "x" * 65}, "1 to 64 bytes"),
        ({"users": "a", "ends": "at", "until": "x"}, "a moment in UTC"), ({"id": "%"}, "is not base64"),
    ):  # fmt: skip
        sent = await visitor.post(target, {"form_token": token, **fields})
        assert (sent.status, problem in sent.text) == (400, True), fields
    assert (await facts(place)).whitelist_size == 0
    assert (await visitor.get(target.replace("whitelist", "greylist"))).status == 400
    async with place.redis_away():
        away = await visitor.get(target)
        assert (away.status, "Entries are listed by Redis" in away.text) == (200, True)


async def test_what_would_change_a_denial_is_one_act_away(place: Place) -> None:
    visitor, world = await place.visitor("admin"), place.world
    await world.set_app(msgspec.structs.replace(world.app, require_registered=True))
    key = world.app.key
    await world.store.bans.impose(key, [b"a"], FOREVER_MS, now_ms(), "spam", "ops")
    await world.store.mutes.impose(key, [b"a"], FOREVER_MS, now_ms())
    await world.store.lists.switch(key, [b"b"], True, now_ms())
    written = await world.store.lists.add(key, ListKind.BLACKLIST, b"b", [b"a"], FOREVER_MS, now_ms(), 10)
    assert await world.node.acks.wait(written, 5_000) == "all"
    labels: list[str] = []
    for _ in range(12):
        page = await visitor.app("check?from=a&to=b")
        if "Yes:" in page.text:
            break
        assert "What would change it" in page.text
        form = page.page.split('<ul class="entries">')[1].split("</form>")[0]
        (target,) = re.findall(r'action="([^"]+)"', form)
        labels += re.findall(r"<button[^>]*>([^<]+)</button>", form)
        fields = dict(re.findall(r'name="([a-z_]+)" value="([^"]*)"', form))
        sent = await visitor.post(target.replace("&amp;", "&"), fields)
        if sent.status == 200:
            sent = await visitor.post(
                target.replace("&amp;", "&"), {"form_token": sent.form_token, **visitor.hidden(sent)}
            )
        assert sent.status == 303, sent.text
        assert sent.place.startswith(f"/console/{key}/check?from=a&to=b&said=")
    assert labels == [
        "Register a", "Lift the Ban of a…", "Lift the Mute of a…", "Register b", "Put a on the Whitelist of b",
    ]  # fmt: skip
    await world.store.lists.switch(key, [b"b"], False, now_ms())
    viewer = await place.visitor("viewer")
    shown = await viewer.app("check?from=a&to=b")
    assert "Take a off the Blacklist of b" in shown.text and "/user/list" not in shown.page


async def test_why_a_sender_was_banned_stands_with_the_verdict(place: Place) -> None:
    visitor, world = await place.visitor("viewer"), place.world
    written = await world.store.bans.impose(world.app.key, [b"a"], FOREVER_MS, now_ms(), "spam", "ops")
    assert await world.node.acks.wait(written, 5_000) == "all"
    assert "Reason: spam by ops" in (await visitor.app("check?from=a&to=b")).text
    async with place.redis_away():
        assert "No: the sender is banned" in (await visitor.app("check?from=a&to=b")).text
