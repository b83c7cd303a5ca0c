"""Klaviyo's paths: what its clients write, and what they read.

Enters: a request as Klaviyo's own client sends it. Leaves: a JSON:API document that it can read.
Read `filters` and `cursors` (the grammar of lists), `asking` (the parameters of a request) and
`resources` (the documents), then `writes`, and what reads: `profiles` with `predictive`, `events`,
`segments`. `routes` names every path.
"""
