"""Erasure by HTTP: asked for by any identity, with a secret key, seen by its own shop alone."""

import time
from types import SimpleNamespace

import pytest

from habitue.errors import Busy
from habitue.serving.beside import worker
from habitue.workspace import open_workspace
from tests.serving.small import keys_of, running, settled

ADA = {"name": "x", "id": "1", "customer": "ada", "email": "ada@example.com",
       "phone": "+442079460958",
       "time": "2026-01-05T10:00:00Z"}  # fmt: skip
BAD = [{}, {"customer": "ada", "email": "ada@example.com"}, {"email": "nobody"}, {"name": "ada"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("served") / "work") as server:
        yield server


def completed(client, erasure: str) -> dict:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        told = client.get(f"/v1/erasures/{erasure}").raise_for_status().json()
        if told["status"] == "complete":
            return told
        time.sleep(0.2)
    raise AssertionError(f"it was not completed in time: {told}")


@pytest.mark.slow
def test_an_erasure_by_email_takes_all_that_customer_s_keys_and_shows_its_proof(server):
    with server.client() as client:
        settled(client, client.post("/v1/events", json=ADA).json()["id"])
        asked = client.post("/v1/erasures", json={"email": "Ada@Example.com"})
        assert asked.status_code == 202
        told = completed(client, asked.json()["id"])
        assert told["proof"]["rows_erased"]["events"] == 1
        assert told["proof"]["rows_left"] == 0
        assert "ada" not in client.get("/v1/erasures").text
        again = settled(client, client.post("/v1/events", json=ADA).json()["id"])
        assert (again["appended"], again["rejected"]) == (0, 1)
    shop = open_workspace(server.workspace).shop("acme")
    assert shop.query("SELECT count(*) AS n FROM identifiers")["n"][0].as_py() == 0


@pytest.mark.parametrize("body", BAD, ids=str)
def test_a_request_names_one_identity_and_only_one(server, body):
    with server.client() as client:
        told = client.post("/v1/erasures", json=body)
    assert told.status_code == 400
    assert told.json()["detail"]


def test_a_public_key_erases_nobody_and_a_rival_sees_nothing(server):
    rival, _ = keys_of(server.workspace, "rival")
    with server.client(server.public) as client:
        assert client.post("/v1/erasures", json={"customer": "x"}).status_code == 403
    with server.client() as client:
        erasure = client.post("/v1/erasures", json={"customer": "who"}).json()["id"]
    with server.client(rival) as client:
        assert client.get("/v1/erasures").json() == {"erasures": [], "next": None}
        assert client.get(f"/v1/erasures/{erasure}").status_code == 404


def test_erasures_are_told_in_pages(server):
    with server.client() as client:
        asked = [
            client.post("/v1/erasures", json={"customer": f"page{n}"}).json()["id"]
            for n in range(3)
        ]
        page = client.get("/v1/erasures", params={"limit": 1}).json()
        found = page["erasures"]
        while page["next"]:
            page = client.get(page["next"]).raise_for_status().json()
            found += page["erasures"]
        everything = client.get("/v1/erasures").json()["erasures"]
        assert [one["id"] for one in found] == [one["id"] for one in everything]
        assert [one["id"] for one in found][-3:] == asked


def test_klaviyo_s_deletion_job_is_taken(server):
    profile = {"type": "profile", "attributes": {"email": "bo@example.com"}}
    attributes = {"profile": {"data": profile}}
    body = {"data": {"type": "data-privacy-deletion-job", "attributes": attributes}}
    with server.client() as client:
        told = client.post("/api/data-privacy-deletion-jobs", json=body)
        assert (told.status_code, told.content) == (202, b"")
        profile["attributes"]["phone_number"] = "+442079460958"
        told = client.post("/api/data-privacy-deletion-jobs", json=body)
        assert told.status_code == 400
        assert told.json()["errors"][0]["source"]["pointer"] == "/data/attributes/profile/data"


def test_one_erasure_that_fails_holds_up_nobody_else(monkeypatch):
    advanced = []

    def advance(places, job, *, now):
        if job == "first":
            raise Busy("somebody keeps house")
        advanced.append(job)

    monkeypatch.setattr(worker.privacy, "pending", lambda places: ["first", "second"])
    monkeypatch.setattr(worker.privacy, "advance", advance)
    with pytest.raises(Busy):
        worker.Worker._erase(SimpleNamespace(places=None, trim=lambda: None))
    assert advanced == ["second"]
