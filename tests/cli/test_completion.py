"""Completion on the root command: what bash, zsh and fish get when they ask which words may follow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GATE = Path(sys.executable).with_name("gate")
PLAIN = {"PATH": f"{GATE.parent}:{os.environ['PATH']}"}


def run(*command: str, **variables: str) -> str:
    done = subprocess.run(command, env=PLAIN | variables, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_bash_completes_with_what_it_is_given() -> None:
    # No shell is looked for among the parents: a test may run below none.
    given = run(str(GATE), "--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    asking = 'COMP_WORDS=(gate stat); COMP_CWORD=1; _gate_completion gate; echo "${COMPREPLY[@]}"'
    assert run("bash", "-c", f"{given}\n{asking}") == "status\n"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_zsh_and_fish_are_given_a_script(shell: str) -> None:
    given = run(str(GATE), "--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert f"_GATE_COMPLETE=complete_{shell}" in given


def test_verbs_and_options_are_completed() -> None:
    verbs = run(str(GATE), _GATE_COMPLETE="complete_fish", _TYPER_COMPLETE_ARGS="gate blacklist ",
                _TYPER_COMPLETE_FISH_ACTION="get-args")  # fmt: skip
    assert [line.split("\t")[0] for line in verbs.splitlines()] == ["add", "remove", "list", "contains"]
    options = run(str(GATE), _GATE_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="gate ban --perm")
    assert '"--permanent"' in options
