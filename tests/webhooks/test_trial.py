"""A test call of a webhook: what it sends, what it shows, and to whom an answer's text may be shown."""

from __future__ import annotations

import msgspec
import pytest

from gate.core.model import AppFacts
from gate.core.operators import Operator, OperatorRole
from gate.errors import Refused
from gate.webhooks import posting
from gate.webhooks.trial import SHOWN_BYTES, may_show_text, try_webhook
from tests.webhooks.receiver import Receiver

NOW = 1_700_000_000_000
APP = AppFacts(key="default", secrets=("current-secret", "old-secret"))


async def test_a_sample_of_results_is_signed_and_marked_as_one(listener: Receiver) -> None:
    app = msgspec.structs.replace(APP, webhook_url=f"{listener.url}/hook")
    trial = await try_webhook(app, "results", NOW)
    assert (trial.status, trial.text, trial.problem, trial.addresses) == (200, "whatever", "", ("127.0.0.1",))
    assert (trial.outcome, 0 <= trial.took_ms < 5_000) == ("it answered 200", True)
    (callback,) = listener.callbacks
    assert callback.is_signed_by("current-secret")
    assert callback.form[b"userId"] == b"gate-test"
    assert callback.form[b"operateId"] == b"TEST-TEST-TEST-TEST"


async def test_a_sample_of_presence_has_the_form_of_presence(listener: Receiver) -> None:
    trial = await try_webhook(msgspec.structs.replace(APP, presence_webhook_url=listener.url), "presence", NOW)
    assert trial.status == 200
    (change,) = msgspec.json.decode(listener.callbacks[0].body)
    assert (change["userid"], change["status"], change["time"]) == ("gate-test", "0", NOW)


async def test_a_redirect_is_shown_and_not_followed(listener: Receiver) -> None:
    listener.statuses = [302]
    trial = await try_webhook(msgspec.structs.replace(APP, webhook_url=listener.url), "results", NOW)
    assert (trial.status, len(listener.callbacks)) == (302, 1)


async def test_no_answer_has_a_reason_without_the_address(listener: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "TIMEOUT_S", 0.2)
    listener.statuses = [0]
    trial = await try_webhook(msgspec.structs.replace(APP, webhook_url=listener.url), "results", NOW)
    assert (trial.status, trial.outcome) == (0, "no answer within 0.2 s")
    nothing = msgspec.structs.replace(APP, webhook_url="http://127.0.0.1:1/secret-path")
    trial = await try_webhook(nothing, "results", NOW)
    assert trial.outcome == "it could not be reached (ClientConnectorError)"


async def test_an_app_without_the_webhook_is_refused() -> None:
    with pytest.raises(Refused, match="presence_webhook_url is empty"):
        await try_webhook(msgspec.structs.replace(APP, webhook_url="http://127.0.0.1:1/"), "presence", NOW)


async def test_a_long_answer_is_cut_and_its_control_characters_escaped(
    listener: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "text", "<b>\x1b[0m" + "x" * 5_000)
    trial = await try_webhook(msgspec.structs.replace(APP, webhook_url=listener.url), "results", NOW)
    assert trial.text.startswith("<b>\\x1b[0mxxx")
    assert len(trial.text) == SHOWN_BYTES + len("\\x1b") - 1


def operator(role: OperatorRole, apps: tuple[str, ...] | None) -> Operator:
    return Operator(name="ada", role=role, password_hash="x", created_at_ms=1, apps=apps)


@pytest.mark.parametrize(
    ("address", "shown_to_some", "shown_to_all"),
    [
        ("93.184.216.34", True, True),
        ("2606:2800:220:1:248:1893:25c8:1946", True, True),
        ("10.0.0.1", False, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("fd00::1", False, True),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("fe80::1%eth0", False, False),
        ("64:ff9b::a00:1", False, True),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("2002:a9fe:a9fe::1", False, False),
        ("168.63.129.16", False, False),
        ("100.100.100.200", False, False),
        ("192.0.0.192", False, False),
        ("fd00:ec2::254", False, False),
        ("::ffff:100.100.100.200", False, False),
    ],
)
def test_whose_answers_are_shown_to_whom(address: str, shown_to_some: bool, shown_to_all: bool) -> None:
    assert may_show_text((address,), operator("admin", ("default",))) is shown_to_some
    assert may_show_text((address,), operator("operator", None)) is shown_to_some
    assert may_show_text((address,), operator("admin", None)) is shown_to_all
    assert may_show_text(("93.184.216.34", address), operator("admin", ("default",))) is shown_to_some
    assert not may_show_text((), operator("admin", None))
