"""What to show a customer next: from `Sequences` and item scores to ranked items with reasons.

Enters: a shop's `Sequences` up to a cutoff and, if there is a model, its log-probabilities of
items. Leaves: for every customer the best items in order, each with the reason it is there, and
the rows that judge such lists against the honest baselines.

Read in this order: candidates (what each source says of every item), ranking (how a shop mixes
the sources, learnt on its closed horizons), rules (what may be shown at all), newcomers (items that
nobody has ordered), recommend (the two put together, for everybody), baselines, metrics. Apart from
them, for data that knows order alone: following (the next item), unseen (the next item, if it is
new) and baskets (the next basket).
"""
