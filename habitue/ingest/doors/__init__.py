"""One translator per client's protocol: a request's bytes in, an `Intake` out; no I/O, no clock.

Read `intake` (what a translator is told and what it returns), `faults`, `keys` and `fields` (what
all protocols share), then `records` and `native` (our own), then any other. Where the request came
from, who sent it and whether it is durable is the business of others.
"""
