"""Settings come from defaults, file, environment; presets are values."""

import dataclasses
import os
from datetime import timedelta
from pathlib import Path

import pytest

from habitue.config import (
    AHEAD,
    Settings,
    clock_ahead,
    demo,
    limit_threads,
    load_settings,
    nano,
    object_store_options,
    utc_now,
)
from habitue.errors import BadSetting


def test_with_nothing_said_the_defaults_hold(tmp_path):
    assert load_settings(tmp_path, {}) == Settings()


def test_the_file_is_heard_and_the_environment_wins_over_it(tmp_path):
    (tmp_path / "habitue.toml").write_text('workspace = "there"\nthreads = 2\nshop = "acme"\n')
    settings = load_settings(tmp_path, {"HABITUE_THREADS": "4", "PATH": "/bin"})
    assert settings == Settings(workspace=Path("there"), threads=4, shop="acme")


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"HABITUE_WORKSPCE": "x"}, "HABITUE_WORKSPCE"),
        ({"HABITUE_THREADS": "many"}, "HABITUE_THREADS"),
        ({"HABITUE_THREADS": "-1"}, "HABITUE_THREADS"),
        ({"HABITUE_SHOP": ""}, "HABITUE_SHOP"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(tmp_path, environment, named):
    with pytest.raises(BadSetting, match=named):
        load_settings(tmp_path, environment)


def test_what_clients_keep_in_the_environment_is_no_setting(tmp_path):
    told = {"HABITUE_KEY": "hs_x", "HABITUE_PUBLIC_KEY": "hp_x", "HABITUE_URL": "http://here:8787"}
    assert load_settings(tmp_path, told) == Settings()


@pytest.mark.parametrize("text", ["threads = ", "treads = 2", "threads = true", "shop = 3"])
def test_a_bad_file_is_refused_by_its_name(tmp_path, text):
    (tmp_path / "habitue.toml").write_text(text)
    with pytest.raises(BadSetting, match=r"habitue\.toml"):
        load_settings(tmp_path, {})


@pytest.fixture
def fresh_clock():
    clock_ahead.cache_clear()
    yield
    clock_ahead.cache_clear()


def test_the_clock_runs_ahead_where_a_trial_asks_for_it(monkeypatch, tmp_path, fresh_clock):
    before = utc_now()
    clock_ahead.cache_clear()
    monkeypatch.setenv(AHEAD, "86400")
    assert timedelta(hours=23) < utc_now() - before < timedelta(hours=25)
    assert load_settings(tmp_path, {AHEAD: "86400"}) == Settings()


@pytest.mark.parametrize("told", ["soon", "-1", "nan", "1e12", ""])
def test_a_clock_that_cannot_be_is_refused(monkeypatch, told, fresh_clock):
    monkeypatch.setenv(AHEAD, told)
    with pytest.raises(BadSetting, match="seconds by which the clock runs ahead"):
        utc_now()


def test_zero_threads_leave_the_environment_alone(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    limit_threads(0)
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_a_limit_of_threads_reaches_libraries_loaded_later(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "7")
    limit_threads(3)
    assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "3"


def test_the_clock_is_aware_and_in_utc():
    assert utc_now().utcoffset().total_seconds() == 0


def test_presets_differ_by_their_one_dial():
    assert (nano().width, nano().layers, nano().heads) == (64, 2, 2)
    assert (demo().width, demo().layers, demo().heads) == (96, 3, 3)


def test_a_preset_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        nano().width = 128


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ({}, {}),
        ({"AWS_ENDPOINT_URL": "https://s3.example.com"}, {}),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}, {"AWS_ALLOW_HTTP": "true"}),
        (
            {"AWS_ENDPOINT_URL": "http://s3.example.com", "AWS_ALLOW_HTTP": "true"},
            {"AWS_ALLOW_HTTP": "true"},
        ),
    ],
)
def test_plain_http_leaves_the_machine_only_where_that_was_asked_for(environment, options):
    assert object_store_options(environment) == options


def test_plain_http_to_elsewhere_is_refused_by_the_host_s_name():
    with pytest.raises(BadSetting, match=r"s3\.example\.com by plain http"):
        object_store_options({"AWS_ENDPOINT_URL": "http://s3.example.com"})
