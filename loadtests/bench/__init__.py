"""The benchmark behind `make bench`: the same facts and the same pairs, in Gate and in what a team would use instead."""

from __future__ import annotations
