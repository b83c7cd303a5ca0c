"""What a secret key may be held to; a public one may send, whatever it is for."""

SCOPES: dict[str, str] = {
    "events:write": "send events, profiles, consents and items",
    "events:read": "read events and metrics, receipts, what was rejected, and how sending goes",
    "profiles:read": "read customers: keys, properties, consents, what they are in",
    "predictions:read": "read predictions, lists of items and what the model says of itself",
    "rules:write": "make and remove rules of what is shown",
    "audiences:read": "read audiences and who is in them",
    "audiences:write": "make, change and remove audiences",
    "erase": "erase customers, and see how far that is",
}
