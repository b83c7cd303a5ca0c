"""A sentence as tokens, each with its place, and the errors that point at one."""

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, TypeVar

from habitue.errors import BadAudience, pointed

Kind = Literal["text", "date", "number", "name", "sign", "end"]
Made = TypeVar("Made")

MOST_CHARACTERS = 20_000                   # of a sentence
KEYWORDS = frozenset(
    (
        "after", "ago", "and", "at", "before", "between", "did", "ever", "has", "in", "is", "not",
        "of", "or", "then", "where", "within",
    )
)  # fmt: skip
_PART = re.compile(r'([^\W\d]\w*)|("(?:[^"\\]|\\.)*")')
_PLAIN = re.compile(r"[^\W\d]\w*")
_TOKEN = re.compile(
    r"""
    (?P<text>"(?:[^"\\]|\\.)*")
  | (?P<date>\d{4}-\d\d-\d\d
        (?:[Tt]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:[Zz]|[+-]\d\d:\d\d)?)?(?![\w.-]))
  | (?P<number>-?\d+(?:\.\d+)?(?![\w.]))
  | (?P<name>[^\W\d]\w*(?:\.(?:[^\W\d]\w*|"(?:[^"\\]|\\.)*"))*)
  | (?P<sign><=|>=|!=|=|<|>|\(|\)|,)
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a text, a number, a date or a sign, and where it begins."""

    kind: Kind
    text: str
    place: int

    @property
    def word(self) -> str:
        """The token as a keyword: in lower case; a text is none."""
        return "" if self.kind == "text" else self.text.lower()


class Reader:
    """A sentence being read, token by token."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        if len(sentence) > MOST_CHARACTERS:
            raise BadAudience(
                f"a condition of {len(sentence):,} characters: at most {MOST_CHARACTERS:,}"
            )
        self._tokens = self._tokens_of(sentence)
        self._next = 0

    def peek(self, ahead: int = 0) -> Token:
        """The next token, or one after it, which is not taken yet."""
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    def take(self) -> Token:
        """The next token, which is then behind."""
        token = self.peek()
        self._next += token.kind != "end"
        return token

    def takes(self, *words: str) -> bool:
        """Take these words or signs, if they are next."""
        if all(self.peek(place).word == word for place, word in enumerate(words)):
            self._next += len(words)
            return True
        return False

    def wants(self, word: str, hint: str = "") -> None:
        """Take this word or sign, which must be next."""
        if not self.takes(word):
            raise self.error(self.peek(), f'wanted "{word}"', self.near([word]) or hint)

    def text(self, token: Token) -> str:
        """What a text in quotes says."""
        try:
            told: str = json.loads(token.text, strict=False)
        except ValueError:
            raise self.error(token, "this text holds a \\ that escapes nothing") from None
        return told

    def path(self, token: Token) -> tuple[str, ...]:
        """The names in a name with dots, or the one in quotes."""
        if token.kind == "text":
            return (self.text(token),)
        found = _PART.finditer(token.text)
        return tuple(one[1] or self.text(Token("text", one[2], token.place)) for one in found)

    def near(self, among: Collection[str]) -> str:
        """A hint of what may have been meant by the next token."""
        return near(self.peek().word, among)

    def made(self, token: Token, make: Callable[[], Made]) -> Made:
        """What is made, or its refusal with a place."""
        try:
            return make()
        except BadAudience as error:
            message, _, hint = str(error).partition("\nhint: ")
            raise self.error(token, message, hint) from None

    def error(self, token: Token, message: str, hint: str = "") -> BadAudience:
        """An error that points at a token."""
        return BadAudience(pointed(self.sentence, token.place, message, hint))

    def _tokens_of(self, sentence: str) -> list[Token]:
        tokens: list[Token] = []
        place = 0
        while True:
            place += len(sentence[place:]) - len(sentence[place:].lstrip())
            if place == len(sentence):
                return [*tokens, Token("end", "", place)]
            found = _TOKEN.match(sentence, place)
            if found is None:
                raise self._unread(place)
            kind: Kind = found.lastgroup    # type: ignore[assignment]    # the pattern's groups
            tokens.append(Token(kind, found[0], place))
            place = found.end()

    def _unread(self, place: int) -> BadAudience:
        character = self.sentence[place]
        hint = {
            '"': "a text that is opened by a quote is closed by one",
            "'": 'a text stands in double quotes: "mugs"',
        }.get(character, "")
        return self.error(Token("sign", character, place), f"cannot read {character!r}", hint)


def near(word: str, among: Collection[str]) -> str:
    """A hint of what may have been meant by a word; empty: nothing is near."""
    found = get_close_matches(word, among, n=1)
    return f"did you mean {found[0]}?" if found else ""


def name(told: str) -> str:
    """A name as sentences hold it: in quotes, unless it is a plain word."""
    plain = _PLAIN.fullmatch(told) and told.lower() not in KEYWORDS
    return told if plain else quoted(told)


def quoted(told: str) -> str:
    """A text as sentences hold it."""
    return json.dumps(told, ensure_ascii=False)


def path(parts: tuple[str, ...]) -> str:
    """Names with dots between them."""
    return ".".join(one if _PLAIN.fullmatch(one) else quoted(one) for one in parts)
