"""Customer keys: their kinds, which of two is the stronger, and the id a profile is shown by.

A key is what an event calls its customer. An external id stands as the shop sent it; every other
kind begins with a prefix, and an external id that looks like one gets `external:` in front. Here
because both the lake (which resolves keys) and ingest (which makes them) need it, and ingest may
import the lake but never the other way; `habitue.ingest.doors.keys` makes keys.
"""

import hashlib
from typing import Literal, TypeAlias, get_args

Kind: TypeAlias = Literal["external", "email", "phone", "profile", "anonymous"]

KINDS: tuple[Kind, ...] = get_args(Kind)
PREFIXES = tuple(f"{kind}:" for kind in KINDS)

# a customer is named by the strongest of all keys; an input by the strongest that it holds, and
# there an anonymous id goes before a profile id, which may be ours and say nothing new
STRENGTH: dict[Kind, int] = {"external": 0, "email": 1, "phone": 2, "profile": 3, "anonymous": 4}

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"           # Crockford's, of ids that are shown
_KIND_OF_PREFIX: dict[str, Kind] = dict(zip(KINDS, KINDS, strict=True))


def kind_of(key: str) -> Kind:
    """What kind of key this is.

    >>> kind_of("c_42"), kind_of("email:6f1e"), kind_of("external:email:mine")
    ('external', 'email', 'external')
    """
    prefix, colon, _ = key.partition(":")
    return _KIND_OF_PREFIX.get(prefix, "external") if colon else "external"


def external_key(external: str) -> str:
    """The key of an external id: as sent, unless it begins as keys of another kind do.

    >>> external_key("c_42"), external_key("email:mine")
    ('c_42', 'external:email:mine')
    """
    return f"external:{external}" if external.startswith(PREFIXES) else external


def external_of(key: str) -> str:
    """The external id as it was sent; the inverse of `external_key`."""
    return key.removeprefix("external:")


def profile_id(shop: str, key: str) -> str:
    """The id by which a customer's profile is shown: 26 letters and digits, like a ULID.

    >>> profile_id("acme", "c_42")
    '011362Q1K579BQNJBA7DTQGV4M'
    """
    digest = hashlib.blake2b(f"{len(shop)}:{shop}{key}".encode(), digest_size=16).digest()
    return "01" + spelt(digest, 24)           # the low 120 bits


def spelt(digest: bytes, letters: int) -> str:
    """The low bits of a digest, five to a letter.

    >>> spelt(bytes([0, 31]), 2)
    '0Z'
    """
    number = int.from_bytes(digest, "big")
    return "".join(_LETTERS[number >> 5 * place & 31] for place in reversed(range(letters)))
