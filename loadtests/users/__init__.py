"""Who loads the service: routers over RESP, routers over HTTP, and app servers that change the facts meanwhile."""

from __future__ import annotations
