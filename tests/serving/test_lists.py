"""What is shown to whom over HTTP: context, stock, what was bought or shown just now, rules."""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from habitue.config import utc_now
from habitue.events import Event
from habitue.lake.live import fresh
from habitue.lake.profiles import PROFILES_FILE, Profiles
from habitue.recommendations.shelf.rulebook import Rulebook
from habitue.recommendations.shelf.rules import Match, Rule
from habitue.sequences.build import DAY
from habitue.serving.answers.book import LOOK_SECONDS
from habitue.workspace import open_workspace
from tests.scoring.small import CUTOFF, SHOP, source_of
from tests.scoring.test_scorer import Clock, scorer_of, steps
from tests.serving.small import ListLog, Server, in_process

NOW = CUTOFF // DAY * DAY + DAY // 2


class Running:
    """A server whose live state takes what is sent when it is told to."""

    def __init__(self, server: Server, log: ListLog) -> None:
        self.server, self.log = server, log
        self.profiles = Profiles(server.workspace / "online" / PROFILES_FILE)
        self.client = server.client()

    def send(self, *records: dict) -> None:
        self.client.post("/v1/events", json=list(records)).raise_for_status()
        self.profiles.apply(0, self.log.read(0, self.profiles.cursor(0)))

    def show(self, impression: dict, *, key: str = "") -> None:
        with self.server.client(key) as client:
            told = client.post("/v1/impressions", json=impression)
        assert told.status_code == 202, told.text
        assert told.json()["accepted"] == 1
        self.profiles.apply(0, self.log.read(0, self.profiles.cursor(0)))

    def items(self, path: str = "", **asked: object) -> list[dict]:
        told = self.client.get(f"/v1{path}/recommendations", params={"k": 10} | asked)
        return told.raise_for_status().json()["items"]

    def codes(self, path: str = "", **asked: object) -> list[str]:
        return [one["item"] for one in self.items(path, **asked)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("lists")
    open_workspace(folder)
    source = source_of(folder)
    scorer = scorer_of(source, Clock(NOW), folder / "online")
    scorer.catch_up(source.lake)
    steps(scorer)
    scorer.close()
    log = ListLog()
    with in_process(folder, log) as server:
        held = Running(server, log)
        yield held
        held.client.close()
        held.profiles.close()


@pytest.fixture(scope="module")
def customer(running: Running) -> str:
    """Somebody with a list of their own, as a path."""
    for number in range(60):
        path = f"/customers/c{number:07d}"
        told = running.client.get(f"/v1{path}/recommendations")
        if told.status_code == 200 and told.json()["scored"]:
            return path
    raise AssertionError("nobody has a list")


def similar_to(running: Running, item: str) -> list[str]:
    told = running.client.get(f"/v1/items/{item}/similar?k=50").raise_for_status().json()
    return [one["item"] for one in told["similar"]]


@pytest.mark.parametrize("who", ["customer", "visitor", "nobody"])
def test_what_goes_with_the_page_is_shown_and_the_page_is_not(
    running: Running, customer: str, who: str
) -> None:
    running.send({"name": "item_viewed", "anonymous_id": "v-1", "item": "i000003"})
    path = {"customer": customer, "visitor": "/customers/anonymous:v-1", "nobody": ""}[who]
    page = running.codes(path)[0]
    cart = running.codes(path)[1:3]
    found = running.items(path, item=page, cart=",".join(cart))
    assert not {page, *cart} & {one["item"] for one in found}
    together = [one for one in found if one["reason"] == "bought_together"]
    assert together[0]["evidence"].startswith("often bought with")
    near = {item for one in (page, *cart) for item in similar_to(running, one)}
    assert {one["item"] for one in together} <= near
    assert running.codes(path, item=page) != running.codes(path, exclude=page)


def test_an_unknown_or_new_item_on_the_page_shows_the_list_as_it_is(
    running: Running, customer: str
) -> None:
    assert running.codes(customer, item="never-heard-of") == running.codes(customer)
    refused = running.client.get(
        "/v1/recommendations", params={"cart": ",".join(map(str, range(51)))}
    )
    assert refused.status_code == 400


def test_a_visitor_is_shown_what_goes_with_what_they_looked_at(running: Running) -> None:
    popular = running.codes()
    running.send({"name": "item_viewed", "anonymous_id": "v-2", "item": popular[0]})
    found = running.items("/customers/anonymous:v-2")
    assert popular[0] not in [one["item"] for one in found]
    assert found[0]["reason"] in ("bought_together", "popular")
    assert "bought_together" in {one["reason"] for one in found}


def test_a_customer_who_only_just_came_is_shown_what_sells(running: Running) -> None:
    running.send({"name": "checkout_started", "customer": "only-just"})
    assert running.codes("/customers/only-just") == running.codes()


def test_stock_and_publication_count_at_once(running: Running, customer: str) -> None:
    for path in (customer, ""):
        first = running.codes(path)[0]
        for gone, back in (
            ({"stock": 0}, {"stock": 3}), ({"published": False}, {"published": True})
        ):  # fmt: skip
            running.send({"kind": "item", "item": first, **gone})
            assert first not in running.codes(path)
            running.send({"kind": "item", "item": first, **back})
            assert running.codes(path)[0] == first


def test_what_was_just_bought_or_carted_is_left_out(running: Running, customer: str) -> None:
    name = customer.rpartition("/")[2]
    first, second, *_ = running.codes(customer)
    running.send({"name": "cart_added", "customer": name, "item": first})
    assert first not in running.codes(customer)
    running.send(
        {"name": "order_placed", "customer": name, "value": 5, "currency": "GBP", "id": "o-x",
         "lines": [{"item": second, "quantity": 1, "unit_price": 5}]}
    )  # fmt: skip
    found = running.codes(customer)
    assert second not in found
    assert first in found                  # it is the last event that counts


def test_a_rule_counts_within_a_second_in_every_list(running: Running, customer: str) -> None:
    directory = open_workspace(running.server.workspace).directory
    rulebook = Rulebook(directory, SHOP.shop, utc_now)

    def after(*rules: Rule) -> list[str]:
        for one in rulebook.all():
            rulebook.remove(one.id)
        for rule in rules:
            rulebook.add(rule)
        time.sleep(LOOK_SECONDS)
        return running.codes(customer)

    def codes_of_pins() -> list[str]:
        return [one["item"] for one in running.items() if one["reason"] == "pinned"]

    usual = after()
    last, first = usual[-1], usual[0]
    assert after(Rule(kind="pin", match=Match(items=(last,)), position=2))[1] == last
    assert running.codes()[1] == last
    assert codes_of_pins() == [last]
    assert after(Rule(kind="hide", match=Match(items=(first,))))[0] == usual[1]
    assert first not in after(Rule(kind="bury", match=Match(items=(first,))))[:-1]
    category = running.items(customer)[0]["category"]
    after(Rule(kind="only", match=Match(categories=(category,))))
    assert {one["category"] for one in running.items(customer, k=100)} == {category}
    assert {one["category"] for one in running.items(k=100)} == {category}
    assert after() == usual


def test_what_was_shown_again_and_again_goes_down_until_it_is_looked_at(
    running: Running, customer: str
) -> None:
    name = customer.rpartition("/")[2]
    usual = running.codes(customer)
    for _ in range(12):
        listed = running.client.get(f"/v1{customer}/recommendations").json()
        running.show(
            {"list_id": listed["list_id"], "customer": name, "items": usual[:1], "slot": "home"}
        )
    assert running.codes(customer)[0] != usual[0]
    assert usual[0] in running.codes(customer, k=100)
    running.send({"name": "item_viewed", "customer": name, "item": usual[0]})
    running.send({"name": "item_viewed", "customer": name, "item": "i-of-no-list"})
    assert running.codes(customer)[0] == usual[0]


def test_what_was_shown_is_on_disk_with_places_and_propensities_once(running: Running) -> None:
    sent = {
        "list_id": "l-1", "anonymous_id": "v-9", "items": ["a", "b"], "first": 3,
        "propensities": [0.5, 0.25],
    }  # fmt: skip
    for _ in range(2):
        running.show(sent, key=running.server.public)
    events = [one for one in running.log.events() if isinstance(one, Event)]
    found = [one for one in events if one.name == "recommendations_shown"]
    told = {one.digest: one for one in found if one.customer == "anonymous:v-9"}
    (event,) = told.values()
    assert msgspec.json.decode(event.properties) == {
        "list_id": "l-1", "items": ["a", "b"], "positions": [3, 4], "propensities": [0.5, 0.25],
    }  # fmt: skip
    for bad in (
        {"list_id": "x", "items": []}, {"list_id": "", "items": ["a"]}, {"items": ["a"]},
        {"list_id": "x", "items": ["a"], "propensities": [0.5, 0.5]},
        {"list_id": "x", "items": ["a"], "propensities": [1.5]}, {"list_id": "x", "items": "a"},
        {"list_id": "x", "items": ["a"], "price": 3},
    ):  # fmt: skip
        assert running.client.post("/v1/impressions", json=bad).status_code == 400, bad


def test_what_was_shown_waits_for_no_score(running: Running, customer: str) -> None:
    with running.profiles.writing() as connection:
        before = fresh.last_number(connection)
    name = customer.rpartition("/")[2]
    running.show({"list_id": "l-2", "customer": name, "items": ["a"]})
    with running.profiles.writing() as connection:
        assert fresh.last_number(connection) == before


def test_lists_have_ids_of_their_own(running: Running, tmp_path: Path) -> None:
    told = [running.client.get("/v1/recommendations").json()["list_id"] for _ in range(3)]
    assert len(set(told)) == 3


def test_rules_are_told_added_and_removed_over_http(running: Running) -> None:
    sent = {
        "kind": "pin", "match": {"items": ["i000004"]}, "position": 3,
        "until": "2999-01-01T00:00:00Z",
    }  # fmt: skip
    made = running.client.post("/v1/rules", json=sent)
    assert made.status_code == 201
    (held,) = running.client.get("/v1/rules").json()["rules"]
    assert held == made.json()
    assert held["rule"]["position"] == 3
    time.sleep(LOOK_SECONDS)
    assert running.codes()[2] == "i000004"
    assert running.client.delete(f"/v1/rules/{held['id']}").json() == held
    assert running.client.delete(f"/v1/rules/{held['id']}").status_code == 404
    assert running.client.get("/v1/rules").json() == {"rules": []}
    for bad in (
        {"kind": "pin", "match": {}}, {"kind": "praise", "match": {"items": ["x"]}}, [],
        {"kind": "bury", "match": {"items": ["x"]}, "until": "soon"}, {"kind": "bury"},
        {"kind": "bury", "match": {"colour": "red"}},
    ):  # fmt: skip
        refused = running.client.post("/v1/rules", json=bad)
        assert refused.status_code == 400, bad
        assert refused.json()["errors"]
    with running.server.client(running.server.public) as public:
        assert public.get("/v1/rules").status_code == 403
