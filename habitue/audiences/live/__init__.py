"""Membership kept event by event and silence by silence, and the changes it makes.

What the live state of the lake was told enters, changes leave: who entered or left which audience,
when, and why. Read first `values` and `orders` (what a comparison and an order are, in Python),
`facts` (what is known of one customer at an instant), `evaluate` (does a condition hold, and until
when), then `tables` and `keeping` (memberships and changes in the live state's own transactions),
`ranking` (what rests on all customers) and `definitions` (what is saved or removed while live).
"""
