"""`GATE_*` in the environment of a command: refused by name where it is empty or unknown."""

from __future__ import annotations

import pytest

from tests.cli.forked import run_all


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("GATE_REDIS", "", "GATE_REDIS: is empty: give it a value, or unset it"),
        ("GATE_DATA", "", "GATE_DATA: is empty: give it a value, or unset it"),
        ("GATE_REDDIS", "redis://h", "GATE_REDDIS: there is no such setting; did you mean GATE_REDIS?"),
    ],
)
def test_a_mistyped_or_empty_variable_ends_every_command(name: str, text: str, said: str) -> None:
    calls = [["serve"], ["bans"], ["check", "a", "b"], ["doctor"]]
    assert run_all(calls, env={name: text}) == [(2, f"gate: {said}\n")] * len(calls)


def test_help_and_version_need_no_environment() -> None:
    calls = [["--help"], ["bans", "-h"], ["--version"]]
    assert run_all(calls, env={"GATE_REDIS": ""}) == [(0, "")] * len(calls)


def test_the_url_of_redis_may_stand_in_a_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("secret") / "url"
    file.write_text("\ufeffredis://:secret@127.0.0.1:1/0\r\n")
    env = {"GATE_REDIS_FILE": str(file), "GATE_APP": "some-app"}
    ((status, err),) = run_all([["bans"]], env=env)
    assert status == 3 and "redis://:***@127.0.0.1:1" in err
    ((status, err),) = run_all([["bans"]], env=env | {"GATE_REDIS_FILE": "/no/such/file"})
    assert (status, err) == (2, "gate: GATE_REDIS_FILE: /no/such/file can't be read: No such file or directory\n")
