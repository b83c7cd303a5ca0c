"""Versions exist whole or not at all; aliases move by one row; the future is refused."""

import json
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from habitue.config import nano
from habitue.errors import NoSuchModel, SawTheFuture
from habitue.registry import Registry, Saw

CUTOFF = datetime(2011, 6, 9, tzinfo=UTC)
NOW = datetime(2025, 1, 1, tzinfo=UTC)
SEEN = Saw(shop="acme", fingerprint="f1", last_event=CUTOFF - timedelta(hours=1))


def write_model(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")


def publish(registry: Registry, *, shop: str = "acme", saw: tuple[Saw, ...] = (SEEN,)) -> str:
    run = registry.start_run(nano(), shop=shop, cutoff=CUTOFF, now=NOW)
    return registry.publish(run, write_model, saw=saw, now=NOW)


def test_a_published_version_is_found_with_everything_it_was_told(tmp_path):
    registry = Registry(tmp_path)
    name = publish(registry)
    (found,) = registry.versions()
    assert (found.version, found.shop, found.cutoff, found.created) == (name, "acme", CUTOFF, NOW)
    assert found.saw == (SEEN,)
    assert (found.folder / "model.safetensors").read_bytes() == b"weights"


def test_a_registry_opened_again_knows_what_it_knew(tmp_path):
    name = publish(Registry(tmp_path))
    assert Registry(tmp_path).version("acme", name).version == name


def test_a_run_keeps_its_configuration_as_json(tmp_path):
    Registry(tmp_path).start_run(replace(nano(), seed=7), shop="acme", cutoff=CUTOFF, now=NOW)
    with sqlite3.connect(tmp_path / "registry.sqlite") as connection:
        (text,) = connection.execute("SELECT config FROM runs").fetchone()
    connection.close()
    assert json.loads(text)["seed"] == 7


def test_a_writer_that_fails_leaves_no_version(tmp_path):
    registry = Registry(tmp_path)
    run = registry.start_run(nano(), shop="acme", cutoff=CUTOFF, now=NOW)

    def fail(folder: Path) -> None:
        write_model(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        registry.publish(run, fail, saw=[SEEN], now=NOW)
    assert registry.versions() == []
    assert registry.publish(run, write_model, saw=[SEEN], now=NOW) == f"v{run}"


def test_a_version_without_weights_is_our_own_mistake(tmp_path):
    registry = Registry(tmp_path)
    run = registry.start_run(nano(), shop="acme", cutoff=CUTOFF, now=NOW)
    with pytest.raises(AssertionError, match=r"model\.safetensors"):
        registry.publish(run, lambda _: None, saw=[SEEN], now=NOW)


# publishes once, and dies without warning at the step that is named on its command line
DYING = """
import os, sys
from pathlib import Path
from habitue.registry import Registry
from tests.test_registry import CUTOFF, NOW, SEEN, nano, write_model

workspace, step = Path(sys.argv[1]), sys.argv[2]

def write(folder):
    (folder / "config.json").write_text("{}")
    if step == "write":
        os._exit(9)
    write_model(folder)

registry = Registry(workspace)
run = registry.start_run(nano(), shop="acme", cutoff=CUTOFF, now=NOW)
if step == "rename":
    Path.rename = lambda *_: os._exit(9)
if step == "enter":
    Registry._enter = lambda *_: os._exit(9)
registry.publish(run, write, saw=[SEEN], now=NOW)
"""


@pytest.mark.parametrize("step", ["write", "rename", "enter"])
def test_a_kill_while_publishing_leaves_no_half_version(tmp_path, step):
    before = publish(Registry(tmp_path))
    died = subprocess.run([sys.executable, "-c", DYING, tmp_path, step], check=False)
    assert died.returncode == 9
    registry = Registry(tmp_path)
    assert [one.version for one in registry.versions()] == [before]
    after = publish(registry)
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == sorted([before, after])


def test_without_a_name_the_champion_answers(tmp_path):
    registry = Registry(tmp_path)
    first, second = publish(registry), publish(registry)
    registry.promote(first, shop="acme", now=NOW, reason="first")
    assert registry.version("acme").version == first
    registry.promote(second, shop="acme", now=NOW, reason="better")
    assert registry.version("acme").version == second


def test_an_alias_of_one_shop_says_nothing_of_another(tmp_path):
    registry = Registry(tmp_path)
    registry.promote(publish(registry), shop="acme", now=NOW, reason="first")
    with pytest.raises(NoSuchModel, match="champion"):
        registry.version("other")


def test_a_name_that_is_unknown_is_answered_with_those_that_are_known(tmp_path):
    registry = Registry(tmp_path)
    name = publish(registry)
    with pytest.raises(NoSuchModel, match=name):
        registry.version("acme", "v99")
    with pytest.raises(NoSuchModel):
        registry.promote("v99", shop="acme", now=NOW, reason="a slip")


def test_the_log_of_promotions_tells_all_and_cannot_be_rewritten(tmp_path):
    registry = Registry(tmp_path)
    first, second = publish(registry), publish(registry)
    for version in (first, second, first):
        registry.promote(version, shop="acme", now=NOW, reason="turn")
    assert [move.version for move in registry.promotions()] == [first, second, first]
    connection = sqlite3.connect(tmp_path / "registry.sqlite")
    for statement in ("UPDATE promotions SET version = 'v9'", "DELETE FROM promotions"):
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("hours", [0, 24])
def test_a_version_answers_for_a_cutoff_at_or_after_all_it_saw(tmp_path, hours):
    registry = Registry(tmp_path)
    registry.refuse_future(publish(registry), "acme", SEEN.last_event + timedelta(hours=hours))


def test_a_version_that_saw_past_the_cutoff_is_refused(tmp_path):
    registry = Registry(tmp_path)
    name = publish(registry)
    with pytest.raises(SawTheFuture, match="habitue train --shop acme --cutoff"):
        registry.refuse_future(name, "acme", SEEN.last_event - timedelta(microseconds=1))


def test_a_shop_under_another_name_is_known_by_its_fingerprint(tmp_path):
    registry = Registry(tmp_path)
    name = publish(registry)
    early = SEEN.last_event - timedelta(days=1)
    registry.refuse_future(name, "renamed", early, fingerprint="f2")
    with pytest.raises(SawTheFuture):
        registry.refuse_future(name, "renamed", early, fingerprint="f1")


def test_a_card_can_be_replaced(tmp_path):
    registry = Registry(tmp_path)
    name = publish(registry)
    for text in ("first", "second"):
        registry.write_card(name, text)
    assert (registry.version("acme", name).folder / "card.md").read_text() == "second"
