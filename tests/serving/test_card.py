"""A customer's timeline, the card of what answers, what a shop lacks; tags and packed answers."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import pytest

from habitue.config import utc_now
from habitue.scoring.scorer import Scorer
from habitue.workspace import open_workspace
from tests.scoring.small import CUTOFF
from tests.serving.scored import scored
from tests.serving.small import ListLog, Server, in_process, keys_of

NAMES = [f"c{number:07d}" for number in range(60)]


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorer]:
    with scored(tmp_path_factory.mktemp("card"), CUTOFF) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(scorer: Scorer) -> Iterator[Server]:
    with in_process(scorer.profiles.path.parent.parent, ListLog()) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def busy(client: httpx.Client) -> str:
    """Whoever did the most."""
    counts = {name: client.get(f"/v1/customers/{name}").json().get("events") for name in NAMES}
    return max(counts, key=lambda name: sum((counts[name] or {}).values()))


def timeline(client: httpx.Client, customer: str, **asked: object) -> list[dict]:
    """All pages of a timeline."""
    told = client.get(f"/v1/customers/{customer}/timeline", params=asked).raise_for_status().json()
    found = told["events"]
    while told["next"]:
        told = client.get(told["next"]).raise_for_status().json()
        found += told["events"]
    return found


def test_a_timeline_is_told_in_pages_latest_first(client: httpx.Client, busy: str) -> None:
    found = timeline(client, busy, limit=3)
    assert len(found) > 6
    assert found == timeline(client, busy, limit=200)
    times = [one["time"] for one in found]
    assert times == sorted(times, reverse=True)
    assert len({one["id"] for one in found}) == len(found)
    counts = client.get(f"/v1/customers/{busy}").json()["events"]
    assert {name: sum(one["name"] == name for one in found) for name in counts} == counts
    orders = timeline(client, busy, name="order_placed", limit=1)
    assert {one["name"] for one in orders} == {"order_placed"}
    assert orders[0]["value"] > 0
    assert orders[0]["lines"][0]["quantity"] > 0


def test_a_cursor_is_of_one_shop_and_one_list(
    server: Server, client: httpx.Client, busy: str
) -> None:
    path = f"/v1/customers/{busy}/timeline"
    following = client.get(f"{path}?limit=1").json()["next"]
    (cursor,) = parse_qs(urlsplit(following).query)["cursor"]
    assert client.get(path, params={"cursor": cursor}).status_code == 200
    other = next(name for name in NAMES if name != busy)
    for place in (f"/v1/customers/{other}/timeline?cursor={cursor}", f"{path}?cursor={cursor}x"):
        refused = client.get(place)
        assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (400, "cursor")
    stranger, _ = keys_of(Path(server.workspace), "other")
    with server.client(stranger) as opened:
        assert opened.get(path).status_code == 404


def test_an_id_may_have_a_slash_in_it(client: httpx.Client) -> None:
    asked = client.get("/v1/customers/a%2Fb%20c/timeline")
    assert asked.json()["detail"] == "no customer of that id is known"
    other = client.get("/v1/customers/a/b%20c/timeline")
    assert other.json()["detail"].startswith("nothing is here")


def test_a_shop_is_told_what_answers_and_what_it_lacks(
    server: Server, client: httpx.Client
) -> None:
    told = client.get("/v1/status").json()["predictions"]
    assert (told["status"], told["waiting"], told["problem"]) == ("transfer", 0, None)
    assert any("habitue train" in one for one in told["missing"])
    assert any("500 customers" in one for one in told["missing"])
    stranger, _ = keys_of(Path(server.workspace), "other")
    with server.client(stranger) as opened:
        lacking = opened.get("/v1/status").json()["predictions"]
        card = opened.get("/v1/model").json()
    assert (lacking["status"], lacking["version"]) == ("insufficient", None)
    assert (card["version"], card["learnt"], card["card"]) == (None, None, None)


def test_the_card_of_weights_that_ship_says_that_they_do(client: httpx.Client) -> None:
    card = client.get("/v1/model").json()
    assert card["version"].startswith("starter")
    assert (card["learnt"]["own"], card["measured"]) == (False, [])
    assert card["trusted_within"] > 0
    assert 730.0 not in card["horizons_days"]


def test_the_card_of_a_model_of_its_own_has_figures_beside_others(
    server: Server, scorer: Scorer, client: httpx.Client
) -> None:
    version = publish(server, "acme")
    whole = scorer.scored.whole("acme")
    told = msgspec.json.decode(whole[1])
    try:
        told["whole"]["version"] = version
        scorer.scored.begin("acme", whole[0], msgspec.json.encode(told))
        card = client.get("/v1/model").json()
        told["whole"]["version"] = publish(server, "other")
        scorer.scored.begin("acme", whole[0], msgspec.json.encode(told))
        others = client.get("/v1/model").json()
    finally:
        scorer.scored.begin("acme", *whole)
    assert card["learnt"]["own"] and card["learnt"]["way"] == "tuned"
    assert {(one["method"], one["value"], one["chosen"]) for one in card["measured"]} == {
        ("as it is", 3.1, False), ("tuned", 2.9, True),
        ("mixture", 0.25, True), ("defaults", 0.2, False),
    }  # fmt: skip
    assert card["card"] == "# of acme\n"
    assert (others["card"], others["learnt"]["own"]) == (None, False)


def publish(server: Server, shop: str) -> str:
    """A version with the files that a card is read from, and no weights."""
    registry = open_workspace(server.workspace).registry
    from habitue.config import nano

    run = registry.start_run(nano(), shop=shop, cutoff=utc_now(), now=utc_now())

    def write(folder: Path) -> None:
        for name in ("config.json", "model.safetensors"):
            (folder / name).write_text("{}")
        (folder / "origin.json").write_text(
            '{"way": "tuned", "costs": {"as it is": 3.1, "tuned": 2.9}, "least_drift": 0.1}'
        )
        (folder / "mixture.json").write_text('{"recall": 0.25, "default_recall": 0.2}')

    version = registry.publish(run, write, saw=[], now=utc_now())
    registry.write_card(version, f"# of {shop}\n")
    return version


@pytest.mark.parametrize("path", ["/openapi.json", "/v1/model", "/v1/customers/{busy}/timeline"])
def test_who_has_an_answer_already_is_not_told_it_again(
    client: httpx.Client, busy: str, path: str
) -> None:
    path = path.format(busy=busy)
    told = client.get(path)
    tag = told.headers["etag"]
    again = client.get(path, headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    if "openapi" not in path:
        assert "private" in told.headers["cache-control"]


def test_what_is_large_is_packed_for_who_takes_that(server: Server, busy: str) -> None:
    with server.client() as client:
        path = f"/v1/customers/{busy}/timeline?limit=200"
        plain = client.get(path, headers={"Accept-Encoding": "identity"})
        with client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as told:
            raw = b"".join(told.iter_raw())
        assert told.headers["content-encoding"] == "gzip"
        assert "Accept-Encoding" in told.headers["vary"]
        assert gzip.decompress(raw) == plain.content
        assert len(raw) < len(plain.content) / 2
        assert told.headers["etag"] == plain.headers["etag"]
        assert "content-encoding" not in plain.headers
        small = client.get("/healthz", headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in small.headers
        assert client.head(path).content == b""
