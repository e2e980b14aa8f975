"""The Lua scripts, loaded once: one `.lua` file each, in which `--!include` lines are replaced by the named libraries.

A script runs by its SHA-1 (`EVALSHA`), and once by its source (`EVAL`) if the server answers NOSCRIPT, which can happen at any
time after a restart or `SCRIPT FLUSH`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from gate.store.link import Command

_FOLDER = Path(__file__).parent / "lua"
_INCLUDE = re.compile(r"^--!include (\w+)$", re.MULTILINE)


class Script(NamedTuple):
    """One script and its SHA-1."""

    name: str
    source: str
    sha: str


class Call(msgspec.Struct, frozen=True, gc=False):
    """One run of a script; all its keys have one hash tag. A Struct, as a `NamedTuple` takes four times as long to make."""

    script: Script
    keys: Sequence[bytes]
    args: Sequence[bytes | str | int]

    @property
    def by_sha(self) -> Command:
        """The command for a server that knows the script."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)

    @property
    def by_source(self) -> Command:
        """The command for a server that does not know it."""
        return ("EVAL", self.script.source, len(self.keys), *self.keys, *self.args)


def load_script(name: str) -> Script:
    """Read `lua/<name>.lua` and its libraries."""
    source = _INCLUDE.sub(_library, (_FOLDER / f"{name}.lua").read_text())
    # The SHA-1 that the server computes for EVALSHA.
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _library(include: re.Match[str]) -> str:
    return (_FOLDER / "lib" / f"{include[1]}.lua").read_text()


OPEN = load_script("open")
APP_PUT = load_script("app_put")
APP_REMOVE = load_script("app_remove")
IMPOSE = load_script("impose")
LIFT = load_script("lift")
USER_SET = load_script("user_set")
REGISTER = load_script("register")
REFRESH = load_script("refresh")
REVOKE_TOKENS = load_script("revoke_tokens")
TOKEN_MINT = load_script("token_mint")
ERASE = load_script("erase")
QUOTA_RESERVE = load_script("quota_reserve")
QUOTA_RELEASE = load_script("quota_release")
LIST_ADD = load_script("list_add")
LIST_REMOVE = load_script("list_remove")
LIST_PAGE = load_script("list_page")
ZSET_PAGE = load_script("zset_page")
INDEX_SEARCH = load_script("index_search")
LEASE = load_script("lease")
LIVE_NODES = load_script("live_nodes")
MARK = load_script("mark")
JOIN = load_script("join")
JOINED = load_script("joined")
NONCE_SPEND = load_script("nonce_spend")
CONSOLE_SESSION_OPEN = load_script("console_session_open")
CONSOLE_SESSION_TOUCH = load_script("console_session_touch")
CONSOLE_SESSION_END = load_script("console_session_end")
OPERATOR_WRITE = load_script("operator_write")
SWEEP_PENALTIES = load_script("sweep_penalties")
SWEEP_LIST = load_script("sweep_list")
SWEEP_SET = load_script("sweep_set")
DEACTIVATE = load_script("deactivate")
REACTIVATE = load_script("reactivate")
ERASE_DEACTIVATED = load_script("erase_deactivated")
JOBS_CLAIM = load_script("jobs_claim")
JOB_FINISH = load_script("job_finish")
HOOKS_TAKE = load_script("hooks_take")
HOOKS_RECOUNT = load_script("hooks_recount")
HOOK_DONE = load_script("hook_done")
HOOK_FAILED = load_script("hook_failed")
HOOK_BURY = load_script("hook_bury")
HOOK_REPLAY = load_script("hook_replay")
HOOK_DROP = load_script("hook_drop")
HOOKS_LOOK = load_script("hooks_look")
AUDIT_TRIM = load_script("audit_trim")
AUDIT_NOTE = load_script("audit_note")
DEPLOYMENT_NOTE = load_script("deployment_note")
SETTINGS_TAKE = load_script("settings_take")
BACKUP_READ = load_script("backup_read")
RESTORE_BEGIN = load_script("restore_begin")
RESTORE = load_script("restore")
RESTORE_END = load_script("restore_end")
PRESENCE_ID = load_script("presence_id")
PRESENCE_LEASE = load_script("presence_lease")
PRESENCE_END = load_script("presence_end")
PRESENCE_OPEN = load_script("presence_open")
PRESENCE_CLOSE = load_script("presence_close")
PRESENCE_KICK = load_script("presence_kick")
PRESENCE_SWEEP = load_script("presence_sweep")
PRESENCE_TIDY = load_script("presence_tidy")
PRESENCE_ANNOUNCE = load_script("presence_announce")
PRESENCE_ONLINE = load_script("presence_online")
PRESENCE_READ = load_script("presence_read")
PRESENCE_COUNTS = load_script("presence_counts")
PRESENCE_SAMPLE = load_script("presence_sample")
PRESENCE_SHADOW = load_script("presence_shadow")
PRESENCE_TOUCH = load_script("presence_touch")
PRESENCE_HOOK = load_script("presence_hook")
PRESENCE_FORGET = load_script("presence_forget")
PRESENCE_REMOVE = load_script("presence_remove")
PRESENCE_UNBAR = load_script("presence_unbar")
PRESENCE_FLOORS = load_script("presence_floors")
PRESENCE_MOVER = load_script("presence_mover")
PRESENCE_SLICE = load_script("presence_slice")
PRESENCE_TAKE = load_script("presence_take")
PRESENCE_PUT = load_script("presence_put")
PRESENCE_MOVED = load_script("presence_moved")

# Every script above: tests run each, also on a server that knows none.
ALL = tuple(one for one in list(globals().values()) if isinstance(one, Script))
