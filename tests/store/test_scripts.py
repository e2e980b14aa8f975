"""Calls that differ only in their rows run as one script, and each still gets its own reply."""

from __future__ import annotations

from gate.store import presence_keys
from gate.store.link import ReplyError
from gate.store.scripts import Script
from gate.store.slicing import MAX_ROWS_A_SCRIPT, Piece, Run, SlicedCall, replies_of, runs_of

LISTS = Script("lists", "return ARGV", "0" * 40)
OTHER = Script("other", "return ARGV", "1" * 40)


def rows(
    *numbers: int, script: Script = LISTS, app: str = "a", head: str = "x", at: int = 0, away: str = ""
) -> list[Piece]:
    calls = [SlicedCall(app, script, (head,), (number, f"of {number}"), 2, is_row=True) for number in numbers]
    return [(at, "word", away, one, one.parts) for one in calls]


def test_what_differs_in_its_rows_alone_is_run_as_one() -> None:
    (run,) = runs_of(rows(1, 2, 3))
    assert run.rows == 3
    base, args = presence_keys.base("a", 0), ("word", "", "x", 1, "of 1", 2, "of 2", 3, "of 3")
    assert run.call.by_sha == ("EVALSHA", "0" * 40, 1, base, *args)
    assert run.call.by_source == ("EVAL", "return ARGV", 1, base, *args)


def test_the_order_stays_whatever_is_between() -> None:
    plain = SlicedCall("a", LISTS, ("x",), (), 1)
    alone: Piece = (0, "word", "", plain, plain.parts)
    asked = [
        *rows(1, 2), *rows(3, head="y"), *rows(4), alone, alone, *rows(5, app="b"), *rows(6, script=OTHER),
        *rows(7, script=OTHER, at=1), *rows(8, 9, script=OTHER, at=1, away="1"),
    ]  # fmt: skip
    runs = runs_of(asked)
    assert [run.rows for run in runs] == [2, 1, 1, 0, 0, 1, 1, 1, 2]
    assert [one for run in runs for one in run.call.args if isinstance(one, int)] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert runs_of([]) == []


def test_no_script_holds_the_server_for_long() -> None:
    runs = runs_of(rows(*range(2 * MAX_ROWS_A_SCRIPT + 1)))
    assert [run.rows for run in runs] == [MAX_ROWS_A_SCRIPT, MAX_ROWS_A_SCRIPT, 1]


def test_each_call_gets_its_reply_and_an_error_is_all_of_its_runs() -> None:
    (one,), error = runs_of(rows(1)), ReplyError("OOM")
    runs = [Run(one.call, 2), Run(one.call, 0), Run(one.call, 2), Run(one.call, 1)]
    assert replies_of(runs, [[b"ok", 0], [b"a", b"b"], error, [7]]) == [b"ok", 0, [b"a", b"b"], error, error, 7]
