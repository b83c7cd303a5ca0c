"""Scores that follow what happens: beside the server, in the one process that holds models.

Enters: the lake (a shop as a whole, once a day), and the live state (who did something since).
Leaves: the file of `lake/live/scored.py`, from which the server answers. Read in this order:
`basis` (one shop as it was scored as a whole, and customers scored on that), `scorer` (who is
scored when), `running` (how long). `told` is for readers, who know no model.
"""
