"""How commands list: page by page behind the last row, at most `--limit` rows, and a list that is cut is reported as cut."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from gate.cli.output import warn

PAGE_ROWS = 5_000
"""Rows asked of the store at a time."""
DEFAULT_LIMIT = 100_000
"""More than a person reads; a program that wants them all names a larger one."""

LimitOption = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many rows.")]

T = TypeVar("T")


async def all_rows(page: Callable[[T | None, int], Awaitable[list[T]]], limit: int) -> list[T]:
    """Rows of `page(last row, count)` until none follow, or one more than the limit."""
    found: list[T] = []
    while len(found) <= limit:
        count = min(PAGE_ROWS, limit + 1 - len(found))
        some = await page(found[-1] if found else None, count)
        found += some
        if len(some) < count:
            break
    return found


def cut_at(limit: int, found: list[T]) -> tuple[list[T], dict[str, bool]]:
    """The rows to show, and what a JSON document adds where more exist; then a line on stderr says so too."""
    if len(found) <= limit:
        return found, {}
    warn(f"gate: cut at {limit:,} rows, more follow: --limit N lists more")
    return found[:limit], {"cut": True}
