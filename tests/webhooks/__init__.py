"""Tests of `gate.webhooks`: real streams, a real receiver on a socket."""

from __future__ import annotations
