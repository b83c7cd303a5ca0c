"""Scores that live audiences compare: which curve counts when, and when it crosses a number.

Enters: what the scorer worked out, customer by customer. Leaves: whether a comparison holds, and
until when. Read `curves` (which are kept, and since when each counts), then `drift`.
"""
