"""Lets a test in another process call one of RongCloud's Python SDKs: a JSON line in, a JSON line out.

Usage: driver.py SDK HOST KEY SECRET, with the SDK's own directory on PYTHONPATH. Two of the three SDKs are one package by name,
and all of them change their process (a default socket timeout, warnings), so each runs in one of its own.

A line is `[call, arguments]`; the call `?` lists all calls, found by reflection. The answer is whatever the SDK gives its
caller: `{"returned": …}`, or `{"raised": [class, text]}`.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any


class Bytes2(bytes):
    """What Python 2 calls a str. The oldest SDK hashes one, and is from a time when there was no other."""

    def __add__(self, other: Any) -> Bytes2:
        return Bytes2(bytes(self) + other.encode())


def rc_server_sdk(host: str, key: str, secret: str) -> dict[str, Any]:
    from rongcloud.rongcloud import RongCloud

    user = RongCloud(key, secret, host).get_user()
    parts = {name[4:]: getattr(user, name)() for name in dir(user) if name.startswith("get_")}
    return {"user": user, **parts}


def rongcloud(host: str, key: str, secret: str) -> dict[str, Any]:
    from rongcloud import RongCloud
    from rongcloud.base import RongCloudBase

    RongCloudBase.api_host = host
    return {"user": RongCloud(key, secret).User}


def rongcloud_server_sdk_python(host: str, key: str, secret: str) -> dict[str, Any]:
    from rong import ApiClient

    ApiClient.api_host = host
    return {"": ApiClient(key, Bytes2(secret.encode()))}


SDKS: dict[str, Callable[[str, str, str], dict[str, Any]]] = {
    "rc-server-sdk-3.2.0": rc_server_sdk,
    "rongcloud-2.0.1": rongcloud,
    "rongcloud-server-sdk-python-0.0.2": rongcloud_server_sdk_python,
}


def calls(parts: dict[str, Any]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public method about Users, except those that only return other parts. The oldest SDK has no parts."""
    for part, owner in parts.items():
        for name, method in inspect.getmembers(owner, inspect.ismethod):
            its_own = method.__qualname__.partition(".")[0] == type(owner).__name__
            if part and its_own and not name.startswith(("_", "get_")):
                yield f"{part}.{name}", method
            elif name.startswith("user_"):
                yield name, method


def plain(value: Any) -> Any:
    """What the SDK gives its caller, as JSON: bytes as text; the answer objects of 2.0.1 by their three properties."""
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "result"):
        return {"ok": value.ok, "status": value.status, "result": value.result}
    return value


def main(sdk: str, host: str, key: str, secret: str) -> None:
    methods = dict(calls(SDKS[sdk](host, key, secret)))
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer = {"returned": sorted(methods) if name == "?" else plain(methods[name](*arguments))}
        except Exception as fault:  # noqa: BLE001  # the test gets every error
            answer = {"raised": [type(fault).__name__, str(fault)]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
