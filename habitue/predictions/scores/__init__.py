"""What is predicted of customers, kept as numbers that can be asked again at any later time.

Enters: a model's readings, bent as a shop's history asks. Leaves: `Scores`, and each customer's as
bytes. Read in this order: `answers` (what may be asked), `kept` (as bytes), `since` (who did
something since the shop was last scored as a whole).
"""
