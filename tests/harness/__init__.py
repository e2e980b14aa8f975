"""Real servers, a cable that can be cut, and waits with a deadline, for every test that needs more than values."""

from __future__ import annotations
