"""A shop's new items, in its catalogue and ordered by nobody yet, borrow from what reads alike.

A list of what sells would never show them. So a new item is bought beside what its lenders are
bought beside, and is as popular as half of what they are: less than they, for most of what is new
does not become what they are, and more than nothing, which is what is known of it.
"""

# V items
from dataclasses import replace

import numpy as np

from habitue.recommendations.candidates import Past
from habitue.recommendations.unseen import LENDERS, alike, ngram_vectors, shares_of, with_lent
from habitue.sequences.build import Sequences

LENT = 0.5                                 # of the popularity of its lenders, to a new item


def with_newcomers(past: Past, sequences: Sequences) -> Past:
    """The past at the sequences' cutoff, new items borrowing; earlier it stays as it is.

    What a catalogue held at an earlier instant is not known, so that there an item would be new
    which was not there yet.
    """
    new = newcomers(sequences) if past.at == sequences.cutoff else np.zeros(0, dtype=bool)
    if not new.any() or new.all():
        return past
    written = [ngram_vectors(list(sequences.titles), list(sequences.categories))]
    shares = shares_of(alike(written, new, ~new, LENDERS))
    return replace(
        past,
        neighbours=with_lent(past.neighbours, shares),
        popularity=past.popularity + LENT * (shares @ past.popularity.T).T,
        lenders=shares,
    )


def newcomers(sequences: Sequences) -> np.ndarray:
    """(V,) bool: in the catalogue with a text, and in no order, refund or other event of value."""
    valued = np.repeat(sequences.value != 0, np.diff(sequences.line_offsets))
    known = sequences.titles == ""
    known[sequences.line_item[valued]] = True
    known[sequences.sales_item] = True
    return ~known
