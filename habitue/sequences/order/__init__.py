"""Sequences that know order alone, as public data of next items does.

Enters: rows of items. Leaves: batches of them, and the vectors from which items begin. Read corpus
first, then spectral.
"""
