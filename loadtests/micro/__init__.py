"""Benchmarks of single parts, in one process."""

from __future__ import annotations
