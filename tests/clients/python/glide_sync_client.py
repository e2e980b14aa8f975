"""valkey-glide without asyncio. Usage: glide_sync_client.py PORT KEY SECRET"""

from __future__ import annotations

import sys
from importlib.metadata import version

from glide_sync import Batch, GlideClient, GlideClientConfiguration, NodeAddress, ServerCredentials

_, port, key, secret = sys.argv
addresses = [NodeAddress("127.0.0.1", int(port))]
gate = GlideClient.create(GlideClientConfiguration(addresses, credentials=ServerCredentials(secret, key)))


def words(replies: list[object] | None) -> list[object]:
    return [reply.decode() if isinstance(reply, bytes) else reply for reply in replies or []]


print("version", version("valkey-glide-sync"))
print("check", *[gate.custom_command(["GATE.CHECK", sender, "bob"]) for sender in ("alice", "mallory")])
pipeline = Batch(is_atomic=False)
for index in range(100):
    pipeline.custom_command(["GATE.CHECK", "mallory" if index % 2 else "alice", "bob"])
print("pipeline", *words(gate.exec(pipeline, raise_on_error=True)))
transaction = Batch(is_atomic=True)
transaction.custom_command(["GATE.CHECK", "alice", "bob"])
transaction.custom_command(["GATE.CHECK", "mallory", "bob"])
transaction.custom_command(["GATE.VERDICT", "mallory", "bob"])
print("transaction", *words(gate.exec(transaction, raise_on_error=True)))
gate.close()
