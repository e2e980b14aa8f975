"""Facts to bytes and back: exact for every value, short for most, and clear about bytes of another form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.core.codec import pack_app, pack_members, unpack_app, unpack_members
from gate.core.model import FOREVER_MS, AppFacts, UserFacts
from gate.errors import InvalidInput

ids = st.binary(min_size=1, max_size=64)
moments = st.integers(0, FOREVER_MS)
sizes = st.integers(0, (1 << 32) - 1)
users = st.builds(
    UserFacts,
    registered=st.booleans(),
    deactivated=st.booleans(),
    whitelist_on=st.booleans(),
    banned_until_ms=moments,
    muted_until_ms=moments,
    tokens_valid_from_ms=moments,
    blacklist_size=sizes,
    whitelist_size=sizes,
)
apps = st.builds(
    AppFacts,
    key=st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True),
    name=st.text(max_size=40),
    secrets=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=2).map(tuple),
    environment=st.sampled_from(["development", "production"]),
    require_registered=st.booleans(),
    list_policy=st.sampled_from(["whitelist-replaces-blacklist", "both"]),
    whitelists=st.sampled_from(["per-user", "on", "off"]),
    exempt=st.frozensets(st.text(min_size=1, max_size=10), max_size=3),
    list_ceiling=st.integers(1, 1 << 31),
    strict_signature=st.booleans(),
)


@given(st.lists(ids))
def test_members_come_back_as_they_were(members: list[bytes]) -> None:
    assert unpack_members(pack_members(members)) == members


@given(st.lists(ids), st.lists(ids))
def test_no_two_lists_of_members_look_alike(these: list[bytes], those: list[bytes]) -> None:
    assert (pack_members(these) == pack_members(those)) == (these == those)


@given(st.lists(ids, min_size=1))
def test_members_cut_short_are_refused(members: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"^packed members are cut short$"):
        unpack_members(pack_members(members)[:-1])


@given(apps)
def test_an_app_comes_back_as_it_was(facts: AppFacts) -> None:
    packed = pack_app(facts)
    assert unpack_app(packed) == facts
    assert unpack_app(packed.decode()) == facts


@given(st.lists(st.text(min_size=1, max_size=10), min_size=1, unique=True))
def test_equal_apps_are_equal_bytes_in_whatever_order_a_set_was_made(names: list[str]) -> None:
    one = AppFacts(key="k", secrets=("s",), exempt=frozenset(names))
    other = AppFacts(key="k", secrets=("s",), exempt=frozenset(reversed(names)))
    assert pack_app(one) == pack_app(other)


def test_an_app_of_a_newer_version_is_read_as_far_as_it_is_known() -> None:
    assert unpack_app('{"key":"k","secrets":["s"],"from_the_future":{"x":1}}') == AppFacts(key="k", secrets=("s",))


@pytest.mark.parametrize(
    "packed", [b"", b"{}", b"[]", b'{"key":"k"}', b'{"key":"k","secrets":["s"],"list_policy":"?"}']
)
def test_an_app_of_another_form_is_refused(packed: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"^app: (Expected|Input|Invalid|Object) "):
        unpack_app(packed)
