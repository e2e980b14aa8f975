"""The facts in Redis. This is the only package that talks to Redis.

Read in this order: `keys` (every key and field), `lua/lib/append.lua` (how a Change is numbered), one script of `lua/`,
`writer` (how a write runs and what it returns), then the nouns: `bans`, `mutes`, `lists`, `users`, `apps`. A replicator needs
`changelog`, `snapshot` and `nodes`; `acks` waits until a write is effective. `link` and `client` connect to the server.
`store.Store` combines all of it.
"""

from __future__ import annotations
