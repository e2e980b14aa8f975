"""The truth in Redis: the only package that talks to it.

Read in this order: `keys` (every key and field there is), `lua/lib/append.lua` (how a Change is numbered), one script of
`lua/`, `writer` (how a write is run and what it answers), then the nouns: `bans`, `mutes`, `lists`, `users`, `apps`.
`changelog`, `snapshot` and `nodes` are what a replicator needs; `acks` is how a writer learns that its write is effective.
`link` and `client` are the way to the server. `store.Store` holds it all.
"""

from __future__ import annotations
