"""Klaviyo's paths: what its clients write, and what they read.

Enters: a request as Klaviyo's own client sends it. Leaves: a JSON:API document that it can read.
Read `wire/` (what requests and answers look like), then `writes`, and what reads: `shown` and
`profiles`, `metrics`, `events`, `segments`, `lists` and `members`. `routes` names every path.
"""
