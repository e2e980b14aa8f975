"""Redis clients of many languages against a live Gate: each connects with its defaults, checks, pipelines and transacts."""
