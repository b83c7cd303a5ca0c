"""What can be wrong with an input: a vocabulary of reasons, a `Fault`, and how it is kept.

A translator collects faults in a list that it hands to whatever reads a field; an input with any
fault becomes a `Rejection`, named by the first.
"""

from dataclasses import dataclass

from habitue.events import PAYLOAD_BYTES, Rejection

# reason -> what the input has; each appears in docs/reference
REASONS = {
    "bad_json": "text that is no JSON, or JSON of another shape than was wanted",
    "bad_text": "text that is no UTF-8, holds a NUL, or is empty where it must not be",
    "bad_number": "a number that is infinite, none, or beyond what 64 bits can hold",
    "bad_time": "a time that cannot be read, before 1970, or too far ahead",
    "bad_amount": "an amount, price or quantity that is no number or out of range",
    "bad_currency": "no currency where an amount needs one, or one that is not three letters",
    "bad_identifier": "an email, phone number or id that cannot be one",
    "bad_consent": "a channel or status of consent that is not known",
    "bad_lines": "lines of an order that cannot be read",
    "no_customer": "nothing that says whom it is about",
    "no_name": "no name of an event",
    "no_item": "no item, where one is needed",
    "unknown_field": "a field that the protocol does not have",
    "unknown_kind": "a kind of input that the protocol does not have",
    "too_large": "more bytes than the protocol allows",
    "too_many": "more entries, keys or lines than the protocol allows",
    "too_deep": "objects or lists nested deeper than the protocol allows",
    "forbidden_with_public_key": "something that only a secret key may send",
    "erased": "a time before its customer was erased",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with an input."""

    pointer: str                           # a JSON pointer into the input: "/lines/0/item"
    reason: str                            # one of REASONS
    detail: str = ""                       # a sentence for whoever sent it


def rejection(position: int, fault: Fault, raw: bytes) -> Rejection:
    """The input as it came, cut, with what is wrong with it."""
    payload = raw[:PAYLOAD_BYTES].decode(errors="replace")
    if len(payload) * 3 > PAYLOAD_BYTES:      # a replaced byte takes three
        payload = payload.encode()[:PAYLOAD_BYTES].decode(errors="ignore")
    return Rejection(
        position=position, pointer=fault.pointer, reason=fault.reason, payload=payload,
        detail=fault.detail,
    )  # fmt: skip


def escaped(name: str) -> str:
    """A member's name as a JSON pointer holds it (RFC 6901).

    >>> escaped("a/b~c")
    'a~1b~0c'
    """
    return name.replace("~", "~0").replace("/", "~1")
