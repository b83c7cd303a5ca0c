"""Which way a row can move an answer, so that it need not be asked."""

import pytest

from habitue.audiences.language.parsing import parse
from habitue.audiences.live.asking.steering import NEW_ORDER, reads, settled

SAID = {
    "did view": {"view": True},
    "did view >= 3 times in 2 days": {"view": True},
    "did not view in 2 days": {"view": False},
    "did view <= 3 times": {"view": False},
    "did view = 1 times": {},
    'not did view where item = "mug"': {"view": False},
    "did view and not did cart": {"view": True, "cart": False},
    "did view and did view <= 3 times": {},
    "did view or profile.city = \"Paris\"": {"view": True},
    "did view then cart within 1 hour": {"view": True, "cart": True},
    "did view then not cart within 1 hour": {"view": True, "cart": False},
    "did view then not view within 1 hour": {},
    "sum of view value >= 3": {},          # amounts may be below nought
    # another source may tell another time of an order, but not of one that is new
    "did order_placed": {NEW_ORDER: True},
    "did item_ordered": {NEW_ORDER: True},
    "did view and did order_placed": {"view": True, NEW_ORDER: True},
    "did view then not order_placed": {"view": True, NEW_ORDER: False},
    "did order_placed then item_ordered": {NEW_ORDER: True},
    "sum of order_placed value >= 3": {NEW_ORDER: True},
    "sum of item_ordered value >= 3": {},  # a line may be a reduction
    "first order_placed before 2025-03-01": {},
    'rfm = "loyal"': {},
}  # fmt: skip


@pytest.mark.parametrize("said", SAID)
def test_rows_that_leave_an_answer_as_it_is_are_known(said):
    condition = parse(said)
    assert dict(settled(condition)) == SAID[said]
    assert SAID[said].keys() <= {*reads(condition), NEW_ORDER}
