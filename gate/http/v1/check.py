"""`/v1/check` and `/v1/explain`: may A message B? Answered from this node's Replica; Redis is never asked.

A denial is an answer, hence 200. The batch form is the fast one: ids are turned to bytes and measured by the list, and
all its words come from one commit; 1,000 pairs take about two milliseconds. Ids in a query string are percent-encoded
bytes of any kind; in JSON they are as `ids.py` says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from typing import cast

from gate.core.ids import MAX_ID_BYTES
from gate.core.verdict import Word
from gate.errors import InvalidInput
from gate.http.calls import Call
from gate.http.ports import AppView
from gate.http.v1.endpoint import Endpoint
from gate.http.v1.fresh import demanded, freshness, freshness_of
from gate.http.v1.ids import loose_id_bytes

MAX_PAIRS = 10_000
"""Of one batch: some 10 ms of this process, which serves others too."""

_SHAPES = 'must be {"pairs": [[from, to], …]} or {"from": id, "to": [id, …]}'


async def check(call: Call) -> dict[str, object]:
    """`GET ?from=&to=[&min=]` → allowed, verdict, until, revision, stale_ms."""
    query = call.query()
    sender, recipient = query.raw_user("from"), query.raw_user("to")
    view = await demanded(call, query.text("min"))
    fresh = freshness_of(call, (sender, recipient))
    verdict = view.verdict(sender, recipient)
    call.deps.count_verdicts({verdict.word: 1})
    return {
        "allowed": verdict.allowed,
        "verdict": verdict.word,
        "until": verdict.until_ms,
        "revision": fresh.revision,
        "stale_ms": fresh.stale_ms,
    }


async def check_batch(call: Call) -> dict[str, object]:
    """`POST` up to 10,000 pairs, or one sender and as many recipients → verdicts in order."""
    body = await call.batch()
    minimum = body.get("min")
    if not (minimum is None or isinstance(minimum, str)):
        raise InvalidInput("min", "must be a Revision as an answer gave it")
    ask = _question(body)
    view = await demanded(call, minimum)
    fresh = freshness(call)
    words = ask(view)
    call.deps.count_verdicts(Counter(words))
    return {"verdicts": words, "revision": fresh.revision, "stale_ms": fresh.stale_ms}


async def explain(call: Call) -> dict[str, object]:
    """`GET ?from=&to=[&min=]` → every rule with the facts it looked at."""
    query = call.query()
    sender, recipient = query.raw_user("from"), query.raw_user("to")
    view = await demanded(call, query.text("min"))
    fresh = freshness_of(call, (sender, recipient))
    return {**view.explain(sender, recipient), "revision": fresh.revision, "stale_ms": fresh.stale_ms}


def _question(body: dict[str, object]) -> Callable[[AppView], Sequence[Word]]:
    """What to ask of the view, once there is one."""
    if "pairs" in body:
        if "from" in body or "to" in body:
            raise InvalidInput("pairs", "must not come together with from and to")
        senders, recipients = pair_ids(_many(body["pairs"], "pairs"))
        return lambda view: view.words(senders, recipients)
    if "from" in body and "to" in body:
        sender = loose_id_bytes(body["from"], "from")
        many = many_ids(_many(body["to"], "to"), "to[{}]".format)
        return lambda view: view.words_to(sender, many)
    raise InvalidInput("body", _SHAPES)


def _many(value: object, parameter: str) -> list[object]:
    if not isinstance(value, list):
        raise InvalidInput(parameter, "must be an array")
    if len(value) > MAX_PAIRS:
        raise InvalidInput(parameter, f"must hold at most {MAX_PAIRS}, {len(value)} were sent")
    return value


def pair_ids(pairs: list[object]) -> tuple[list[bytes], list[bytes]]:
    """Senders and recipients of `[from, to]` or `{"from", "to"}` pairs."""
    if not pairs:
        return [], []
    columns = _columns(pairs) or list(zip(*map(_pair, pairs, count()), strict=True))
    senders, recipients = columns
    return many_ids(senders, "pairs[{}][0]".format), many_ids(recipients, "pairs[{}][1]".format)


def _columns(pairs: list[object]) -> Sequence[Sequence[object]] | None:
    """The usual case, arrays of two, turned over in one step; None for anything else."""
    if set(map(type, pairs)) != {list}:
        return None
    try:
        columns = list(zip(*cast("list[list[object]]", pairs), strict=True))
    except ValueError:
        return None
    return columns if len(columns) == 2 else None


def _pair(pair: object, index: int) -> tuple[object, object]:
    if isinstance(pair, dict) and "from" in pair and "to" in pair:
        return pair["from"], pair["to"]
    if isinstance(pair, list) and len(pair) == 2:
        return pair[0], pair[1]
    raise InvalidInput(f"pairs[{index}]", 'must be [from, to] or {"from": id, "to": id}')


def many_ids(values: Sequence[object], name: Callable[[int], str]) -> list[bytes]:
    """Ids as bytes. Strings alone, the usual case, are turned and measured without a step of Python for each."""
    try:
        ids = list(map(str.encode, cast("Sequence[str]", values)))
    except TypeError:  # something that is no string
        ids = []
    if ids and all(ids) and max(map(len, ids)) <= MAX_ID_BYTES:
        return ids
    return [loose_id_bytes(value, name(index)) for index, value in enumerate(values)]


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("/v1/check", "GET"): check,
    ("/v1/check", "POST"): check_batch,
    ("/v1/explain", "GET"): explain,
}
