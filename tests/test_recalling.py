from datetime import UTC, datetime

import pytest

from habitue.config import nano
from habitue.errors import SawTheFuture
from habitue.recalling import unseeing
from habitue.registry import Registry, Saw


def at(month: int) -> datetime:
    return datetime(2025, month, 1, tzinfo=UTC)


def published(registry: Registry, shop: str, month: int) -> str:
    def write(folder):
        for name in ("config.json", "model.safetensors"):
            (folder / name).write_text("{}")

    run = registry.start_run(nano(), shop=shop, cutoff=at(month), now=at(12))
    saw = [Saw(shop=shop, fingerprint="", last_event=at(month))]
    return registry.publish(run, write, saw=saw, now=at(12))


def test_the_newest_version_that_has_seen_no_further_answers(tmp_path):
    registry = Registry(tmp_path)
    for shop, month in (("acme", 3), ("acme", 2), ("other", 4), ("acme", 6)):
        published(registry, shop, month)
    assert unseeing(registry, "acme", at(5)) == "v1"
    assert unseeing(registry, "acme", at(2)) == "v2"
    with pytest.raises(SawTheFuture, match=r"habitue train --shop acme --cutoff 2025-01-01"):
        unseeing(registry, "acme", at(1))


def test_a_version_that_has_seen_too_much_names_one_that_has_not(tmp_path):
    registry = Registry(tmp_path)
    for month in (3, 2, 6):
        published(registry, "acme", month)
    with pytest.raises(SawTheFuture, match="hint: --version v1 had not seen so far"):
        registry.refuse_future("v3", "acme", at(5))
    with pytest.raises(SawTheFuture, match="hint: `habitue train --shop acme"):
        registry.refuse_future("v3", "acme", at(1))
