"""What is told of an answer once it is made: that it is as before, or in fewer bytes."""

import asyncio
import hashlib
import zlib

from starlette.requests import Request
from starlette.responses import Response

LEAST_BYTES = 1_000                        # below, a packet holds it either way
INLINE_BYTES = 65_536                      # packed at once; what is larger, in a thread
_LEVEL = 1                                 # of zlib: most of the gain for little of the time


async def packed(request: Request, response: Response, *, tagged: bool) -> Response:
    """An answer with its tag, or 304 to who has it already; packed for who takes that."""
    if response.status_code == 200 and tagged:
        tag = f'W/"{hashlib.blake2b(response.body, digest_size=12).hexdigest()}"'
        response.headers.update({"ETag": tag, "Cache-Control": "private, no-cache"})
        if has_already(request.headers.get("if-none-match", ""), tag):
            kept = {name: response.headers[name] for name in ("ETag", "Cache-Control")}
            return Response(status_code=304, headers=kept)
    if len(response.body) > LEAST_BYTES and "content-encoding" not in response.headers:
        response.headers.add_vary_header("Accept-Encoding")
        if takes_gzip(request.headers.get("accept-encoding", "")):
            await _pack(response)
    return response


def has_already(told: str, tag: str) -> bool:
    """Whether one of the tags of `If-None-Match` is this one.

    >>> has_already('"a", W/"b"', 'W/"b"'), has_already("*", 'W/"b"'), has_already("", 'W/"b"')
    (True, True, False)
    """
    tags = {one.strip().removeprefix("W/") for one in told.split(",")}
    return tag.removeprefix("W/") in tags or "*" in tags


def takes_gzip(told: str) -> bool:
    """Whether `Accept-Encoding` takes gzip.

    >>> takes_gzip("br, gzip"), takes_gzip("gzip;q=0, *"), takes_gzip(""), takes_gzip("*;q=0.5")
    (True, False, False, True)
    """
    shares = dict(_share(one) for one in told.lower().split(","))
    return shares.get("gzip", shares.get("*", 0.0)) > 0


def _share(told: str) -> tuple[str, float]:
    name, _, share = told.partition(";")
    try:
        return name.strip(), float(share.strip().removeprefix("q=") or 1)
    except ValueError:
        return name.strip(), 0.0


async def _pack(response: Response) -> None:
    body = bytes(response.body)
    small = len(body) <= INLINE_BYTES
    response.body = _gzipped(body) if small else await asyncio.to_thread(_gzipped, body)
    response.headers["Content-Encoding"] = "gzip"
    response.headers["Content-Length"] = str(len(response.body))


def _gzipped(body: bytes) -> bytes:
    packing = zlib.compressobj(_LEVEL, wbits=31)
    return packing.compress(body) + packing.flush()
