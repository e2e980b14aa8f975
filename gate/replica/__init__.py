"""This node's copy of the gating facts: the only package that talks to LMDB. Read `layout`, then `reading`."""
