"""One call to a language model, at any server that speaks OpenAI's chat completions.

A server on this machine (llama.cpp, Ollama, vLLM) or elsewhere: an address, a model and perhaps a
key, from the settings. The key goes to that server only, and into no message.
"""

import http.client
import logging
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from habitue.config import Settings, is_here
from habitue.errors import BadSetting, NoAnswer

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 60.0
PAUSE_SECONDS = 2.0                        # before the one retry
_MOST_BYTES = 4 * 1024 * 1024              # of one answer
_MOST_TOLD = 200                           # characters of what a server says of its refusal
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


Chat: TypeAlias = Callable[[Sequence[Message]], str]    # a conversation -> what is said next
Pause: TypeAlias = Callable[[float], None]              # waits so many seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a model answers."""

    url: str                               # up to and with /v1
    model: str
    key: str = field(default="", repr=False)
    timeout_seconds: float = TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        host = _host(self.url)
        if host is None:
            raise BadSetting(
                "lm_url is no address of a server, http:// or https:// with no password in it\n"
                "hint: http://127.0.0.1:11434/v1, https://api.openai.com/v1"
            )
        # http.client would refuse such a key too, and repeat it
        if not self.key.isascii() or any(one.isspace() for one in self.key):
            raise BadSetting("lm_key holds a character that no key has, perhaps the end of a line")
        if self.key and self.url.startswith("http:") and not is_here(host):
            raise BadSetting(
                f"lm_url names {host} by plain http: the key would cross the network in the open\n"
                "hint: https"
            )


def endpoint(settings: Settings) -> Endpoint | None:
    """The model that the settings name; none where they name none.

    Raises:
        BadSetting: they name half of it, or no address.
    """
    if settings.lm_url is None and settings.lm_model is None:
        return None
    if settings.lm_url is None or settings.lm_model is None:
        raise BadSetting("lm_url and lm_model go together: where the model is, and its name")
    return Endpoint(url=settings.lm_url, model=settings.lm_model, key=settings.lm_key or "")


def chat(at: Endpoint, messages: Sequence[Message], *, pause: Pause) -> str:
    """What a model says next; asked once more where the server fails in passing.

    Raises:
        NoAnswer: the server refuses, fails twice, or answers what is no chat completion.
    """
    asked = {"model": at.model, "messages": list(messages), "stream": False}
    body = msgspec.json.encode(asked)
    for is_last in (False, True):
        try:
            status, answer = _post(at, body)
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            told = f"{getattr(error, 'reason', error)}" or type(error).__name__
        else:
            if status == 200:
                return _said(at, answer)
            told = f"status {status}: {_told(answer, at.key)}"
            if status not in _PASSING:
                raise NoAnswer(f"the language model at {at.url} refuses: {told}", status=status)
        if not is_last:
            log.warning("no answer of the language model url=%s told=%r", at.url, told)
            pause(PAUSE_SECONDS)
    raise NoAnswer(
        f"the language model at {at.url} does not answer: {told}\n"
        "hint: is the server there, and `lm_url` its address up to and with /v1?"
    )


def _host(url: str) -> str | None:
    """Whom an address names; none where it is none, or holds a password."""
    try:
        parts = urlsplit(url)
        is_whole = parts.port is None or parts.port > 0
    except ValueError:
        return None
    is_plain = parts.scheme in ("http", "https") and "@" not in parts.netloc
    is_text = url.isascii() and url.isprintable() and " " not in url
    return parts.hostname if is_plain and is_whole and is_text else None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key goes to the server it was given for, and no further."""

    def redirect_request(self, *_: object) -> None:
        """Never another request; the answer that redirects is an answer like any other."""


def _post(at: Endpoint, body: bytes) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json", "User-Agent": "habitue"}
    headers |= {"Authorization": f"Bearer {at.key}"} if at.key else {}
    address = f"{at.url.rstrip('/')}/chat/completions"
    request = urllib.request.Request(address, data=body, headers=headers)
    try:
        with _opener(at).open(request, timeout=at.timeout_seconds) as answer:
            return answer.status, answer.read(_MOST_BYTES)
    except urllib.error.HTTPError as error:
        with error:                        # an answer, too: of another status
            return error.code, error.read(_MOST_BYTES)


def _opener(at: Endpoint) -> urllib.request.OpenerDirector:
    """Through the proxy of the environment, except to this machine."""
    if is_here(_host(at.url)):
        return urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(_NoRedirect)


class _Turn(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Turn


class _Answer(msgspec.Struct):
    choices: list[_Choice]


def _said(at: Endpoint, body: bytes) -> str:
    try:
        choices = msgspec.json.decode(body, type=_Answer).choices
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NoAnswer(f"{at.url} answered no chat completion: {error}") from None
    if not choices or not choices[0].message.content:
        raise NoAnswer(f"the language model at {at.url} answered nothing")
    return choices[0].message.content


def _told(body: bytes, key: str) -> str:
    """The beginning of what a server says, without the key that it may repeat."""
    text = body.decode("utf-8", errors="replace")
    text = text.replace(key, "…") if key else text
    return " ".join(text.split())[:_MOST_TOLD]
