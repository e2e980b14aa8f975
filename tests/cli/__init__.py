"""The command line, run for real, and the pure parts of an import."""

from __future__ import annotations
