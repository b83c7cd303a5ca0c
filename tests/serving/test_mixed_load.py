"""Two shops under load at once: nothing crosses, nothing is lost, no answer is from the future."""

import json
from contextlib import closing
from datetime import timedelta

import pytest

from habitue.config import utc_now
from tests.serving.mixed.loaded import CLIENTS, Loaded, Seen, flat


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    with closing(Loaded(tmp_path_factory.mktemp("loaded") / "work", seed=1, customers=60)) as one:
        one.fill()
        yield one


def test_two_shops_at_once_with_a_kill_keep_apart_and_whole(loaded):
    outcome = loaded.run(6.0, rate=40.0 * CLIENTS, kills={2.0: "server", 4.0: "score"})
    seen = outcome.seen
    assert seen.wrong == []
    assert (outcome.lost, outcome.doubled) == (0, 0)
    assert outcome.kills == {"server": 1, "score": 1}
    assert len(seen.acknowledged) == seen.answers["event"] > 20
    assert min(seen.answers.values()) > 10
    assert len(seen.answers) == 6


def test_what_would_be_wrong_is_seen(loaded):
    later = (utc_now() + timedelta(minutes=1)).isoformat()
    crossed = json.dumps({"items": ["azure-1"], "at": utc_now().isoformat()}).encode()
    ahead = json.dumps({"at": later, "anchor": None}).encode()
    invented = json.dumps({"events": {"order_placed": 10**6}}).encode()
    assert len(loaded._faults("crimson", "recommendations", "c1", crossed)) == 1
    assert loaded._faults("azure", "recommendations", "c1", crossed) == []
    assert len(loaded._faults("azure", "predictions", "c1", ahead)) == 1
    assert len(loaded._faults("azure", "", "c1", invented)) == 1
    assert loaded._counted({"azure-never-sent"}, patience_seconds=0.0) == (1, 0)


def test_what_clients_saw_adds_up():
    one, other = Seen(acknowledged={"a"}, cut=1), Seen(acknowledged={"b"}, wrong=["x"])
    one.add(other)
    assert (one.acknowledged, one.cut, one.wrong) == ({"a", "b"}, 1, ["x"])


def test_memory_is_compared_between_thirds():
    samples = [(float(at), 100.0 + (50.0 if at > 80 else 0.0)) for at in range(0, 101, 2)]
    assert flat(samples, 40.0) == (100.0, 150.0)
