"""Who is similar to an audience, kept live: it rests on all customers, instant by instant.

Read first `places` (where customers are in the space of embeddings, by key), then `nearness` (who
was near when) and `settling` (which audiences wait until everything up to an instant is known).
"""
