"""The console: what operators see and do in a browser, below `/console/`.

    site          what hangs in the HTTP application; the rest is loaded with the first request
    desk          from a request to a page: which view, who asks, what is said where it fails
    porter        lets operators in by password, and knows them again by the cookie that they got
    badge         that cookie, and the tokens of forms: pure
    visit         one request of an operator, as views see it
    pages         templates and the headers that every answer bears
    spelling      ids in links, forms and text; moments
    words         Verdicts and rules in sentences
    charts        samples as lines: pure
    views/        one file a page
    templates/, static/    what browsers get; nothing comes from another host

It writes through the same stores as the APIs, and reads the same Replica. No page needs a script: `console.js` only keeps
numbers fresh. With Redis away operators who were here lately may go on reading (`porter`), and what the Replica knows is
shown.
"""
