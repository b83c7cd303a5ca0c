"""The event log: what came in, durable before it is acknowledged, until the lake holds it.

Translated requests enter as `Part`s, one per shard; two readers follow each with a cursor of its
own. Read `records` (the interface and its nouns), then `segments` and `segmentfile` (SQLite files,
the default), `cursors` (where readers stand), `brokers` and `kafka` (the same on Kafka), `opening`
(which of them a workspace has), then `rows` (what a log's rows become in the lake).
"""
