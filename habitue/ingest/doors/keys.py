"""Customer keys from what a client sends: normalised, and emails and phones as surrogates.

An input may name its customer in several ways. `identify` reads them all into a `Who`: the
strongest is the key of the input, each further one a link to it, and each raw email or phone an
identifier, the only noun that holds it. What kinds of keys there are stands in `habitue.lake.keys`,
which the lake needs, too.
"""

import hmac
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from habitue.errors import BadQuery
from habitue.events import Identifier, Instant, Link
from habitue.ingest.doors.faults import Fault
from habitue.ingest.doors.intake import Door
from habitue.lake.keys import external_key
from habitue.lake.keys import profile_id as profile_id  # asked for beside the others

ID_CHARACTERS = 512                        # the most that an id may have
_EMAIL_CHARACTERS = 254                    # RFC 5321
_PHONE_DIGITS = range(7, 16)               # E.164
_PHONE_FILLERS = str.maketrans("", "", " \t-.()/\u00a0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How an input names its customer, each as sent; None where it does not.

    Numbers are ids as well; of anything else than text and numbers nothing can be made.
    """

    external: object = None
    email: object = None
    phone: object = None
    anonymous: object = None
    profile: object = None                 # the id of a profile: ours, or Klaviyo's own


@dataclass(frozen=True, slots=True)
class Who:
    """Whom an input is about."""

    key: str                               # the strongest
    others: tuple[str, ...] = ()           # the further keys, strongest first
    raw: tuple[tuple[str, Literal["email", "phone"], str], ...] = ()  # (key, kind, normalised)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """When and how it was said that keys belong together."""

    time: Instant
    cause: str                             # as in Link.cause: "event", "identify", "alias", …
    backfilled: bool = False


def normalised_email(email: str) -> str | None:
    """An email as it is compared: Unicode NFC, no spaces around it, lower case; None if it is none.

    >>> normalised_email(" Ada@Example.COM "), normalised_email("ada"), normalised_email("a b@c")
    ('ada@example.com', None, None)
    """
    if email.isascii():
        found = email.strip().lower()
    else:                                     # lower case can undo NFC, and NFC what strip did
        found = unicodedata.normalize("NFC", unicodedata.normalize("NFC", email).strip().lower())
    local, at, domain = found.rpartition("@")
    if not (at and local and domain) or len(found) > _EMAIL_CHARACTERS:
        return None
    return found if found.isprintable() and " " not in found else None


def normalised_phone(phone: str) -> str | None:
    """A phone number in E.164 form; None if it is none, or lacks its country.

    >>> normalised_phone("+44 (20) 7946-0958"), normalised_phone("020 7946 0958")
    ('+442079460958', None)
    """
    found = phone.translate(_PHONE_FILLERS)
    if found.startswith("00"):
        found = f"+{found[2:]}"
    digits = found[1:]
    if found[:1] != "+" or not (digits.isascii() and digits.isdigit()) or digits[0] == "0":
        return None
    return found if len(digits) in _PHONE_DIGITS else None


def email_key(secret: bytes, normalised: str) -> str:
    """The surrogate of a normalised email."""
    return f"email:{_surrogate(secret, 'email', normalised)}"


def phone_key(secret: bytes, normalised: str) -> str:
    """The surrogate of a normalised phone number; its plus sign is no part of it."""
    return f"phone:{_surrogate(secret, 'phone', normalised.removeprefix('+'))}"


def surrogate(secret: bytes, *, email: str | None = None, phone: str | None = None) -> str:
    """The key of a raw email or phone.

    Raises:
        BadQuery: neither was given, or what was given is none.
    """
    if email is not None and (found := normalised_email(email)) is not None:
        return email_key(secret, found)
    if phone is not None and (found := normalised_phone(phone)) is not None:
        return phone_key(secret, found)
    raise BadQuery(
        f"{email or phone!r} is no email and no phone number\n"
        "hint: they look like ada@example.com and +442079460958"
    )


def readable_id(value: object) -> str | None:
    """An id as text: text as it is, whole numbers as written; None if it can be no id.

    >>> readable_id("c_42"), readable_id(42), readable_id(True), readable_id("")
    ('c_42', '42', None, None)
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64:
        return str(value)
    if not isinstance(value, str) or not value or len(value) > ID_CHARACTERS:
        return None
    return None if "\0" in value or value.isspace() else value


def identify(
    names: Names, door: Door, pointers: dict[str, str], faults: list[Fault]
) -> Who | None:
    """Whom an input is about; None if nothing says so or something is no identifier.

    `pointers` says where each field of `names` stood, for faults. A name that is None or an empty
    text is not told; one that can be no identifier is a fault. That nothing is told is no fault:
    it is the caller's to say whether that is allowed.
    """
    keys: list[str] = []
    raw: list[tuple[str, Literal["email", "phone"], str]] = []
    if (found := _id(names.external, "external", pointers, faults)) is not None:
        keys.append(external_key(found))
    if (found := _id(names.email, "email", pointers, faults)) is not None:
        if (email := normalised_email(found)) is None:
            faults.append(_bad("email", pointers, "an email looks like ada@example.com"))
        else:
            keys.append(email_key(door.secret, email))
            raw.append((keys[-1], "email", email))
    if (found := _id(names.phone, "phone", pointers, faults)) is not None:
        if (phone := normalised_phone(found)) is None:
            faults.append(_bad("phone", pointers, "a phone number looks like +442079460958"))
        else:
            keys.append(phone_key(door.secret, phone))
            raw.append((keys[-1], "phone", phone))
    for kind in ("anonymous", "profile"):
        if (found := _id(getattr(names, kind), kind, pointers, faults)) is not None:
            keys.append(f"{kind}:{found}")
    return Who(keys[0], tuple(keys[1:]), tuple(raw)) if keys else None


def stitched(who: Who, said: Said, door: Door) -> Iterator[Link | Identifier]:
    """What naming a customer in several ways, or by email or phone, tells beside the input."""
    for key, kind, value in who.raw:
        yield Identifier(
            shop=door.shop, key=key, kind=kind, value=value, time=said.time,
            received=door.received,
        )
    for other in who.others:
        yield linked(who.key, other, said, door)


def linked(key: str, other: str, said: Said, door: Door, *, undo: bool = False) -> Link:
    """That two keys are one customer from then on, or (undo) no longer are."""
    return Link(
        shop=door.shop, source=door.source, key=key, other=other, time=said.time,
        received=door.received, cause=said.cause, undo=undo, public=door.public,
        backfilled=said.backfilled,
    )


def _surrogate(secret: bytes, kind: str, normalised: str) -> str:
    return hmac.digest(secret, f"{kind}\0{normalised}".encode(), "sha256")[:16].hex()


def _id(value: object, kind: str, pointers: dict[str, str], faults: list[Fault]) -> str | None:
    if value is None or value == "":
        return None
    found = readable_id(value)
    if found is None:
        faults.append(
            _bad(kind, pointers, f"an id is text of at most {ID_CHARACTERS} characters, or whole")
        )
    return found


def _bad(kind: str, pointers: dict[str, str], detail: str) -> Fault:
    return Fault(pointers.get(kind, ""), "bad_identifier", detail)
