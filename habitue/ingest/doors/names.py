"""What other people's clients call events, and what they are called here.

A shop's own table goes before these; a name that stands in neither is kept as it came.
"""

from collections.abc import Mapping

from habitue.events import (
    CART_ADDED,
    CHECKOUT_STARTED,
    ITEM_ORDERED,
    ITEM_VIEWED,
    ITEMS_SEARCHED,
    MESSAGE_CLICKED,
    MESSAGE_DELIVERED,
    MESSAGE_OPENED,
    MESSAGE_SENT,
    ORDER_CANCELLED,
    ORDER_PLACED,
    ORDER_REFUNDED,
    UNSUBSCRIBED,
)

# Klaviyo's own metrics, and those that its shop integrations write
KLAVIYO = {
    "Viewed Product": ITEM_VIEWED,
    "Submitted Search": ITEMS_SEARCHED,
    "Searched Site": ITEMS_SEARCHED,
    "Added to Cart": CART_ADDED,
    "Started Checkout": CHECKOUT_STARTED,
    "Checkout Started": CHECKOUT_STARTED,
    "Placed Order": ORDER_PLACED,
    "Ordered Product": ITEM_ORDERED,
    "Refunded Order": ORDER_REFUNDED,
    "Cancelled Order": ORDER_CANCELLED,
    "Canceled Order": ORDER_CANCELLED,
    "Sent SMS": MESSAGE_SENT,
    "Received Email": MESSAGE_DELIVERED,
    "Received SMS": MESSAGE_DELIVERED,
    "Received Push": MESSAGE_DELIVERED,
    "Opened Email": MESSAGE_OPENED,
    "Opened Push": MESSAGE_OPENED,
    "Clicked Email": MESSAGE_CLICKED,
    "Clicked SMS": MESSAGE_CLICKED,
    "Unsubscribed": UNSUBSCRIBED,
    "Unsubscribed from Email Marketing": UNSUBSCRIBED,
    "Unsubscribed from SMS Marketing": UNSUBSCRIBED,
}

# Segment's e-commerce (v2, and what v1 called the same), email and push specs. Order Updated is
# left as it is: there it tells the whole order again, where order_updated adds lines to it.
SEGMENT = {
    "Product Viewed": ITEM_VIEWED,
    "Viewed Product": ITEM_VIEWED,
    "Products Searched": ITEMS_SEARCHED,
    "Searched Products": ITEMS_SEARCHED,
    "Product Added": CART_ADDED,
    "Added Product": CART_ADDED,
    "Checkout Started": CHECKOUT_STARTED,
    "Order Completed": ORDER_PLACED,
    "Completed Order": ORDER_PLACED,
    "Order Refunded": ORDER_REFUNDED,
    "Order Cancelled": ORDER_CANCELLED,
    "Email Sent": MESSAGE_SENT,
    "Email Delivered": MESSAGE_DELIVERED,
    "Email Opened": MESSAGE_OPENED,
    "Email Link Clicked": MESSAGE_CLICKED,
    "Unsubscribed": UNSUBSCRIBED,
    "Push Notification Received": MESSAGE_DELIVERED,
    "Push Notification Tapped": MESSAGE_CLICKED,
}

TABLES: dict[str, dict[str, str]] = {
    "klaviyo": KLAVIYO,
    "segment": SEGMENT,
    "rudderstack": SEGMENT,                # the same specs
    "posthog": SEGMENT,                    # has none of its own, and points at Segment's
}


def canonical(source: str, sent: str, own: Mapping[str, str]) -> str:
    """What an event of a source is called here; `own` is the shop's table for that source.

    >>> canonical("klaviyo", "Placed Order", {}), canonical("klaviyo", "Played Chess", {})
    ('order_placed', 'Played Chess')
    """
    found = own.get(sent)
    if found is None:
        found = TABLES.get(source, {}).get(sent)
    return sent if found is None else found
