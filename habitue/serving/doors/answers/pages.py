"""Pages of a list: a page goes on after a place, which a cursor holds that only we can write."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

from habitue.serving.app import Asked
from habitue.serving.contract.wanted import bad_parameter
from habitue.serving.doors.klaviyo.wire.cursors import BadCursor, Place, cursor, place_of


def place(asked: Asked, told: str | None) -> Place | None:
    """The place that a request's `cursor` names, in the list of its path; none: from the start."""
    if told is None:
        return None
    try:
        return place_of(told, asked.shop.secret, _scope(asked))
    except BadCursor as error:
        raise bad_parameter("cursor", str(error)) from None


def following(
    asked: Asked, after: Sequence[str | int], same: Mapping[str, str | int | None]
) -> str:
    """The address of the next page, which is like this one otherwise."""
    told = {name: value for name, value in same.items() if value is not None}
    text = cursor(after, asked.shop.secret, _scope(asked))
    return f"{quote(_path(asked))}?{urlencode(told | {'cursor': text})}"


def _scope(asked: Asked) -> str:
    return f"ours {_path(asked)}"


def _path(asked: Asked) -> str:
    return str(asked.request.scope["path"]).rstrip("/")
