"""redis-py, and valkey-py, which is a fork of it: the synchronous clients. Usage: redis_py.py MODULE RESP PORT KEY SECRET"""

from __future__ import annotations

import importlib
import sys

_, module_name, resp, port, key, secret = sys.argv
module = importlib.import_module(module_name)
chosen = {} if resp == "default" else {"protocol": int(resp)}
client = getattr(module, module_name.capitalize())
gate = client(host="127.0.0.1", port=int(port), username=key, password=secret, decode_responses=True, **chosen)

print("version", module.__version__)
print("check", *[gate.execute_command("GATE.CHECK", sender, "bob") for sender in ("alice", "mallory")])
with gate.pipeline(transaction=False) as pipeline:
    for index in range(100):
        pipeline.execute_command("GATE.CHECK", "mallory" if index % 2 else "alice", "bob")
    print("pipeline", *pipeline.execute())
with gate.pipeline() as transaction:
    transaction.execute_command("GATE.CHECK", "alice", "bob")
    transaction.execute_command("GATE.CHECK", "mallory", "bob")
    transaction.execute_command("GATE.VERDICT", "mallory", "bob")
    print("transaction", *transaction.execute())
gate.close()
