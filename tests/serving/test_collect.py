"""A request's way into the log: answered after its flush, in turns by shop, or sent back."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitue.events import Event, Rejection
from habitue.ingest.doors.intake import Intake
from habitue.lake.eventlog.records import Entry, Part, decode, encode
from habitue.serving import collect
from habitue.serving.collect import Collector, Origin, is_of_shop, receipt_id, split
from habitue.serving.metrics import Metrics
from habitue.serving.replies import Refused
from tests.serving.small import ListLog, in_process, keys_of

NOW = datetime(2025, 3, 3, 12, tzinfo=UTC)


def event(number: int, *, shop: str = "acme", customer: str | None = "c1") -> Entry:
    one = Event(
        shop=shop, source="native", id=str(number), customer=customer, name="x", time=NOW,
        received=NOW,
    )  # fmt: skip
    return Entry(number, (one,))


@pytest.mark.parametrize("detail", ["", "a kind is one of: event, item"])
def test_what_was_wrong_comes_back_from_the_log(detail):
    wrong = Rejection(position=0, pointer="/kind", reason="bad_json", payload="x", detail=detail)
    part = Part("r", "acme", "native", "/v1/events", NOW, (), (wrong,))
    assert decode(encode(part)) == part


def test_a_row_of_the_log_from_before_rejections_had_a_detail_is_read():
    wrong = b'{"position":0,"pointer":"/time","reason":"bad_time","payload":"x"}'
    row = b'["r","acme","native","/v1/events","2025-03-03T12:00:00Z",[],[%b]]' % wrong
    assert decode(row).rejections == (
        Rejection(position=0, pointer="/time", reason="bad_time", payload="x"),
    )


def origin(shop: str = "acme", receipt: str = "r") -> Origin:
    return Origin(receipt=receipt, shop=shop, source="native", origin="/v1/events", received=NOW)


async def take(collector: Collector, number: int, *, shop: str = "acme", rows: int = 1):
    entries = tuple(event(number * 1_000 + row, shop=shop) for row in range(rows))
    intake = Intake(rows=rows, entries=entries)
    return await collector.take(origin(shop, f"{shop}-{number}"), 10, lambda: intake)


def within_a_loop(log: ListLog, steps):
    """Run `steps(collector)` in an event loop."""

    async def run():
        collector = Collector(log, Metrics())
        try:
            return await steps(collector)
        finally:
            log.open.set()
            collector.close()

    return asyncio.run(run())


def test_an_answer_is_given_only_after_the_flush():
    log = ListLog()
    log.open.clear()

    async def steps(collector):
        waiting = asyncio.create_task(take(collector, 1))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        log.open.set()
        kept = await waiting
        assert (kept.accepted, kept.offsets) == (1, {0: 0})

    within_a_loop(log, steps)


def test_all_that_waits_during_one_flush_shares_the_next():
    log = ListLog()
    log.open.clear()

    async def steps(collector):
        waiting = [asyncio.create_task(take(collector, number)) for number in range(20)]
        await asyncio.sleep(0.05)
        log.open.set()
        await asyncio.gather(*waiting)

    within_a_loop(log, steps)
    assert sum(len(batch) for batch in log.batches) == 20
    assert len(log.batches) <= 2


def test_a_tiny_shop_is_in_the_next_flush_however_much_a_huge_one_sends(monkeypatch):
    monkeypatch.setattr(collect, "FLUSH_BYTES", 20_000)
    log = ListLog()
    log.open.clear()

    async def steps(collector):
        huge = [
            asyncio.create_task(take(collector, number, shop="huge", rows=20))
            for number in range(100)
        ]
        await asyncio.sleep(0.1)
        tiny = asyncio.create_task(take(collector, 1, shop="tiny"))
        await asyncio.sleep(0.05)
        log.open.set()
        await asyncio.gather(tiny, *huge)

    within_a_loop(log, steps)
    shops = [{b'"tiny"' in body for body in batch} for batch in log.batches]
    first = next(place for place, found in enumerate(shops) if True in found)
    assert first <= 1                      # the flush that ran, and then its own
    assert len(log.batches) > 10


def test_a_shop_that_fills_its_line_is_told_to_wait_and_others_are_not(monkeypatch):
    monkeypatch.setattr(collect, "SHOP_BYTES", 5_000)
    log = ListLog()
    log.open.clear()

    async def steps(collector):
        waiting = [
            asyncio.create_task(take(collector, n, shop="huge", rows=10)) for n in range(20)
        ]
        await asyncio.sleep(0.05)
        refused = [one.exception() for one in waiting if one.done()]
        assert refused
        assert {one.status for one in refused} == {429}
        assert {one.retry_seconds for one in refused} == {1}
        tiny = asyncio.create_task(take(collector, 1, shop="tiny"))
        await asyncio.sleep(0.05)
        log.open.set()
        assert (await tiny).accepted == 1
        await asyncio.gather(*waiting, return_exceptions=True)

    within_a_loop(log, steps)


def test_a_flush_that_fails_is_told_to_all_that_wait_and_the_next_may_succeed():
    log = ListLog()
    log.broken = True

    async def steps(collector):
        outcomes = await asyncio.gather(
            *(take(collector, number) for number in range(5)), return_exceptions=True
        )
        assert [type(one) for one in outcomes] == [Refused] * 5
        assert {(one.status, one.retry_seconds) for one in outcomes} == {(503, 2)}
        log.broken = False
        assert (await take(collector, 9)).accepted == 1

    within_a_loop(log, steps)
    assert len(log.rows[0]) == 1


def test_what_breaks_while_appending_is_told_like_a_full_disk():
    log = ListLog()
    log.append = lambda shard, bodies: 1 // 0

    async def steps(collector):
        with pytest.raises(Refused):
            await take(collector, 1)

    within_a_loop(log, steps)


@given(st.lists(st.one_of(st.none(), st.sampled_from("abcdef")), max_size=40), st.integers(1, 5))
def test_a_split_keeps_every_entry_once_and_a_customer_together(customers, shards):
    entries = [event(place, customer=customer) for place, customer in enumerate(customers)]
    apart = split(entries, shards)
    assert sorted(one.position for part in apart.values() for one in part) == list(
        range(len(entries))
    )
    where = {}
    for shard, part in apart.items():
        for one in part:
            if (customer := one.nouns[0].customer) is not None:
                assert where.setdefault(customer, shard) == shard


def test_the_parts_of_a_request_go_to_their_shards_and_rejections_are_kept_once(tmp_path):
    log = ListLog(shards=4)
    with in_process(tmp_path, log) as server, server.client() as client:
        sent = [{"name": "x", "customer": f"c{n}", "id": str(n)} for n in range(40)] + [{"id": "?"}]
        told = client.post("/v1/events", json=sent).json()
    assert (told["accepted"], told["rejected_in_all"]) == (40, 1)
    assert sum(1 for rows in log.rows if rows) == 4
    assert len(log.events()) == 40
    assert len(log.rejections()) == 1
    assert {part.receipt for part in log.parts()} == {told["id"]}


def test_a_receipt_is_known_to_its_own_shop_alone():
    receipt = receipt_id(b"a" * 32, NOW)
    assert is_of_shop(receipt, b"a" * 32)
    assert not is_of_shop(receipt, b"b" * 32)
    assert not is_of_shop("x" * 32, b"a" * 32)


def test_receipts_sort_by_when_they_were_given():
    assert receipt_id(b"", NOW) < receipt_id(b"", NOW.replace(hour=13))


def test_a_full_disk_answers_503_until_there_is_room_again(tmp_path):
    log = ListLog()
    with in_process(tmp_path, log) as server, server.client() as client:
        log.broken = True
        refused = client.post("/v1/events", json={"name": "x", "customer": "c"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "2"
        assert refused.json()["code"] == "unavailable"
        bad = client.post("/v1/events", content=b"{")
        assert bad.status_code == 503      # it could not be kept, so it is not refused for good
        log.broken = False
        assert client.post("/v1/events", json={"name": "x", "customer": "c"}).status_code == 202
    assert len(log.events()) == 1


def test_a_tiny_shop_is_answered_quickly_while_a_huge_one_floods(tmp_path):
    log = ListLog()
    with in_process(tmp_path, log) as server:
        tiny_key, _ = keys_of(tmp_path, "tiny")
        flood = [{"name": "x", "customer": f"c{n}", "id": str(n)} for n in range(2_000)]
        stop = threading.Event()

        def send() -> None:
            with server.client() as client:
                while not stop.is_set():
                    client.post("/v1/events", json=flood)

        with ThreadPoolExecutor(4) as pool, server.client(tiny_key) as client:
            for _ in range(4):
                pool.submit(send)
            time.sleep(0.3)
            seconds = []
            for number in range(30):
                began = time.monotonic()
                client.post("/v1/events", json={"name": "x", "id": str(number), "customer": "c"})
                seconds.append(time.monotonic() - began)
            stop.set()
    assert sorted(seconds)[15] < 0.5
    assert sum(1 for one in log.events() if one.shop == "tiny") == 30
    assert sum(1 for one in log.events() if one.shop == "acme") > 2_000


def test_a_settled_answer_is_not_lost_when_the_client_has_left(tmp_path):
    log = ListLog()
    log.open.clear()
    with in_process(tmp_path, log) as server:
        with server.client() as client, pytest.raises(httpx.ReadTimeout):
            client.post("/v1/events", json={"name": "x", "customer": "c"}, timeout=0.2)
        log.open.set()
        with server.client() as client:
            client.post("/v1/events", json={"name": "y", "customer": "c"})
    assert [one.name for one in log.events()] == ["x", "y"]
