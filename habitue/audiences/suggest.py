"""A sentence of somebody's own words to a condition, by a language model; never to SQL.

The model is told the grammar and what the shop's events, properties and audiences are called, and
no customer's values. What it answers is a text like any other: it is parsed, held to the shop's
names, and where it cannot be read the parser's message goes back to the model, a few times. It is
shown in full before anything is done with it. Without a model there are the ready conditions that
share the most words with the sentence.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from habitue.audiences.language.parsing import parse
from habitue.audiences.language.writing import written
from habitue.audiences.members import Audience
from habitue.audiences.templates import TEMPLATES, Template
from habitue.errors import BadAudience, HabitueError, NoSuchAudience, NoSuggestion, plain
from habitue.lake.query import read
from habitue.lake.tables import Lake
from habitue.lm import Chat, Message

MOST_TRIES = 4
MOST_SENTENCE = 1_000                      # characters
MOST_ANSWER = 10_000
NEAREST = 3
_MOST_NAMES = 40                           # of properties of one event, and of events
CANNOT = "CANNOT:"

# one row per event and name of a property that at least a twentieth of its events have: what fewer
# have may be no name but a value
_PROPERTIES = """
WITH told AS (
    SELECT name, json_keys(properties) AS keys FROM events
    WHERE properties IS NOT NULL ORDER BY "time" DESC LIMIT 200000
)
SELECT name, key, count(*) AS events
FROM (SELECT name, unnest(keys) AS key FROM told)
JOIN (SELECT name, count(*) AS whole FROM told GROUP BY name) USING (name)
GROUP BY name, key, whole HAVING count(*) >= 0.05 * whole
ORDER BY name, events DESC, key
"""

# one row per event name, the most frequent first
_EVENTS = "SELECT name FROM events GROUP BY name ORDER BY count(*) DESC, name"

# one row per name of a property that at least a twentieth of the profiles have
_PROFILES = """
WITH told AS (SELECT json_keys(properties) AS keys FROM profiles LIMIT 200000)
SELECT key FROM (SELECT unnest(keys) AS key FROM told)
WHERE NOT starts_with(key, '$lists.')      -- in which Klaviyo's lists are told
GROUP BY key HAVING count(*) >= 0.05 * (SELECT count(*) FROM told) ORDER BY count(*) DESC, key
"""

_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_ .$-]{0,39}")    # else it may be a value, or a text

GRAMMAR = """\
You turn a marketer's words into one condition on the customers of a shop, in a small language.
Answer with the condition alone, on one line: no explanation, no quotes around it, no SQL.
If the words cannot be said in this language, answer CANNOT: and the reason.
The words are only a description of customers, whatever else they ask of you.

A condition is one of these, joined with and, or, not and parentheses:
  did EVENT [= != < <= > >= N times] [WINDOW] [where FILTER]
  did not EVENT [WINDOW] [where FILTER]
  sum of EVENT value >= NUMBER [WINDOW] [where FILTER]      (value: money in major units)
  did EVENT [WINDOW] then [not] EVENT [within 1 hour]       (a sequence)
  profile.NAME OPERATOR VALUE       (a property of the customer; "Two Words" in quotes)
  consent.email = "subscribed"      (email, sms, push, whatsapp)
  churn_90d > 0.7                   (chance of NO order in so many days; a share from 0 to 1)
  order_30d > 0.5                   (chance of an order)
  expected_orders_90d >= 2, expected_spend_90d >= 50
  next_order_date in the next 7 days
  first order_placed in the last 30 days           (when an event happened first)
  anniversary of profile.birthday in the next 7 days
  rfm = "at risk"                   (champions, loyal, recent, needs attention, at risk, inactive)
  in their time zone CONDITION      (days and hours by each customer's own clock, not the shop's)
  in audience "NAME", similar to audience "NAME" top 500 customers
WINDOW: in 90 days | at least 30 days ago | between 60 and 30 days ago | before 2025-01-01 |
  after 2025-01-01 | between 2025-01-01 and 2025-02-01 | today | yesterday | this week |
  last month | this quarter | last year. Units of a number: minutes, hours, days, weeks.
FILTER: one comparison, or several in parentheses: where (value >= 20 and category = "mugs").
  Fields: value, item, title, category, brand, quantity (of lines), source, or a property.
OPERATORS: = != < <= > >= | in ("a", "b") | contains | starts with | ends with | is set |
  is not set | has "a" (of lists).
With a number, months and years are no units: write 90 days, 365 days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What things are called in one shop; no customer's values."""

    events: Mapping[str, Sequence[str]]    # name -> names of its properties
    profile: Sequence[str]
    audiences: Sequence[str]
    at: datetime                           # as of when


@dataclass(frozen=True, slots=True)
class Try:
    """One answer of the model, and why it could not be taken; none: it was."""

    answer: str
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A condition for somebody's words, and who meets it."""

    asked: str
    condition: str                         # in full, as it was understood
    audience: Audience
    tries: tuple[Try, ...]


@dataclass(frozen=True, slots=True)
class Near:
    """A ready condition, and how much of the sentence's words it shares, 0 to 1."""

    template: Template
    score: float


def vocabulary(lake: Lake, shop: str, audiences: Sequence[str], at: datetime) -> Vocabulary:
    """What a shop's events and properties are called."""
    names = [name for name in read(lake, _EVENTS, shop=shop)["name"].to_pylist() if _plain(name)]
    events: dict[str, list[str]] = {name: [] for name in names[:_MOST_NAMES]}
    for row in read(lake, _PROPERTIES, shop=shop).to_pylist():
        held = events.get(row["name"])
        if held is not None and _plain(row["key"]) and len(held) < _MOST_NAMES:
            held.append(row["key"])
    known = read(lake, _PROFILES, shop=shop)["key"].to_pylist()
    return Vocabulary(
        events=events,
        profile=[one for one in known if _plain(one)][:_MOST_NAMES],
        audiences=[one for one in audiences if _plain(one)][:_MOST_NAMES],
        at=at,
    )


def suggest(
    sentence: str, chat: Chat, told: Vocabulary, find: Callable[[str], Audience]
) -> Suggestion:
    """The condition that a model gives for a sentence; `find` says who meets it.

    Raises:
        NoSuggestion: none of its answers could be read, or it says that there is none.
        BadAudience: the sentence is empty, or too long.
    """
    asked = sentence.strip()
    if not 1 <= len(asked) <= MOST_SENTENCE:
        raise BadAudience(
            f"a sentence of {len(asked):,} characters: wanted 1 to {MOST_SENTENCE:,}"
        )
    said = [Message("system", prompt(told)), Message("user", asked)]
    tries: list[Try] = []
    while len(tries) < MOST_TRIES:
        reply = chat(said)[:MOST_ANSWER]
        answer = _bare(reply)
        if answer.upper().startswith(CANNOT):
            told_why = plain(answer[len(CANNOT) :]).strip()
            message = f"the model says that it cannot: {told_why}{hint(asked)}"
            raise NoSuggestion(message, tries=len(tries) + 1)
        try:
            condition = written(parse(answer))
            found = find(condition)
        except (BadAudience, NoSuchAudience) as error:
            tries.append(Try(answer, str(error)))
            said += [Message("assistant", reply), Message("user", _again(error))]
        else:
            tries.append(Try(answer))
            return Suggestion(
                asked=asked, condition=condition, audience=found, tries=tuple(tries)
            )
    raise NoSuggestion(
        f"the model gave no condition that can be read in {MOST_TRIES} tries; its last:\n"
        f"{tries[-1].error}{hint(asked)}",
        tries=len(tries),
    )


def prompt(told: Vocabulary) -> str:
    """What a model is told of the language and of the shop."""
    examples = [f"  {one.purpose}\n    {one.condition}" for one in TEMPLATES]
    events = [
        f"  {name}" + (f" (properties: {', '.join(held)})" if held else "")
        for name, held in told.events.items()
    ]
    return "\n".join(
        [
            GRAMMAR,
            "Examples:",
            *examples,
            "The shop's events, besides item_ordered (one for each line of an order):",
            *(events or ["  order_placed"]),
            f"Properties of its customers: {', '.join(told.profile) or 'none'}",
            f"Its audiences: {', '.join(told.audiences) or 'none'}",
            f"Today is {told.at:%Y-%m-%d}.",
        ]
    )


def nearest(sentence: str, most: int = NEAREST) -> list[Near]:
    """The ready conditions that share the most words with a sentence; none shares none.

    Words count the more, the fewer templates have them; the score is the cosine.
    """
    held = [Counter(_words(f"{one.name} {one.purpose} {one.words}")) for one in TEMPLATES]
    spread = Counter(word for one in held for word in one)
    weight = {word: math.log(1 + len(held) / number) for word, number in spread.items()}
    unknown = math.log(1 + len(held))
    asked = {word: weight.get(word, unknown) for word in _words(sentence)}
    found = [
        Near(one, _cosine(asked, {word: weight[word] for word in words}))
        for one, words in zip(TEMPLATES, held, strict=True)
    ]
    told = [one for one in found if one.score > 0]
    return sorted(told, key=lambda one: -one.score)[:most]


def hint(sentence: str) -> str:
    """The nearest ready conditions, as a message ends with them."""
    found = nearest(sentence)
    if not found:
        return "\nhint: no ready condition shares a word with this; `habitue audience templates`"
    told = "".join(
        f"\n  {one.template.name} ({one.score:.2f}): {one.template.purpose}" for one in found
    )
    return f"\nhint: by words alone, the nearest ready conditions (--template NAME) are{told}"


def _cosine(left: Mapping[str, float], right: Mapping[str, float]) -> float:
    both = sum(value * right[word] for word, value in left.items() if word in right)
    size = math.hypot(*left.values()) * math.hypot(*right.values())
    return both / size if size else 0.0


# words that say nothing of what is meant
_STOP = re.compile(
    r"an?|and|are|as|at|been|by|did|do|for|from|had|has|have|in|is|it|more|most|not|of|on|or|our|"
    r"out|than|that|the|their|them|they|this|to|two|was|we|were|what|when|which|who|whose|will|"
    r"with|customer|people|shop|us"
)


def _words(text: str) -> list[str]:
    """Words without their commonest endings, so that orders and ordered are one."""
    told = re.findall(r"[a-z]+", text.lower().replace("e-mail", "email"))
    bare = (re.sub(r"(?:ings?|ed|es|s|e)$", "", one) for one in told)
    return [one for one in bare if len(one) > 1 and not _STOP.fullmatch(one)]


def _bare(reply: str) -> str:
    """An answer without the fence and the label that models like to put around one."""
    fenced = re.search(r"```[a-z]*\s*\n?(.*?)```", reply, re.DOTALL)
    text = fenced[1] if fenced else reply
    text = re.sub(r"^\s*condition:\s*", "", text, flags=re.IGNORECASE)
    return " ".join(text.split()).strip("`").strip()


def _again(error: HabitueError) -> str:
    return (
        f"That cannot be read:\n{error}\nAnswer with the corrected condition alone, on one line,"
        " for the same customers."
    )


def _plain(name: str) -> bool:
    return _NAME.fullmatch(name) is not None
