"""Which scope of a secret key each path asks for; what stands first decides.

A path that is not named here can be asked only with a key that has no bounds.
"""

import re
from functools import cache

_READS = ("GET", "HEAD")

# method (any where empty), what the path begins with, scope
_SCOPES: tuple[tuple[str, str, str], ...] = (
    ("", r"/v1/erasures|/api/data-privacy-deletion-jobs", "erase"),
    ("GET", r"/v1/customers/{id}/(predictions|recommendations|why)", "predictions:read"),
    ("GET", r"/v1/(recommendations|items|questions|models?|rules)", "predictions:read"),
    ("", r"/v1/rules", "rules:write"),
    ("", r"/v1/questions", "predictions:read"),
    ("GET", r"/v1/customers", "profiles:read"),
    ("GET", r"/api/(segments|lists)|/v1/audiences", "audiences:read"),
    ("GET", r"/api/profiles/{id}/(relationships/)?(segments|lists)", "audiences:read"),
    ("", r"/api/(segments|lists)|/v1/audiences", "audiences:write"),
    ("POST", r"/api/segment-(values|series)-reports", "audiences:read"),
    ("POST", r"/api/metric-aggregates", "events:read"),
    ("GET", r"/api/profiles", "profiles:read"),
    ("GET", r"/api/(events|metrics)|/v1/(receipts|rejected|status)", "events:read"),
    ("GET", r"/api/[a-z-]+-jobs", "events:read"),
    ("GET", r"/api/catalog", "events:read"),
    ("", r"/(api|client)/(event|profile|catalog|client|subscriptions)", "events:write"),
    ("POST", r"/v1/impressions|/v1/events", "events:write"),
)


@cache
def scope_of(method: str, path: str, *, public: bool) -> str | None:
    """The scope that a secret key needs; none: it must not be bounded at all."""
    for wanted, begin, scope in _SCOPES:
        if wanted in ("", "GET" if method in _READS else method) and re.match(begin, path):
            return scope
    return "events:write" if public else None
