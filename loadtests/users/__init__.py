"""Who loads the service: routers over RESP and HTTP, connection gateways, and app servers that change the facts meanwhile."""

from __future__ import annotations
