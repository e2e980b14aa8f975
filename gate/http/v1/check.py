"""`/v1/check` and `/v1/explain`: may A message B? Answered from this node's Replica; Redis is never asked.

A denial is an answer, hence 200. The batch form is the fast one: ids are turned to bytes and measured by the list, and
all its words come from one commit; 1,000 pairs take about two milliseconds. Ids in a query string are percent-encoded
bytes of any kind; in JSON they are as `gate.http.fields` describes.

The age of the facts is asked before they are read. The Revision and the Verdict are of one commit.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Annotated, ClassVar, cast

import msgspec
from msgspec import Meta, Struct

from gate.clock import monotonic_ms, wall_ms
from gate.core.ids import MAX_ID_BYTES
from gate.core.limits import limit_names
from gate.core.model import StalePolicy
from gate.core.revision import MAX_REVISIONS, parse_revisions
from gate.core.scopes import CHECK
from gate.core.verdict import ALLOWED, Verdict, Word
from gate.errors import GateError, InvalidInput
from gate.http.auth import fast_caller
from gate.http.context import AppRequest, Deps, query_of
from gate.http.endpoint import Endpoint
from gate.http.errors import MinimumUnmet
from gate.http.fields import Revision, loose_id_bytes
from gate.http.forms import Query
from gate.http.options import MIN_POLL_S, MIN_WAIT_MS
from gate.http.requests import Schema
from gate.replica.app_reading import AppReading
from gate.replica.positions import reaches, revision_of, texts_of_all
from gate.replica.reader import app_of, explained
from gate.replica.reading import Reading

PATH = "/v1/check"
# Once, at import, since they depend on the path alone.
LIMITS = limit_names(PATH)
# Of one batch: some 10 ms of this process, which serves others too.
MAX_PAIRS = 10_000

# The usual query, whose ids need no decoding: a quarter of the time that `query_of` takes, by which it is defined.
_PLAIN = re.compile(rf"{PATH}\?from=([A-Za-z0-9._~-]{{1,64}})&to=([A-Za-z0-9._~-]{{1,64}})").fullmatch
_SHAPES = 'must be {"pairs": [[from, to], …]} or {"from": id, "to": [id, …]}'


class CheckQuery(Query, frozen=True):
    """One question about two Users."""

    sender: bytes = msgspec.field(name="from")
    recipient: Annotated[bytes, Meta(extra_json_schema={"examples": ["bob"]})] = msgspec.field(name="to")
    min: Revision | None = None


class PairNamed(Struct):
    """One question, its two Users named."""

    sender: bytes = msgspec.field(name="from")
    recipient: bytes = msgspec.field(name="to")


class CheckPairs(Struct):
    """Questions about any two Users each."""

    SCHEMA: ClassVar[Schema] = {"not": {"anyOf": [{"required": ["from"]}, {"required": ["to"]}]}}

    pairs: Annotated[
        list[Annotated[list[bytes], Meta(min_length=2, max_length=2)] | PairNamed],
        Meta(max_length=MAX_PAIRS, examples=[[["alice", "bob"], ["bob", "alice"]]]),
    ]
    min: Revision | None = None


class CheckMany(Struct):
    """One sender, many recipients."""

    SCHEMA: ClassVar[Schema] = {"not": {"required": ["pairs"]}}

    sender: bytes = msgspec.field(name="from")
    recipients: Annotated[list[bytes], Meta(max_length=MAX_PAIRS, examples=[["bob", "carol"]])] = msgspec.field(
        name="to"
    )
    min: Revision | None = None


class VerdictAnswer(Struct, kw_only=True):
    """`until` is when the Verdict may change by itself; `stale_ms` the age of the facts, 0 while fresh."""

    allowed: bool
    verdict: Word
    until: int | None
    revision: str | None
    stale_ms: int


class VerdictsAnswer(Struct, kw_only=True):
    """In the order of the questions, all from the same facts."""

    verdicts: Sequence[Word]
    revision: str | None
    stale_ms: int


class RuleExplained(Struct, kw_only=True):
    """One rule, with the facts that it looked at."""

    rule: Word
    denies: bool
    until: int | None
    facts: dict[str, bool | int | str | None]


class Explanation(Struct, kw_only=True, rename={"sender": "from", "recipient": "to"}):
    """Every rule in order, those after the first that denies as well.

    In shadow mode a check is `answered` allowed, whatever the verdict. `on_stale` and `max_staleness_ms`: the failure policy.
    """

    verdict: Word
    allowed: bool
    until: int | None
    now: int
    app: str
    sender: str
    recipient: str
    exempt: bool
    shadow: bool
    answered: Word
    on_stale: StalePolicy
    max_staleness_ms: int
    rules: list[RuleExplained]
    revisions: list[str]
    revision: str | None
    stale_ms: int


async def check(call: AppRequest, query: CheckQuery) -> VerdictAnswer:
    """`GET ?from=&to=[&min=]` → allowed, verdict, until, revision, stale_ms."""
    pair = query.sender, query.recipient
    await wait_for_revision(call, query.min)
    stale_ms = call.deps.replica.stale_ms()
    with call.deps.replica as snapshot:
        verdict = _young_app(call, snapshot, stale_ms).decide(*pair, wall_ms())
        revision = revision_of(snapshot, call.app_key, pair)
    return _answered(call.deps, verdict, revision, stale_ms)


def fast_check(deps: Deps, headers: Mapping[str, str], raw_path: str) -> VerdictAnswer | None:
    """What `check` answers, from one snapshot, the caller's credentials included.

    None, or a `GateError`, where the answer is another one than 200, or has to wait for a Revision. Nothing was counted then,
    and `check` decides.
    """
    stale_ms = deps.replica.stale_ms()
    with deps.replica as snapshot:
        called = fast_caller(headers, snapshot)
        if called is None:
            return None
        app, caller = called
        # Every refusal is left to `check`, which counts it and words it in one place.
        if not caller.scopes.issuperset(CHECK):
            return None
        plain = _PLAIN(raw_path)
        if plain is not None:
            pair = plain[1].encode(), plain[2].encode()
        else:
            query = query_of(raw_path)
            pair = query.raw_user("from"), query.raw_user("to")
            minimum = query.text("min")
            if minimum is not None and reaches(snapshot, parse_revisions(minimum)) is not True:
                return None
        if stale_ms:
            deps.refuse_stale_ms(stale_ms, app.app)
        if app.app.rate_limits:
            deps.limiter.spend(app.app, LIMITS)  # before the decision, which counts what shadow mode answers
        verdict = app.decide(*pair, wall_ms())
        revision = revision_of(snapshot, app.app.key, pair)
    return _answered(deps, verdict, revision, stale_ms)


def _young_app(call: AppRequest, snapshot: Reading, stale_ms: int) -> AppReading:
    """The App's facts, if they are as young as its failure policy demands; else `Stale`."""
    app = app_of(snapshot, call.app_key)
    call.deps.refuse_stale_ms(stale_ms, app.app)
    return app


def _answered(deps: Deps, verdict: Verdict, revision: str, stale_ms: int) -> VerdictAnswer:
    deps.count_verdicts({verdict.word: 1})
    return VerdictAnswer(
        allowed=verdict.word == ALLOWED,
        verdict=verdict.word,
        until=verdict.until_ms,
        revision=revision,
        stale_ms=stale_ms,
    )


async def check_batch(call: AppRequest) -> VerdictsAnswer:
    """`POST` up to 10,000 pairs, or one sender and as many recipients → verdicts in order."""
    body = await call.batch()
    # The prompt way awaits nothing, so it costs no turn of the loop.
    return batch_promptly(call, body) or await _batch(call, body)


def batch_promptly(call: AppRequest, body: dict[str, object]) -> VerdictsAnswer | None:
    """What `_batch` answers to ids of text, which are looked at once and by the core where there is one.

    None where anything is unusual or wrong. Nothing was counted then, and `_batch` decides.
    """
    pairs = _usual_pairs(body)
    if pairs is None:
        return None
    try:
        stale_ms = call.deps.replica.stale_ms()
        with call.deps.replica as snapshot:
            revision = revision_of_all(snapshot)
            words, counts = _young_app(call, snapshot, stale_ms).words_of(pairs)
    # TypeError: an id that is no text. Each of these is met again, and worded, in `_batch`.
    except (GateError, TypeError):
        return None
    call.deps.count_verdicts(counts)
    return VerdictsAnswer(verdicts=words, revision=revision, stale_ms=stale_ms)


def _usual_pairs(body: dict[str, object]) -> list[object] | None:
    """The pairs of a body in one of the two usual forms; whether they are of text is not looked at."""
    pairs, sender, recipients = body.get("pairs"), body.get("from"), body.get("to")
    if "min" in body:
        return None
    if isinstance(pairs, list):
        return pairs if len(pairs) <= MAX_PAIRS and "from" not in body and "to" not in body else None
    if "pairs" in body or not isinstance(sender, str) or not isinstance(recipients, list):
        return None
    # Without a recipient nothing would look at the sender.
    # The core takes pairs alone; ten thousand lists of two are a millisecond.
    return [[sender, one] for one in recipients] if 0 < len(recipients) <= MAX_PAIRS else None


async def _batch(call: AppRequest, body: dict[str, object]) -> VerdictsAnswer:
    minimum = body.get("min")
    if not (minimum is None or isinstance(minimum, str)):
        raise InvalidInput("min", "must be a Revision as an answer gave it")
    ask = _question(body)
    await wait_for_revision(call, minimum)
    stale_ms = call.deps.replica.stale_ms()
    with call.deps.replica as snapshot:
        revision = revision_of_all(snapshot)
        words = ask(_young_app(call, snapshot, stale_ms))
    # Counted behind the snapshot: the read transaction is open for as short as can be.
    call.deps.count_verdicts(Counter(words))
    return VerdictsAnswer(verdicts=words, revision=revision, stale_ms=stale_ms)


async def explain(call: AppRequest, query: CheckQuery) -> Explanation:
    """`GET ?from=&to=[&min=]` → every rule with the facts it looked at."""
    pair = query.sender, query.recipient
    await wait_for_revision(call, query.min)
    stale_ms = call.deps.replica.stale_ms()
    with call.deps.replica as snapshot:
        _young_app(call, snapshot, stale_ms)
        revision = revision_of(snapshot, call.app_key, pair)
        members = {**explained(snapshot, call.app_key, *pair), "revision": revision, "stale_ms": stale_ms}
    return msgspec.convert(members, Explanation)


def _question(body: dict[str, object]) -> Callable[[AppReading], Sequence[Word]]:
    """What to ask of the App's facts."""
    if "pairs" in body:
        if "from" in body or "to" in body:
            raise InvalidInput("pairs", "must not come together with from and to")
        senders, recipients = pair_ids(_many(body["pairs"], "pairs"))
        return lambda app: app.words(senders, recipients)
    if "from" in body and "to" in body:
        sender = loose_id_bytes(body["from"], "from")
        many = many_ids(_many(body["to"], "to"), "to[{}]".format)
        return lambda app: app.words_to(sender, many)
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
    # In C: a step of Python for each pair would cost more than its Verdict.
    if set(map(type, pairs)) != {list}:
        return None
    try:
        columns = list(zip(*cast("list[list[object]]", pairs), strict=True))
    # Arrays of different lengths, one of which the slow way names.
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
        # The parser has refused lone surrogates, so encoding can't fail.
        ids = list(map(str.encode, cast("Sequence[str]", values)))
    except TypeError:  # something that is no string
        ids = []
    if ids and all(ids) and max(map(len, ids)) <= MAX_ID_BYTES:
        return ids
    return [loose_id_bytes(value, name(index)) for index, value in enumerate(values)]


async def wait_for_revision(call: AppRequest, minimum: str | None) -> None:
    """Return once the facts are at least as new as `minimum`; `MinimumUnmet` if they don't get there in time."""
    if minimum is None:
        return
    try:
        revisions = parse_revisions(minimum)
    except InvalidInput as fault:
        raise InvalidInput("min", fault.problem) from None
    # A snapshot for each look: one that is kept open sees no later commit.
    give_up_ms = monotonic_ms() + MIN_WAIT_MS
    while True:
        with call.deps.replica as snapshot:
            reached = reaches(snapshot, revisions)
        # Another history (None) is waited for as well: a snapshot of the new one may be about to be swapped in.
        if reached:
            return
        if monotonic_ms() >= give_up_ms:
            why = "has not applied it yet" if reached is False else "follows another history"
            raise MinimumUnmet(f"the Revision {minimum} was demanded, but this node {why}")
        await asyncio.sleep(MIN_POLL_S)


def revision_of_all(snapshot: Reading) -> str | None:
    """How far every Partition is applied; None where they are too many to name."""
    texts = texts_of_all(snapshot)
    return ",".join(texts) if len(texts) <= MAX_REVISIONS else None


ENDPOINTS: dict[tuple[str, str], Endpoint[AppRequest]] = {
    (PATH, "GET"): Endpoint("May one User message another?", check, scopes=CHECK, faults=("stale",)),
    # The body is read without a decoder of its own, which would take a step of Python for each id.
    (PATH, "POST"): Endpoint(
        "Many checks at once", check_batch, scopes=CHECK, takes=(CheckPairs, CheckMany), faults=("stale",)
    ),
    ("/v1/explain", "GET"): Endpoint("Why, rule by rule", explain, scopes=CHECK, faults=("stale",)),
}
