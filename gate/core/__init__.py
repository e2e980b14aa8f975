"""The pure core of Gate: facts, rules and encodings, with no I/O, clock, log or random. Read this package first."""
