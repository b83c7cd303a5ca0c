"""Bodies: decompressed within bounds, whatever a client makes of them."""

import asyncio
import gzip
import random
import threading
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from habitue.serving import bodies
from habitue.serving.bodies import Gone, Room
from habitue.serving.replies import Refused

ENCODINGS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "": bytes,
}


def request(parts: list[bytes], encoding: str = "", length: int | None = None) -> Request:
    """A request whose body comes in these parts."""
    left = list(parts)

    async def receive():
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    headers = [(b"content-encoding", encoding.encode())]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def read(asked: Request, most_bytes: int = 10_000_000, room: Room | None = None) -> bytes:
    return asyncio.run(bodies.whole(asked, room or Room(), most_bytes=most_bytes))


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)] or [b""]


@given(st.binary(max_size=5_000), st.sampled_from(sorted(ENCODINGS)), st.integers(1, 700))
def test_a_body_is_what_was_sent_however_it_was_cut_and_packed(content, encoding, size):
    assert read(request(cut(ENCODINGS[encoding](content), size), encoding)) == content


def test_raw_deflate_is_understood_as_well():
    packer = zlib.compressobj(wbits=-15)
    content = packer.compress(b"hello" * 100) + packer.flush()
    assert read(request([content], "deflate")) == b"hello" * 100


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_one_packed_file_may_follow_another(encoding):
    pack = ENCODINGS[encoding]
    assert read(request(cut(pack(b"one\n") + pack(b"two\n"), 7), encoding)) == b"one\ntwo\n"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_body_that_ends_in_the_middle_is_refused(encoding):
    packed = ENCODINGS[encoding](bytes(range(256)) * 50)
    with pytest.raises(Refused) as refused:
        read(request([packed[: len(packed) // 2]], encoding))
    assert refused.value.status == 400


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_what_is_not_packed_as_it_says_is_refused(encoding):
    with pytest.raises(Refused) as refused:
        read(request([b'{"name": "not packed at all"}'], encoding))
    assert refused.value.reason == "bad_encoding"


def test_an_encoding_that_is_not_known_is_refused():
    with pytest.raises(Refused) as refused:
        read(request([b"x"], "br"))
    assert refused.value.status == 415


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_bomb_is_refused_in_little_memory(encoding):
    bomb = ENCODINGS[encoding](bytes(200_000_000))
    tracemalloc.start()
    with pytest.raises(Refused) as refused:
        read(request(cut(bomb, 65_536), encoding), most_bytes=20_000_000)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused.value.status == 413
    assert most < 120_000_000


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_what_grows_without_measure_is_refused_below_the_limit_as_well(encoding):
    bomb = ENCODINGS[encoding](bytes(100_000_000))
    with pytest.raises(Refused) as refused:
        read(request(cut(bomb, 65_536), encoding), most_bytes=4_000_000_000)
    assert (refused.value.status, refused.value.reason) == (413, "too_large")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_what_is_large_is_decompressed_off_the_loop(encoding, monkeypatch):
    inline = []
    for kind in (bodies._Zlib, bodies._Zstd):
        def pull(self, about, held=kind.pull):
            grown = held(self, about)
            if threading.current_thread() is threading.main_thread():
                inline.append(len(grown))
            return grown

        monkeypatch.setattr(kind, "pull", pull)
    content = random.Random(1).randbytes(1_000_000) * 3
    assert read(request([ENCODINGS[encoding](content)], encoding)) == content
    assert sum(inline) < 400_000


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_nothing_is_left_inside_where_pieces_are_cut(encoding, monkeypatch):
    monkeypatch.setattr(bodies, "INLINE_BYTES", 7)
    monkeypatch.setattr(bodies, "PIECE_BYTES", 11)
    for size in range(1, 60):
        content = b"a" * size
        assert read(request([ENCODINGS[encoding](content)], encoding)) == content


def test_a_body_at_the_limit_is_taken_and_one_beyond_is_not():
    assert len(read(request(cut(bytes(1_000), 100)), most_bytes=1_000)) == 1_000
    with pytest.raises(Refused):
        read(request(cut(bytes(1_001), 100)), most_bytes=1_000)


def test_a_length_that_is_too_large_is_refused_before_anything_is_read():
    with pytest.raises(Refused) as refused:
        read(request([], length=1_001), most_bytes=1_000)
    assert refused.value.status == 413


def test_room_is_given_back_whatever_becomes_of_a_body():
    room = Room(most_bytes=10_000)
    read(request([bytes(9_000)]), room=room)
    with pytest.raises(Refused):
        read(request(cut(bytes(9_000), 1_000)), most_bytes=5_000, room=room)
    assert room.taken == 0


def test_bodies_that_do_not_fit_together_are_told_to_come_again():
    room = Room(most_bytes=10_000, taken=5_000)
    with pytest.raises(Refused) as refused:
        read(request([bytes(9_000)]), room=room)
    assert (refused.value.status, refused.value.retry_seconds) == (503, 2)
    assert room.taken == 5_000


def test_one_sender_cannot_take_the_room_of_others():
    room = Room(most_bytes=10_000, each_bytes=4_000)
    room.take(3_000, "greedy")
    with pytest.raises(Refused):
        room.take(3_000, "greedy")
    room.take(3_000, "other")
    room.give(3_000, "greedy")
    room.take(4_000, "greedy")
    assert room.taken == 7_000


def test_a_client_that_says_nothing_is_sent_away(monkeypatch):
    monkeypatch.setattr(bodies, "SILENCE_SECONDS", 0.01)

    async def receive():
        await asyncio.sleep(60)

    with pytest.raises(Refused) as refused:
        read(Request({"type": "http", "method": "POST", "headers": []}, receive))
    assert refused.value.status == 408


def test_a_client_that_drips_is_sent_away(monkeypatch):
    monkeypatch.setattr(bodies, "GRACE_SECONDS", 0.01)

    async def receive():
        await asyncio.sleep(0.005)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(Refused) as refused:
        read(Request({"type": "http", "method": "POST", "headers": []}, receive))
    assert refused.value.status == 408


def test_a_client_that_drips_after_much_is_sent_away(monkeypatch):
    monkeypatch.setattr(bodies, "GRACE_SECONDS", 0.05)
    parts = 0

    async def receive():
        nonlocal parts
        parts += 1
        await asyncio.sleep(0.005 if parts > 1 else 0)
        return {"type": "http.request", "body": bytes(1_000_000 if parts == 1 else 1),
                "more_body": parts < 1_000}

    with pytest.raises(Refused) as refused:
        read(Request({"type": "http", "method": "POST", "headers": []}, receive))
    assert refused.value.status == 408
    assert parts < 100


def test_a_client_does_not_pay_for_our_own_slowness(monkeypatch):
    monkeypatch.setattr(bodies, "GRACE_SECONDS", 0.05)

    async def slowly():
        asked = request(cut(bytes(100), 10))
        async for _ in bodies.pieces(asked, most_bytes=1_000):
            await asyncio.sleep(0.02)

    asyncio.run(slowly())


def test_a_client_that_left_is_not_answered():
    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(Gone):
        read(Request({"type": "http", "method": "POST", "headers": []}, receive))
