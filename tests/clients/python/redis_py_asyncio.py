"""redis-py and valkey-py: the clients for asyncio. Usage: redis_py_asyncio.py MODULE PORT KEY SECRET"""

from __future__ import annotations

import asyncio
import importlib
import sys


async def main(module_name: str, port: str, key: str, secret: str) -> None:
    client = getattr(importlib.import_module(f"{module_name}.asyncio"), module_name.capitalize())
    print("version", importlib.import_module(module_name).__version__)
    async with client(host="127.0.0.1", port=int(port), username=key, password=secret, decode_responses=True) as gate:
        print("check", *[await gate.execute_command("GATE.CHECK", sender, "bob") for sender in ("alice", "mallory")])
        async with gate.pipeline(transaction=False) as pipeline:
            for index in range(100):
                pipeline.execute_command("GATE.CHECK", "mallory" if index % 2 else "alice", "bob")
            print("pipeline", *await pipeline.execute())
        async with gate.pipeline(transaction=True) as transaction:
            transaction.execute_command("GATE.CHECK", "alice", "bob")
            transaction.execute_command("GATE.CHECK", "mallory", "bob")
            transaction.execute_command("GATE.VERDICT", "mallory", "bob")
            print("transaction", *await transaction.execute())


asyncio.run(main(*sys.argv[1:]))
