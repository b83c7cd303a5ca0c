"""Why one customer is predicted what they are, by scoring them again without parts of their past.

In come everyone's scores and the customer; out comes an `Explanation`, whose effects add up to the
prediction. Read shares (how a difference is divided), factors (what may be left out), again (a
customer scored without it), words, why.
"""
