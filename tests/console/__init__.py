"""Tests of the console over HTTP, as a browser speaks: cookies, forms, roles, and what is shown of what."""
