"""Tests of the HTTP surface: its pure parts, then every endpoint on a real server with a real Replica."""

from __future__ import annotations
