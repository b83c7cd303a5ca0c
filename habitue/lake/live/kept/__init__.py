"""Where what was worked out of customers and items is kept: in a file, or in Redis.

Read `interface` (what both promise), `remote` (Redis; the file is `lake/live/scored.py`), `scripts`
(what Redis does in one step), then `opening`, which chooses.
"""
