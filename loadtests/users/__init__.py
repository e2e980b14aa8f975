"""The users of locust: routers over RESP and HTTP, connection gateways, apps with WebSockets of their own, and app servers
that change the facts meanwhile.
"""

from __future__ import annotations
