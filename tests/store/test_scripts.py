"""Calls that differ only in their rows run as one script, and each still gets its own reply."""

from __future__ import annotations

from gate.store.link import ReplyError
from gate.store.scripts import MAX_ROWS_A_SCRIPT, Call, Run, Script, replies_of, runs_of

LISTS = Script("lists", "return ARGV", "0" * 40)
OTHER = Script("other", "return ARGV", "1" * 40)


def calls(*rows: int, script: Script = LISTS, key: bytes = b"{a}", head: str = "x") -> list[Call]:
    return [Call(script, [key], (head,), (row, f"of {row}")) for row in rows]


def test_what_differs_in_its_rows_alone_is_run_as_one() -> None:
    (run,) = runs_of(calls(1, 2, 3))
    assert run.rows == 3
    assert run.call.by_sha == ("EVALSHA", "0" * 40, 1, b"{a}", "x", 1, "of 1", 2, "of 2", 3, "of 3")
    assert run.call.by_source[:4] == ("EVAL", "return ARGV", 1, b"{a}")


def test_the_order_stays_whatever_is_between() -> None:
    plain = Call(LISTS, [b"{a}"], ("x",))
    asked = [
        *calls(1, 2), *calls(3, head="y"), *calls(4), plain, plain, *calls(5, key=b"{b}"), *calls(6, script=OTHER),
    ]  # fmt: skip
    runs = runs_of(asked)
    assert [run.rows for run in runs] == [2, 1, 1, 0, 0, 1, 1]
    assert [one for run in runs for one in run.call.by_sha if isinstance(one, int) and one != 1] == [2, 3, 4, 5, 6]
    assert runs_of([]) == []


def test_no_script_holds_the_server_for_long() -> None:
    runs = runs_of(calls(*range(2 * MAX_ROWS_A_SCRIPT + 1)))
    assert [run.rows for run in runs] == [MAX_ROWS_A_SCRIPT, MAX_ROWS_A_SCRIPT, 1]


def test_each_call_gets_its_reply_and_an_error_is_all_of_its_runs() -> None:
    call, error = calls(1)[0], ReplyError("OOM")
    runs = [Run(call, 2), Run(call, 0), Run(call, 2), Run(call, 1)]
    assert replies_of(runs, [[b"ok", 0], [b"a", b"b"], error, [7]]) == [b"ok", 0, [b"a", b"b"], error, error, 7]
