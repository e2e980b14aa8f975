"""The service, run for real."""

from __future__ import annotations
