"""The application within a server that is not ours: it opens and closes with that server's life."""

import asyncio
import contextlib

import httpx
import pytest

from habitue.errors import Busy
from habitue.lake.eventlog.segments import SqliteLog
from habitue.serving.app import Place
from habitue.serving.several.handing import HANDING_FILE
from habitue.serving.several.hosted import FIRST_SLOT, Hosted
from habitue.serving.several.writing import Writing
from habitue.workspace import open_workspace
from tests.serving.small import keys_of


@contextlib.asynccontextmanager
async def hosted(workspace):
    """As an ASGI server runs it."""

    def place() -> Place:
        log = SqliteLog(workspace.path / "log")
        return Place(
            path=workspace.path, log=log, directory=workspace.directory,
            lake=lambda: workspace.lake,
        )  # fmt: skip

    app, told, said = Hosted(place), asyncio.Queue(), asyncio.Queue()
    life = asyncio.create_task(app({"type": "lifespan"}, told.get, said.put))
    await told.put({"type": "lifespan.startup"})
    started = asyncio.create_task(said.get())
    await asyncio.wait([life, started], return_when=asyncio.FIRST_COMPLETED)
    if life.done():
        started.cancel()
        life.result()
    try:
        yield httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
    finally:
        await told.put({"type": "lifespan.shutdown"})
        await life


def test_two_hosted_ones_take_events_for_one_log_and_have_slots_of_their_own(tmp_path):
    workspace = open_workspace(tmp_path / "work")
    secret, _ = keys_of(workspace.path, "acme")
    online = workspace.path / "online"
    online.mkdir(mode=0o700)

    async def run() -> list[int]:
        async with hosted(workspace) as first, hosted(workspace) as second:
            told = []
            for number, client in enumerate((first, second, first)):
                event = {"name": "x", "customer": "c", "id": str(number)}
                answer = await client.post(
                    "/v1/events", json=event, headers={"X-Habitue-Key": secret}
                )
                told.append(answer.status_code)
            await first.aclose()
            await second.aclose()
            return told

    log = SqliteLog(workspace.path / "log")
    with contextlib.closing(log), contextlib.closing(Writing(online / HANDING_FILE, log)):
        assert asyncio.run(run()) == [202, 202, 202]
        assert log.end(0) == 3
    assert {one.name for one in online.glob("slot-*")} == {
        f"slot-{FIRST_SLOT}.lock", f"slot-{FIRST_SLOT + 1}.lock",
    }  # fmt: skip


def test_without_one_who_writes_events_are_refused_and_told_to_come_again(tmp_path):
    workspace = open_workspace(tmp_path / "work")
    secret, _ = keys_of(workspace.path, "acme")
    (workspace.path / "online").mkdir(mode=0o700)

    async def run() -> httpx.Response:
        async with hosted(workspace) as client, client:
            headers = {"X-Habitue-Key": secret}
            assert (await client.get("/v1/status", headers=headers)).status_code == 200
            return await client.post("/v1/events", json={"name": "x"}, headers=headers)

    told = asyncio.run(run())
    assert (told.status_code, told.headers["retry-after"]) == (503, "2")


def test_where_all_slots_are_taken_the_next_does_not_start(tmp_path, monkeypatch):
    monkeypatch.setattr("habitue.serving.several.hosted.FIRST_SLOT", 63)
    workspace = open_workspace(tmp_path / "work")
    (workspace.path / "online").mkdir(mode=0o700)

    async def run() -> None:
        async with hosted(workspace), hosted(workspace):
            pass

    with pytest.raises(Busy, match="answer here already"):
        asyncio.run(run())
