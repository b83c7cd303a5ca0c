"""One call to a language model: what is sent, what is taken, and what goes wrong."""

import logging

import pytest

from habitue.config import Settings, load_settings
from habitue.errors import BadSetting, NoAnswer
from habitue.lm import PAUSE_SECONDS, Endpoint, Message, chat, endpoint
from tests.lm_server import speaking

ASKED = [Message("system", "be brief"), Message("user", "hello")]
KEY = "sk-a-secret-key"


def ask(server, *, key="", pauses=None):
    at = Endpoint(url=server.url, model="small", key=key, timeout_seconds=5)
    return chat(at, ASKED, pause=(pauses if pauses is not None else []).append)


def test_a_conversation_is_sent_and_what_is_said_comes_back():
    with speaking("hi") as server:
        assert ask(server, key=KEY) == "hi"
    (body,) = server.asked
    assert body["model"] == "small"
    assert body["messages"] == [
        {"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"},
    ]  # fmt: skip
    assert server.keys == [f"Bearer {KEY}"]


def test_without_a_key_none_is_sent():
    with speaking("hi") as server:
        ask(server)
    assert server.keys == [None]


def test_a_failure_in_passing_is_asked_once_more_after_a_pause():
    pauses: list[float] = []
    with speaking((503, b"busy"), "hi") as server:
        assert ask(server, pauses=pauses) == "hi"
    assert pauses == [PAUSE_SECONDS]
    with speaking((429, b"slow down")) as server, pytest.raises(NoAnswer, match="status 429"):
        ask(server)
    assert len(server.asked) == 2


def test_a_refusal_is_told_at_once_and_never_with_the_key(caplog):
    caplog.set_level(logging.DEBUG)
    told = f"wrong key {KEY} provided".encode()
    with speaking((401, told)) as server, pytest.raises(NoAnswer) as refused:
        ask(server, key=KEY)
    assert len(server.asked) == 1
    assert "wrong key … provided" in str(refused.value)
    with speaking((500, told)) as server, pytest.raises(NoAnswer) as failed:
        ask(server, key=KEY)
    assert KEY not in str(refused.value) + str(failed.value) + caplog.text


def test_a_key_follows_no_redirect():
    with speaking((307, b"")) as server, pytest.raises(NoAnswer, match="status 307"):
        ask(server, key=KEY)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": {}}]}',
     b'{"choices": [{"message": {"content": null}}]}',
     b'{"choices": [{"message": {"content": 5}}]}',
     b"\xff\xfe", b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_chat_completion_is_no_answer(body):
    with speaking((200, body)) as server, pytest.raises(NoAnswer):
        ask(server)


def test_where_nobody_is_there_the_message_says_where_it_looked():
    at = Endpoint(url="http://127.0.0.1:9/v1", model="small", timeout_seconds=1)
    with pytest.raises(NoAnswer, match=r"127\.0\.0\.1:9/v1 does not answer"):
        chat(at, ASKED, pause=lambda _: None)


def test_the_settings_name_a_model_or_none():
    assert endpoint(Settings()) is None
    told = load_settings(
        environment={"HABITUE_LM_URL": "http://localhost:11434/v1", "HABITUE_LM_MODEL": "small",
                     "HABITUE_LM_KEY": KEY},
    )  # fmt: skip
    found = endpoint(told)
    assert found is not None
    assert (found.model, found.key) == ("small", KEY)
    assert KEY not in f"{told!r}{found!r}"


@pytest.mark.parametrize(
    "settings",
    [
        Settings(lm_url="http://localhost/v1"),
        Settings(lm_model="small"),
        Settings(lm_url="localhost:11434", lm_model="small"),
        Settings(lm_url="http://models.example/v1", lm_model="small", lm_key=KEY),
        Settings(lm_url=f"https://me:{KEY}@models.example/v1", lm_model="small"),
        Settings(lm_url="https://models.example:99999/v1", lm_model="small"),
        Settings(lm_url="https://models.example/v1 x", lm_model="small"),
        Settings(lm_url="file:///etc/passwd", lm_model="small"),
        Settings(lm_url="https://models.example/v1", lm_model="small", lm_key=f"{KEY}\n"),
        Settings(lm_url="https://models.example/v1", lm_model="small", lm_key=f"{KEY}é"),
    ],
)
def test_half_of_a_setting_and_a_key_in_the_open_are_refused(settings):
    with pytest.raises(BadSetting) as refused:
        endpoint(settings)
    assert KEY not in str(refused.value)
