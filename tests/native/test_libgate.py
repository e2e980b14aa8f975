"""libgate decides as `core.decide` does, follows the writer, and explains its refusals."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from gate.clock import monotonic_ms, wall_ms
from gate.core.changes import Change
from gate.core.decide import decide
from gate.core.model import FOREVER_MS, AppFacts, ListKind, UserFacts
from gate.replica.files import identity_of
from gate.replica.layout import META_LAYOUT, app_record_key, check_settings_key
from gate.replica.status_page import NEVER_FRESH_MS, StatusPage
from harness.seeds import seed
from tests.cases.facts import DictFacts
from tests.cases.loading import Case, Entry, load_cases
from tests.cases.storing import moved
from tests.native.libgate import REPOSITORY, Library, Refused
from tests.replica.ledger import Ledger, app_facts, app_set, said

SEED = seed(0)

HOUR_MS = 3_600_000
PEOPLE = [b"a", b"b", b"\x00\r\n", b"exactly-twenty-bytes", b"one-byte-more-than-20", b"x" * 64]
FORMS = 80


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "data" / "replica", 1, app_facts())
    yield made
    made.close()


def changes_of(app: AppFacts, users: dict[bytes, UserFacts], entries: Iterable[Entry]) -> Iterator[Change]:
    """Everything about one App, as a Changelog would state it."""
    key = app.key
    yield app_set(app)
    for user, facts in users.items():
        yield said("user-registered", user, app=key, value=b"1" if facts.registered else b"0")
        yield said("whitelist-switched", user, app=key, value=b"1" if facts.whitelist_on else b"0")
        yield said("ban-imposed", user, app=key, until_ms=facts.banned_until_ms)
        yield said("mute-imposed", user, app=key, until_ms=facts.muted_until_ms)
        if facts.deactivated:
            yield said("user-deactivated", user, app=key)
    for entry in entries:
        kind = "blocked" if entry.kind is ListKind.BLACKLIST else "admitted"
        yield said(kind, entry.owner, entry.member, app=key, until_ms=entry.until_ms)


def test_the_case_files(ledger: Ledger, libgate: Library) -> None:
    """Each question in an App of its own, with its facts moved so that its moment is now."""
    cases = [
        moved(case, question, wall_ms(), f"case{at}-{number}")
        for at, case in enumerate(load_cases())
        for number, question in enumerate(case.questions)
    ]
    ledger.commit(*(change for case in cases for change in changes_of(case.app, case.users, case.entries)))
    assert len(cases) > 100
    for case in cases:
        libgate.open(ledger.directory.parent, case.app.key)
        _expect(libgate, case)


def _expect(libgate: Library, case: Case) -> None:
    (question,) = case.questions
    sender, recipient, expected = question.sender, question.recipient, question.expected
    assert libgate.verdict(sender, recipient) == expected, case.name
    for _ in range(2):
        assert libgate.may_send(sender, recipient) == expected.allowed, case.name
    assert libgate.may_send_many(sender, [recipient, recipient]) == [expected.allowed] * 2, case.name


@pytest.mark.parametrize("nth", range(3))
def test_random_facts(ledger: Ledger, libgate: Library, nth: int) -> None:
    rng, now_ms = random.Random(SEED + nth), wall_ms()
    ends = [0, 0, now_ms - HOUR_MS, now_ms + HOUR_MS, now_ms + 2 * HOUR_MS, FOREVER_MS]
    apps = [_random_app(rng, f"app{number}", ends) for number in range(FORMS)]
    ledger.commit(*(change for app in apps for change in changes_of(*app)))
    words = set()
    for app, users, entries in apps:
        libgate.open(ledger.directory, app.key)
        facts = DictFacts(app, users, entries)
        for sender in PEOPLE:
            expected = [decide(facts, sender, recipient, wall_ms()) for recipient in PEOPLE]
            assert [libgate.verdict(sender, recipient) for recipient in PEOPLE] == expected
            assert libgate.may_send_many(sender, PEOPLE) == [one.allowed for one in expected]
            assert [libgate.may_send(sender, recipient) for recipient in PEOPLE] == [one.allowed for one in expected]
            words |= {one.word for one in expected}
    assert len(words) == 9


def _random_app(rng: random.Random, key: str, ends: list[int]) -> tuple[AppFacts, dict[bytes, UserFacts], list[Entry]]:
    app = app_facts(
        key,
        require_registered=rng.random() < 0.2,
        list_policy=rng.choice(["whitelist-replaces-blacklist", "both"]),
        whitelists=rng.choice(["per-user", "per-user", "on", "off"]),
        exempt=frozenset(rng.sample(["a", "x" * 64, "one-byte-more-than-20", "é"], rng.randrange(3))),
    )
    users = {
        user: UserFacts(
            registered=rng.random() < 0.8,
            deactivated=rng.random() < 0.15,
            whitelist_on=rng.random() < 0.4,
            banned_until_ms=rng.choice(ends) if rng.random() < 0.4 else 0,
            muted_until_ms=rng.choice(ends) if rng.random() < 0.4 else 0,
        )
        for user in rng.sample(PEOPLE, rng.randrange(len(PEOPLE) + 1))
    }
    pairs = {(rng.choice(list(ListKind)), rng.choice(PEOPLE), rng.choice(PEOPLE)) for _ in range(rng.randrange(12))}
    return app, users, [Entry(*pair, rng.choice(ends[2:])) for pair in sorted(pairs)]


class TestFollowing:
    def test_commits(self, ledger: Ledger, libgate: Library) -> None:
        libgate.open(ledger.directory, "app")
        for turn in range(20):
            assert libgate.verdict(b"a", b"b") == ("allowed", None)
            ledger.commit(said("ban-imposed", b"a"))
            assert libgate.may_send(b"a", b"b") == 0
            ledger.commit(said("ban-lifted", b"a"), said("blocked", b"b", b"a"))
            assert libgate.verdict(b"a", b"b") == ("blacklisted", None)
            ledger.commit(said("unblocked", b"b", b"a"))
            assert libgate.may_send(b"a", b"b") == 1, turn

    def test_more_commits_than_the_journal_reaches(self, ledger: Ledger, libgate: Library) -> None:
        libgate.open(ledger.directory, "app")
        assert libgate.may_send(b"a", b"b") == 1
        ledger.commit(said("ban-imposed", b"a"))
        for number in range(300):
            ledger.commit(said("ban-imposed", b"%d" % number))
        assert libgate.may_send(b"a", b"b") == 0

    def test_an_import_whose_journal_says_everything(self, ledger: Ledger, libgate: Library) -> None:
        libgate.open(ledger.directory, "app")
        assert libgate.may_send(b"a", b"b") == 1
        ledger.commit(*(said("ban-imposed", b"%d" % number) for number in range(600)), said("ban-imposed", b"a"))
        assert libgate.may_send(b"a", b"b") == 0

    def test_settings_of_the_app(self, ledger: Ledger, libgate: Library) -> None:
        libgate.open(ledger.directory, "app")
        assert libgate.may_send(b"a", b"b") == 1
        ledger.commit(app_set(app_facts(require_registered=True)))
        assert libgate.verdict(b"a", b"b")[0] == "sender-unknown"
        many = frozenset(f"official-{number}-" + "o" * 40 for number in range(999)) | {"a"}
        ledger.commit(app_set(app_facts(whitelists="on", exempt=many)))
        assert [libgate.may_send(who, b"b") for who in (b"a", b"c")] == [1, 0]
        ledger.commit(app_set(app_facts(whitelists="on")))
        assert libgate.may_send(b"a", b"b") == 0

    def test_an_app_that_is_removed(self, ledger: Ledger, libgate: Library) -> None:
        libgate.open(ledger.directory, "app")
        assert libgate.may_send(b"a", b"b") == 1
        ledger.commit(said("app-removed"))
        for _ in range(2):
            with pytest.raises(Refused, match="no App has the key 'app'"):
                libgate.may_send(b"a", b"b")

    def test_another_file_by_the_successors_name(self, ledger: Ledger, libgate: Library) -> None:
        libgate.open(ledger.directory, "app")
        assert libgate.may_send(b"a", b"b") == 1
        open_before = libgate.descriptors()
        for generation in range(2, 6):
            following = Ledger(ledger.directory, generation, app_facts("zero"), app_facts(), current=False)
            following.commit(said("ban-imposed", b"a") if generation % 2 else said("ban-imposed", b"b"))
            ledger.replace(following)
            ledger.file.path.unlink()
            assert libgate.may_send(b"a", b"b") == (generation + 1) % 2
            ledger.close()
            ledger.file = following.file
        assert libgate.descriptors() == open_before

    def test_another_file_by_the_status_page(self, ledger: Ledger, libgate: Library) -> None:
        status_page = StatusPage(ledger.directory / "board", write=True)
        status_page.use(1, identity_of(ledger.file.path))
        libgate.open(ledger.directory, "app")
        assert libgate.may_send(b"a", b"b") == 1
        following = Ledger(ledger.directory, 2, app_facts(), current=True)
        following.commit(said("ban-imposed", b"a"))
        assert libgate.may_send(b"a", b"b") == 1, "nothing says so yet"
        status_page.use(2, identity_of(following.file.path))
        assert libgate.may_send(b"a", b"b") == 0
        following.close()
        status_page.close()

    def test_a_file_moved_into_its_place_is_not_followed(self, ledger: Ledger, libgate: Library) -> None:
        status_page = StatusPage(ledger.directory / "board", write=True)
        status_page.use(1, identity_of(ledger.file.path))
        status_page.stamp(monotonic_ms())
        libgate.open(ledger.directory, "app")
        assert libgate.may_send(b"a", b"b") == 1
        assert libgate.status() == (False, 0)
        strange = Ledger(ledger.directory, 2, app_facts(), current=True)
        strange.commit(said("ban-imposed", b"a"))
        status_page.use(1, identity_of(ledger.file.path))
        assert libgate.may_send(b"a", b"b") == 1
        assert libgate.status() == (False, NEVER_FRESH_MS), "it can't go where `current` leads"
        strange.close()
        status_page.close()

    def test_another_status_page_in_the_place_of_the_old_one(self, ledger: Ledger, libgate: Library) -> None:
        status_page = StatusPage(ledger.directory / "board", write=True)
        status_page.use(1, identity_of(ledger.file.path))
        status_page.stamp(monotonic_ms())
        libgate.open(ledger.directory, "app")
        assert libgate.status() == (False, 0)
        status_page.recreate()
        status_page.put(ready=1)
        status_page.stamp(monotonic_ms())
        assert libgate.may_send(b"a", b"b") == 1
        assert libgate.status() == (True, 0)
        status_page.close()

    def test_staleness(self, ledger: Ledger, libgate: Library) -> None:
        libgate.open(ledger.directory, "app")
        assert libgate.status() == (False, NEVER_FRESH_MS), "no board"
        status_page = StatusPage(ledger.directory / "board", write=True)
        status_page.use(1, identity_of(ledger.file.path))
        status_page.put(ready=1)
        status_page.stamp(monotonic_ms() - 5_000)
        ready, stale_ms = libgate.status()
        assert ready and 5_000 <= stale_ms < 60_000
        status_page.stamp(monotonic_ms())
        assert libgate.status() == (True, 0)
        status_page.name_facts((1, 1))
        status_page.put(generation=1)
        assert libgate.status() == (True, NEVER_FRESH_MS), "the stamps are of another file"
        status_page.close()


class TestRefusals:
    def test_ids_of_a_wrong_length(self, ledger: Ledger, libgate: Library) -> None:
        libgate.open(ledger.directory, "app")
        for ids in ((b"", b"b"), (b"a", b""), (b"x" * 65, b"b"), (b"a", b"x" * 1_000)):
            for ask in (libgate.may_send, libgate.verdict, lambda a, b: libgate.may_send_many(a, [b"ok", b])):
                with pytest.raises(Refused, match=r"(from|to) is (0|65|1000) bytes long; an id is 1 to 64 bytes"):
                    ask(*ids)
        assert libgate.may_send_many(b"a", []) == []
        assert libgate.may_send(b"a", b"x" * 64) == 1

    def test_no_replica_and_no_app(self, ledger: Ledger, libgate: Library, tmp_path: Path) -> None:
        with pytest.raises(Refused, match=r"no Replica in .*: start the service there \(gate serve\) first"):
            libgate.open(tmp_path, "app")
        with pytest.raises(Refused, match=r"no Replica in .*: No such file"):
            libgate.open(tmp_path / "missing", "app")
        for key in ("nothing", "x" * 257, ""):
            with pytest.raises(Refused, match=f"no App has the key '{key}'"):
                libgate.open(ledger.directory, key)
        with pytest.raises(Refused, match="there is no handle"):
            libgate.may_send(b"a", b"b")

    def test_another_layout(self, ledger: Ledger, libgate: Library) -> None:
        with ledger.file.write() as txn:
            txn.put(META_LAYOUT, b"gate-replica-9")
        with pytest.raises(Refused, match="another layout than gate-replica-3"):
            libgate.open(ledger.directory, "app")

    @pytest.mark.parametrize("left", ["none", "outdated"])
    def test_settings_that_an_older_gate_wrote(self, ledger: Ledger, libgate: Library, left: str) -> None:
        libgate.open(ledger.directory, "app")
        with ledger.file.write() as txn:
            if left == "none":
                txn.delete(check_settings_key("app"))
            txn.put(app_record_key("app"), bytes(txn.raw.get(app_record_key("app"), b"")) + b" ")
        with pytest.raises(Refused, match=r"a version of Gate before 0\.4"):
            libgate.may_send(b"a", b"b")
        ledger.commit(app_set(app_facts()))
        assert libgate.may_send(b"a", b"b") == 1

    @pytest.mark.parametrize("content", [b"", b"x" * 100, bytes(65_536), b"\xff" * 65_536])
    def test_what_is_no_facts_file(self, ledger: Ledger, libgate: Library, content: bytes) -> None:
        path = ledger.directory / "facts-7.mdb"
        path.write_bytes(content)
        (ledger.directory / "current").write_text("facts-7.mdb\n")
        with pytest.raises(Refused, match=r"-lock is missing"):
            libgate.open(ledger.directory, "app")
        path.with_name("facts-7.mdb-lock").touch()
        with pytest.raises(Refused, match="not an LMDB file of format 1"):
            libgate.open(ledger.directory, "app")

    @pytest.mark.parametrize("name", ["", "facts-.mdb", "facts-1.mdb.x", "../facts-1.mdb", "facts-x.mdb", "facts-1"])
    def test_current_that_names_no_facts_file(self, ledger: Ledger, libgate: Library, name: str) -> None:
        (ledger.directory / "current").write_text(name)
        with pytest.raises(Refused, match="does not name a facts file"):
            libgate.open(ledger.directory, "app")

    def test_a_damaged_page_is_an_error_and_reported(self, ledger: Ledger, libgate: Library) -> None:
        ledger.commit(*(said("blocked", b"owner%d" % n, b"a", b"b") for n in range(500)))
        libgate.open(ledger.directory, "app")
        with ledger.file.path.open("r+b") as file:
            file.seek(8_192)
            file.write(b"\xff" * (ledger.file.path.stat().st_size - 8_192))
        with pytest.raises(Refused, match=r"facts-1\.mdb can't be read: a page of its tree is not what it should be"):
            libgate.may_send(b"a", b"owner7")
        assert (ledger.directory / "damaged").read_text().startswith("facts-1.mdb\na page of its tree")

    def test_a_child_of_a_fork_opens_its_own(self, ledger: Ledger, libgate: Library) -> None:
        libgate.open(ledger.directory, "app")
        ledger.commit(said("ban-imposed", b"a"))
        refused, opened, answered = libgate.fork(b"a", b"b")
        assert (opened, answered) == ("None", "0") and "before the process forked" in refused
        ledger.commit(said("ban-lifted", b"a"))
        assert libgate.may_send(b"a", b"b") == 1


def test_the_build_says_what_is_missing(tmp_path: Path) -> None:
    script = REPOSITORY / "scripts" / "make-libgate"
    for env, missing in (({"CC": "no-such-cc"}, "gcc"), ({"CFLAGS": "-nostdinc"}, "liblmdb-dev")):
        made = subprocess.run(
            [script, tmp_path / "out"], env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True
        )
        assert made.returncode == 1
        assert made.stderr.count("\n") == 1 and f"{missing}" in made.stderr and "apt-get install" in made.stderr


def test_make_libgate(tmp_path: Path) -> None:
    """In a copy of what it takes, so that no build of this clone is in the way."""
    for pattern in ("Makefile", "scripts/make-libgate", "gate/native/*.[ch]"):
        for source in REPOSITORY.glob(pattern):
            target = tmp_path / source.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    made = subprocess.run(["make", "libgate"], cwd=tmp_path, capture_output=True, text=True)
    if "apt-get install" in made.stderr:
        pytest.skip(made.stderr.strip())
    assert made.returncode == 0, made.stderr
    assert {path.name for path in (tmp_path / "build").iterdir()} == {"libgate.so", "libgate.a", "gate.h"}
    program = tmp_path / "program.cc"
    program.write_text(
        '#include <gate.h>\nint main() { return gate_open("/nowhere", "k", nullptr, 0) != nullptr || !*gate_error(nullptr); }\n'
    )
    linked = [
        "c++",
        "-Wall",
        "-Werror",
        "-I",
        "build",
        "-o",
        "program",
        str(program),
        "build/libgate.a",
        "-llmdb",
        "-lpthread",
    ]
    if shutil.which("c++") is not None:
        subprocess.run(linked, cwd=tmp_path, check=True)
        subprocess.run([tmp_path / "program"], check=True)


def test_an_app_in_shadow_mode_is_answered_allowed(ledger: Ledger, libgate: Library) -> None:
    ledger.commit(
        app_set(app_facts("other")), said("ban-imposed", b"eve"), said("blocked", b"a", b"b", until_ms=FOREVER_MS)
    )
    ledger.commit(said("ban-imposed", b"eve", app="other"))
    libgate.open(ledger.directory.parent, "app")
    assert libgate.shadow() == (False, 0)
    for times in (1, 2):
        ledger.commit(app_set(app_facts(shadow=True)))
        assert libgate.may_send(b"eve", b"a") == 1
        assert libgate.verdict(b"eve", b"a") == ("allowed", None)
        assert libgate.may_send_many(b"b", [b"a", b"c"]) == [1, 1]
        assert libgate.shadow() == (True, 3 * times)
        ledger.commit(app_set(app_facts()))
        assert libgate.may_send(b"eve", b"a") == 0
        assert libgate.verdict(b"eve", b"a")[0] == "sender-banned"
        assert libgate.may_send_many(b"b", [b"a", b"c"]) == [0, 1]
        assert libgate.shadow() == (False, 3 * times)
    ledger.commit(app_set(app_facts(shadow=True)))
    libgate.open(ledger.directory.parent, "other")
    assert libgate.may_send(b"eve", b"a") == 0
