"""coredis. Usage: coredis_client.py PORT KEY SECRET"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import coredis


def ask(on: Any, command: str, sender: str) -> Any:
    return on.create_request(command.encode(), sender, "bob", callback=lambda reply, **_: reply)


async def main(port: str, key: str, secret: str) -> None:
    print("version", coredis.__version__)
    gate = coredis.Redis(host="127.0.0.1", port=int(port), username=key, password=secret, decode_responses=True)
    async with gate:
        print("check", await ask(gate, "GATE.CHECK", "alice"), await ask(gate, "GATE.CHECK", "mallory"))
        async with gate.pipeline(transaction=False) as pipeline:
            answers = [ask(pipeline, "GATE.CHECK", "mallory" if index % 2 else "alice") for index in range(100)]
        print("pipeline", *[await answer for answer in answers])
        async with gate.pipeline(transaction=True) as transaction:
            asked = [("GATE.CHECK", "alice"), ("GATE.CHECK", "mallory"), ("GATE.VERDICT", "mallory")]
            answers = [ask(transaction, command, sender) for command, sender in asked]
        print("transaction", *[await answer for answer in answers])


asyncio.run(main(*sys.argv[1:]))
