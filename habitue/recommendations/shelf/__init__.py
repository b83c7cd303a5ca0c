"""From what could be shown to what is shown: context, what cannot be sold, a shop's rules, order.

Enters: candidates with scores, from whoever ranked them, and what a shop says beside. Leaves: the
list, the same for the server and for `habitue recommend`, by pure functions that need no model.
Read in this order: `listed` (the nouns), `mixing` (what goes with what is on the page, beside the
customer's own list), `rules` (what a shop says), `rulebook` (where that is kept), `seen` (what was
shown and not minded), `arranging`; `everybody` alone knows arrays, for lists as of a cutoff.
"""
