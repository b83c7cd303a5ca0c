"""Ingest: what comes in becomes events, once, and every input is accounted for.

Enters: files and their mapping (TOML). Leaves: rows of the lake's `events`, `items`, `rejected`,
`receipts` and `shops`, and a Receipt. Read in this order: mapping (what a file's columns mean),
sources (a file as chunks of rows), files (rows typed, or rejected with a reason), orders and
records (typed rows become events and items), gate (the only writer), importing (all of it).
"""
