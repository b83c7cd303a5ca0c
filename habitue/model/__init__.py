"""The model: one transformer over a customer's events, asked at query tokens.

Enters: batches of arrays from `sequences`. Leaves: hazards, expected orders, spend and item scores
at each query, and the weights that gave them. The only room that knows torch. Read in this order:
backbone, objectives, train, checkpoint, readings, embed; launch for many workers; pretrain and
starter for many shops; order for sequences that know order alone; texts/ for sentence encoders.
"""
