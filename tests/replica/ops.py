"""Random histories for property tests: few Apps and Users, so that they meet often; ids of every awkward kind."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.replica.model import FOREVER
from tests.replica.scripted import ScriptedRedis

IDS = (b"a", b"b", b"a\x00", b"\r\n", b"a:b", "😀".encode(), b"\xff" * 64, b"\x00", b" ", b"%s", b"\x01a", b"x" * 64)
APPS = ("one", "two", "-_9")

ids = st.sampled_from(IDS)
ends = st.sampled_from((FOREVER, 1, 1_700_000_000_000))


class Op(NamedTuple):
    """One write to come. The Partition follows from the User, as in the store."""

    kind: str
    app: str
    user: bytes
    members: tuple[bytes, ...]
    until_ms: int
    value: bytes

    def write_to(self, redis: ScriptedRedis) -> None:
        if self.kind in ("app-set", "app-removed"):
            rest: dict[str, Any] = {"app": self.app}
            redis.write(0, self.kind, **rest)
            return
        redis.write(
            IDS.index(self.user) % redis.partitions, self.kind, self.user, self.members,
            until_ms=self.until_ms, value=self.value, app=self.app,
        )  # fmt: skip


def _op(kinds: tuple[str, ...], **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Op]:
    empty = {"members": st.just(()), "until_ms": st.just(0), "value": st.just(b"")}
    return st.builds(Op, kind=st.sampled_from(kinds), app=st.sampled_from(APPS), user=ids, **{**empty, **parts})


some_ids = st.lists(ids, min_size=1, max_size=4).map(tuple)

ops = st.one_of(
    _op(("app-set",)),
    _op(("app-removed",)),
    _op(("ban-imposed", "mute-imposed"), until_ms=ends),
    _op(("ban-lifted", "mute-lifted", "user-deactivated", "user-reactivated")),
    _op(("user-erased",), value=st.sampled_from((b"", b"d", b"dr"))),
    _op(("user-registered",), value=st.just(b"1")),
    _op(("tokens-revoked",), value=st.sampled_from((b"0", b"5"))),
    _op(("whitelist-switched",), value=st.sampled_from((b"0", b"1"))),
    _op(("blocked", "admitted"), members=some_ids, until_ms=ends),
    _op(("blocked", "admitted"), members=some_ids, until_ms=ends),
    _op(("unblocked", "unadmitted"), members=some_ids),
)
