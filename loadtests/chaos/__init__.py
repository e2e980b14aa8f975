"""`make chaos`: real nodes, one Redis behind cables, faults by a seed, and a judge of everything that was answered.

schedule   the seeded list of faults              faults     what each one does
site       nodes, servers, cables, disks, clocks  clients    HTTP and RESP as a client speaks them
workload   writers and checkers                   judge      which verdicts were right, by register
presence   Gateways, feed readers, webhooks       run        all of it together, with checkpoints
report     progress, JSON, Markdown
"""

from __future__ import annotations
