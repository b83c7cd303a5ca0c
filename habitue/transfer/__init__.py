"""What other shops teach this one: weights that ship, and how far they are made this shop's own.

Enters: a shop's sequences. Leaves: weights with a calibration, their name, and the status of what
they answer. Read in this order: `shelf` (the weights that ship), `standing` (full, transfer,
insufficient), `levels` (as they are, or trained on), `adapt` (which of them, judged on a window
that closed before the cutoff), `opening` (what answers for a shop: its champion, or what ships).
"""
