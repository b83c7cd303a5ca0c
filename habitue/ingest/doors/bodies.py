"""The bytes of a request's body as JSON that can be read, and lists of JSON as their entries."""

import re
from typing import TypeVar

import msgspec

from habitue.ingest.doors.faults import Fault
from habitue.ingest.doors.intake import Malformed

T = TypeVar("T")

# what a decoder raises on something that it cannot read
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

BOM = b"\xef\xbb\xbf"

# two escapes that make one character, half of such a pair, or any other escape
_ESCAPE = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|(\\.)",
    re.DOTALL,
)
_REPLACEMENT = rb"\ufffd"


def readable(body: bytes) -> bytes:
    """JSON text without a byte order mark, its lone surrogates replaced by U+FFFD.

    A client that cuts text in the middle of an emoji sends half of it, which no UTF-8 can hold.

    Raises:
        Malformed: it is no UTF-8.
    """
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise Malformed("bad_text", f"the body is no UTF-8: byte {error.start}") from None
    return whole_characters(body.removeprefix(BOM))


def whole_characters(body: bytes) -> bytes:
    r"""The same JSON with U+FFFD for each half of a character.

    >>> whole_characters(rb'["\ud83d\ude00", "\ud83d", "\\ud83d"]')
    b'["\\ud83d\\ude00", "\\ufffd", "\\\\ud83d"]'
    """
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    return _ESCAPE.sub(lambda found: found[0] if found.lastindex else _REPLACEMENT, body)


def unreadable(error: Exception) -> Malformed:
    """Why a whole body cannot be read, from what the decoder says of it."""
    if isinstance(error, RecursionError):
        return Malformed("too_deep", "the body is nested too deeply")
    if isinstance(error, msgspec.ValidationError):
        detail, pointer = misfit(str(error))
        return Malformed("bad_json", detail, pointer=pointer)
    return Malformed("bad_json", str(error))


def decoded(
    raw: bytes, decoder: msgspec.json.Decoder[T], limit: tuple[str, int], faults: list[Fault]
) -> T | None:
    """One entry of a body, or None where fault was found with it.

    `limit` is what such an entry is called, with its article, and how many bytes it may have.
    """
    what, most = limit
    if len(raw) > most:
        faults.append(Fault("", "too_large", f"{what} has at most {most} bytes"))
        return None
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        detail, pointer = misfit(str(error))
        faults.append(Fault(pointer, "bad_json", detail))
    except UNREADABLE as error:
        faults.append(Fault("", "bad_json", str(error)))
    return None


def misfit(message: str) -> tuple[str, str]:
    """(what is wrong, a JSON pointer to it), of what a decoder says of a value of another type.

    >>> misfit("Expected `str`, got `int` - at `$.lines[0].item`")
    ('Expected `str`, got `int`', '/lines/0/item')
    """
    detail, _, path = message.partition(" - at `$")
    return detail, pointer_of(path.removesuffix("`"))


def pointer_of(path: str) -> str:
    """A decoder's path as a JSON pointer.

    >>> pointer_of(".lines[0].item"), pointer_of("")
    ('/lines/0/item', '')
    """
    return re.sub(r"\.|\[", "/", path).replace("]", "").replace("/...", "")
