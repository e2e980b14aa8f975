"""libgate for tests: built once, and called in a separate process, since this one contains py-lmdb's LMDB.

As a program (`python libgate.py LIBRARY`) it is that process: one JSON list a line on stdin, a call and its arguments, ids in
hex; one JSON list a line on stdout, what the call returned. It imports nothing of Gate.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

REPOSITORY = Path(__file__).parents[2]
NEVER_FRESH_MS = 1 << 40


class Library:
    """One handle in another process; each method is the call of that name, and raises `Refused` where that returns -1."""

    def __init__(self, library: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, str(library)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _call(self, name: str, *arguments: object) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the process that holds libgate ended with {self._process.wait()} in {name}{arguments}"
        error, answer = json.loads(line)
        if error is not None:
            raise Refused(error)
        return answer

    def open(self, directory: Path | str, app: str) -> None:
        """A handle that was open is closed first."""
        self._call("open", str(directory), app)

    def may_send(self, sender: bytes, recipient: bytes) -> int:
        return int(self._call("may_send", sender.hex(), recipient.hex()))

    def verdict(self, sender: bytes, recipient: bytes) -> tuple[str, int | None]:
        """The word, and the moment at which it may change; what it returned must fit the word."""
        may, word, until_ms = self._call("verdict", sender.hex(), recipient.hex())
        assert may == (word == "allowed")
        return word, until_ms or None

    def may_send_many(self, sender: bytes, recipients: Sequence[bytes]) -> list[int]:
        return list(self._call("may_send_many", sender.hex(), [one.hex() for one in recipients]))

    def status(self) -> tuple[bool, int]:
        ready, stale_ms = self._call("status")
        return bool(ready), stale_ms

    def shadow(self) -> tuple[bool, int]:
        is_on, denied = self._call("shadow")
        return bool(is_on), denied

    def fork(self, sender: bytes, recipient: bytes) -> list[str]:
        """What a forked child is answered by its parent's handle, and by one of its own."""
        return list(self._call("fork", sender.hex(), recipient.hex()))

    def descriptors(self) -> int:
        """How many files the process has open."""
        return int(self._call("descriptors"))

    def close(self) -> None:
        self._call("close")

    def __enter__(self) -> Library:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(20) == 0
        assert self._process.stdout is not None
        self._process.stdout.close()


class Refused(Exception):
    """The line that gate_error or gate_open gave."""


class Caller:
    """The calls, by ctypes, as prototypes in gate.h have them."""

    def __init__(self, library: str) -> None:
        self._c = ctypes.CDLL(library)
        self._c.gate_open.restype = ctypes.c_void_p
        self._c.gate_error.restype = ctypes.c_char_p
        self._handle: int | None = None
        self._opened_with = ("", "")

    def _of(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._handle)

    def _checked(self, returned: int) -> int:
        if returned < 0:
            raise Refused(self._c.gate_error(self._of()).decode())
        return returned

    def open(self, directory: str, app: str) -> None:
        self.close()
        error = ctypes.create_string_buffer(300)
        self._handle = self._c.gate_open(directory.encode(), app.encode(), error, ctypes.c_size_t(len(error)))
        self._opened_with = (directory, app)
        if not self._handle:
            raise Refused(error.value.decode())

    def may_send(self, sender: str, recipient: str) -> int:
        return self._checked(self._c.gate_may_send(self._of(), *_id(sender), *_id(recipient)))

    def verdict(self, sender: str, recipient: str) -> list[object]:
        word, until_ms = ctypes.c_char_p(), ctypes.c_int64(-7)
        may = self._c.gate_verdict(
            self._of(), *_id(sender), *_id(recipient), ctypes.byref(word), ctypes.byref(until_ms)
        )
        self._checked(may)
        assert word.value is not None
        return [may, word.value.decode(), until_ms.value]

    def may_send_many(self, sender: str, recipients: list[str]) -> list[int]:
        count = len(recipients)
        ids = [bytes.fromhex(one) for one in recipients]
        starts, sizes = (ctypes.c_char_p * count)(*ids), (ctypes.c_size_t * count)(*map(len, ids))
        may = (ctypes.c_ubyte * count)(*[7] * count)
        returned = self._c.gate_may_send_many(self._of(), *_id(sender), starts, sizes, ctypes.c_size_t(count), may)
        if returned < 0:
            assert list(may) == [0] * count
        self._checked(returned)
        return list(may)

    def shadow(self) -> list[int]:
        is_on, denied = ctypes.c_int(-7), ctypes.c_uint64(7_777)
        self._checked(self._c.gate_shadow(self._of(), ctypes.byref(is_on), ctypes.byref(denied)))
        return [is_on.value, denied.value]

    def status(self) -> list[int]:
        ready, stale_ms = ctypes.c_int(-7), ctypes.c_int64(-7)
        self._checked(self._c.gate_status(self._of(), ctypes.byref(ready), ctypes.byref(stale_ms)))
        return [ready.value, stale_ms.value]

    def fork(self, sender: str, recipient: str) -> list[str]:
        import os

        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            said = []
            for act in (lambda: self.may_send(sender, recipient), lambda: self.open(*self._opened_with)):
                try:
                    said.append(str(act()))
                except Refused as refused:
                    said.append(str(refused))
            said.append(str(self.may_send(sender, recipient)))
            os.write(writing, json.dumps(said).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            said = json.loads(answer.read())
        assert os.waitpid(child, 0)[1] == 0
        return [str(one) for one in said]

    def descriptors(self) -> int:
        import os

        return len(os.listdir("/proc/self/fd"))

    def close(self) -> None:
        if self._handle:
            self._c.gate_close(self._of())
        self._handle = None


def _id(written: str) -> tuple[bytes, ctypes.c_size_t]:
    raw = bytes.fromhex(written)
    return raw, ctypes.c_size_t(len(raw))


def main() -> None:
    caller = Caller(sys.argv[1])
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = [None, getattr(caller, name)(*arguments)]
        except Refused as refused:
            answer = [str(refused), None]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    caller.close()


if __name__ == "__main__":
    main()
