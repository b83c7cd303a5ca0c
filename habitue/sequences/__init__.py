"""Events become arrays: sequences, vocabularies, as-of aggregates, batches. No torch here.

Enters: Arrow tables from the lake. Leaves: `Sequences` (flat arrays of everything up to a cutoff)
and batches of numpy arrays. Read in this order: build, flatten, aggregates, snapshots, tokens,
answers, batch; classical for the purchase processes; order/ for sequences without times.
"""
