"""`/client/v1/*`: what an end user's own app may do with its Token, to its own facts only.

The App and the User are those of the Token; neither is ever a parameter. Browsers of any site may call: a Token is sent on
purpose, in a header, and never by the browser of its own accord.
"""

from __future__ import annotations

from gate.http.client.endpoint import ENDPOINTS

__all__ = ["ENDPOINTS"]
