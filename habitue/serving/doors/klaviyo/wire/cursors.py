"""Where the next page of a list begins: a place in its order, as a text that only we can write.

A cursor is signed with the shop's secret, for one list in one order. What Klaviyo's client sends
back is the text, or `=` and the text, or the whole address that the text stands in.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

Place: TypeAlias = list[str | int]

MOST_CHARACTERS = 8_192
_SIGNED_BYTES = 12

_IN_ADDRESS = re.compile(r"page(?:\[|%5B)cursor(?:\]|%5D)=", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_place = msgspec.json.Decoder(list[str | int])


class BadCursor(ValueError):
    """A cursor that we did not write, or not for this list."""


def cursor(place: Sequence[str | int], secret: bytes, scope: str) -> str:
    """A place in a list as text that goes into an address as it is."""
    payload = msgspec.json.encode(list(place))
    return base64.urlsafe_b64encode(_sign(payload, secret, scope) + payload).decode().rstrip("=")


def place_of(told: str, secret: bytes, scope: str) -> Place:
    """The place that a client names with what we gave it, in whichever of the forms.

    Raises:
        BadCursor: it was not given by us, to another shop, or of another list.
    """
    token = token_of(told)
    try:
        signed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        payload = signed[_SIGNED_BYTES:]
        if not hmac.compare_digest(signed[:_SIGNED_BYTES], _sign(payload, secret, scope)):
            raise BadCursor
        return _place.decode(payload)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise BadCursor("this is no cursor of this list; begin without one") from None


def token_of(told: str) -> str:
    """The text of a cursor without what a client left around it.

    >>> token_of("=abc"), token_of("http://x/api/profiles?sort=id&page%5Bcursor%5D=abc&filter=")
    ('abc', 'abc')
    """
    if len(told) > MOST_CHARACTERS:
        raise BadCursor("this is no cursor of this list; begin without one")
    within = _IN_ADDRESS.split(told)[-1]
    found = _TOKEN.match(within.lstrip("="))
    return found[0] if found else ""


def _sign(payload: bytes, secret: bytes, scope: str) -> bytes:
    told = f"cursor\0{scope}\0".encode() + payload
    return hmac.digest(secret, told, "sha256")[:_SIGNED_BYTES]
