"""Load: peers side by side (`compare`), two minutes of locust (`run`), and small benchmarks of single parts (`micro`)."""

from __future__ import annotations
