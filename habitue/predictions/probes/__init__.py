"""Probes: any question about the future, answered from what the model knows of each customer.

Enters: a `Target`, a shop's `Sequences` and its model's embeddings. Leaves: for every customer a
value with an interval, and how the answer did beside simpler ones on a window that nobody saw.

Reading order: `language` (the question), `happened` (what followed), `lessons` (past cutoffs),
`methods` (ways to answer), `maps` (calibration and intervals), `answer` (choose, judge, answer);
`reading` and `blocks` make the table of embeddings.
"""
