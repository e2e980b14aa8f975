"""The console: what operators see and do in a browser, below `/console/`.

    site          what hangs in the HTTP application; the rest is loaded with the first request
    router        chooses the view for a request, authenticates the operator, renders failures
    session_auth  signs operators in by password, and verifies their session cookies
    session_cookie   that cookie, and the tokens of forms: pure
    request_context  one request of an operator, as views see it
    pages         templates and the headers that every answer bears
    id_format     ids in links, forms and text; moments
    labels        Verdicts and rules in sentences
    static_files  the style sheet, the script and the icon
    charts        samples as lines: pure
    views/        one file a page
    templates/, static/    what browsers get; nothing comes from another host

It writes through the same stores as the APIs, and reads the same Replica. No page needs a script: `console.js` only keeps
numbers fresh. With Redis away operators who were here lately may go on reading (`session_auth`), and what the Replica knows is
shown.
"""

from __future__ import annotations

# Every page and file of the console is below this path.
PREFIX = "/console/"
