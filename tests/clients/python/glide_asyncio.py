"""valkey-glide for asyncio: a core in Rust. Usage: glide_asyncio.py PORT KEY SECRET"""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version

from glide import Batch, GlideClient, GlideClientConfiguration, NodeAddress, ServerCredentials


def words(replies: list[object]) -> list[object]:
    return [reply.decode() if isinstance(reply, bytes) else reply for reply in replies]


async def main(port: str, key: str, secret: str) -> None:
    print("version", version("valkey-glide"))
    addresses = [NodeAddress("127.0.0.1", int(port))]
    gate = await GlideClient.create(GlideClientConfiguration(addresses, credentials=ServerCredentials(secret, key)))
    print("check", *[await gate.custom_command(["GATE.CHECK", sender, "bob"]) for sender in ("alice", "mallory")])
    pipeline = Batch(is_atomic=False)
    for index in range(100):
        pipeline.custom_command(["GATE.CHECK", "mallory" if index % 2 else "alice", "bob"])
    print("pipeline", *words(await gate.exec(pipeline, raise_on_error=True) or []))
    transaction = Batch(is_atomic=True)
    transaction.custom_command(["GATE.CHECK", "alice", "bob"])
    transaction.custom_command(["GATE.CHECK", "mallory", "bob"])
    transaction.custom_command(["GATE.VERDICT", "mallory", "bob"])
    print("transaction", *words(await gate.exec(transaction, raise_on_error=True) or []))
    await gate.close()


asyncio.run(main(*sys.argv[1:]))
