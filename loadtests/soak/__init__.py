"""`make soak`: steady load for half an hour, and whether anything grows that must not.

samples  what is measured, every few seconds       trend  whether it grows
chart    the plot, as SVG                          __main__  the run
"""

from __future__ import annotations
