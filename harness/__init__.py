"""Real servers, a cable that can be cut, and waits with a deadline, for tests that need more than values."""

from __future__ import annotations
