"""What a request to each of our paths can look like; a test sends every one as it stands here.

The shop of the examples has a customer `c_42`, and sells `mug`, `pot` and `tea`. Where a path names
what an earlier answer told, `{…}` stands for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Values: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """A request: its parameters by name, and each body that it may have, by what that says."""

    parameters: Values = field(default_factory=dict)
    bodies: Mapping[str, Values] = field(default_factory=dict)


NOTHING = Example()
CUSTOMER = {"id": "c_42"}
_LIST = {"k": 4, "item": ["mug"], "cart": ["tea", "pot"]}
_EVENTS: Mapping[str, Values] = {
    "an order": {
        "name": "order_placed", "id": "order-1001", "customer": "c_42", "value": 25,
        "currency": "EUR", "lines": [{"item": "mug", "quantity": 2, "unit_price": 12.5}],
    },
    "a look at an item": {"name": "item_viewed", "anonymous_id": "a1b2", "item": "mug"},
    "an item": {
        "kind": "item", "item": "mug", "title": "Enamel mug", "category": "kitchen",
        "price": 12.5, "currency": "EUR", "stock": 40,
    },
    "a profile": {"kind": "profile", "customer": "c_42", "set": {"plan": "gold"}},
    "a consent": {
        "kind": "consent", "email": "ada@example.com", "channel": "email", "status": "subscribed",
    },
    "a link": {"kind": "link", "customer": "c_42", "email": "ada@example.com"},
}  # fmt: skip

# by the operation; one without parameters and body needs none
EXAMPLES: Mapping[str, Example] = {
    "post_events": Example(bodies=_EVENTS),
    "get_receipt": Example({"id": "{post_events}"}),
    "get_rejected": Example({"limit": 20}),
    "get_customer": Example(CUSTOMER),
    "get_predictions": Example(
        CUSTOMER | {"question": ["churn", "next_order"], "horizon_days": [30.0, 90.0]}
    ),
    "get_memberships": Example(CUSTOMER),
    "get_timeline": Example(CUSTOMER | {"name": "order_placed", "limit": 20}),
    "get_recommendations": Example(CUSTOMER | _LIST | {"exclude_bought": True}),
    "get_popular": Example(_LIST | {"per_category": 2}),
    "get_similar": Example({"item": "mug", "k": 4}),
    "get_why": Example(
        CUSTOMER | {"question": "churn", "horizon_days": 90.0, "budget_ms": 200.0}
    ),
    "create_question": Example(
        bodies={"how often": {"question": "count of order_placed in 60 days"}}
    ),
    "get_question": Example({"id": "{create_question}"}),
    "get_answers": Example({"id": "{create_question}", "limit": 20}),
    "post_impressions": Example(
        bodies={
            "two items came into view": {
                "list_id": "4f0c2b7d9a1e8835", "customer": "c_42", "items": ["mug", "pot"],
            },
        }
    ),
    "post_rule": Example(
        bodies={
            "an item comes first": {"kind": "pin", "match": {"items": ["mug"]}, "position": 1},
            "a category counts for more": {
                "kind": "boost", "match": {"categories": ["kitchen"]}, "factor": 1.5,
            },
        }
    ),
    "delete_rule": Example({"id": "{post_rule}"}),
    "create_erasure": Example(bodies={"by an email": {"email": "ada@example.com"}}),
    "get_erasures": Example({"limit": 20}),
    "get_erasure": Example({"id": "{create_erasure}"}),
}  # fmt: skip


def example_of(operation: str) -> Example:
    """What a request to a path can look like."""
    return EXAMPLES.get(operation, NOTHING)
