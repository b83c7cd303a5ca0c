import pytest

from habitue.events import CANONICAL_NAMES
from habitue.ingest.doors.names import TABLES, canonical


@pytest.mark.parametrize("source", TABLES)
def test_every_table_leads_to_canonical_names(source):
    assert set(TABLES[source].values()) <= set(CANONICAL_NAMES)
    assert not set(TABLES[source]) & set(CANONICAL_NAMES)


@pytest.mark.parametrize(
    ("source", "sent", "expected"),
    [
        ("klaviyo", "Placed Order", "order_placed"),
        ("klaviyo", "Order Completed", "Order Completed"),
        ("segment", "Order Completed", "order_placed"),
        ("rudderstack", "Product Viewed", "item_viewed"),
        ("posthog", "Product Added", "cart_added"),
        ("native", "order_placed", "order_placed"),
        ("segment", "Order Updated", "Order Updated"),
        ("a source of one's own", "Placed Order", "Placed Order"),
    ],
)
def test_a_name_is_mapped_where_its_source_has_it(source, sent, expected):
    assert canonical(source, sent, {}) == expected


def test_the_shops_table_goes_before_ours():
    own = {"Placed Order": "quote_requested", "Bestellung": "order_placed"}
    assert canonical("klaviyo", "Placed Order", own) == "quote_requested"
    assert canonical("klaviyo", "Bestellung", own) == "order_placed"
    assert canonical("klaviyo", "Viewed Product", own) == "item_viewed"
