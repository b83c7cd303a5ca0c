"""Write the pages of docs/reference/ from the code they describe: `make docs`.

A test fails while a page differs from what this would write.
"""

import dataclasses
import inspect
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FunctionType

import click
import pyarrow as pa

import habitue
from habitue import config, events
from habitue.cli import app
from habitue.demo import words
from habitue.ingest.doors.faults import REASONS
from habitue.lake import query, schema
from habitue.lake.tables import Lake
from habitue.lake.views.catalogue import VIEWS, View
from habitue.scopes import SCOPES
from habitue.serving.app import Route
from habitue.serving.doors import described
from habitue.serving.doors.routes import ROUTES

REFERENCE = Path(__file__).parent / "reference"
NOTICE = "<!-- Written by `make docs`; change the code instead. -->\n"
TEMPLATES = Path(__file__).parent / "templates"
HELP_WIDTH = 90


def pages() -> dict[str, str]:
    """Every generated page, by file name."""
    written = {
        "cli.md": cli_page(),
        "python.md": python_page(),
        "settings.md": settings_page(),
        "tables.md": tables_page(),
        "events.md": events_page(),
        "metrics.md": metrics_page(),
        "http.md": http_page(),
    }
    told = {name: f"{NOTICE}\n{text.strip()}\n" for name, text in written.items()}
    return told | {"openapi.json": described.written().decode() + "\n"}


def cli_page() -> str:
    """What `--help` says, for every command."""
    parts = ["# Command line", _fenced(_help(app.habitue, "habitue"))]
    for name, command in app.habitue.commands.items():
        parts += _helped(command, f"habitue {name}", "##")
    return "\n\n".join(parts)


def _helped(command: click.Command, path: str, level: str) -> Iterator[str]:
    """The help of a command, and of those below it."""
    yield f"{level} {path}"
    yield _fenced(_help(command, path))
    for name, below in getattr(command, "commands", {}).items():
        yield from _helped(below, f"{path} {name}", f"{level}#")


def _help(command: click.Command, path: str) -> str:
    settings = app.habitue.context_settings
    with click.Context(
        command, info_name=path, terminal_width=HELP_WIDTH, **settings
    ) as context:
        return command.get_help(context)


def python_page() -> str:
    """Signatures and docstrings of the public names."""
    parts = ["# Python", "Everything here is imported with `import habitue`, when first used."]
    for name in habitue.__all__:
        value = getattr(habitue, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            parts += _described(f"habitue.{name}", value, "##")
    return "\n\n".join(parts)


def _described(name: str, value: object, level: str) -> Iterator[str]:
    yield f"{level} `{name}`"
    if inspect.isfunction(value):
        yield _fenced(_signature(name.removeprefix("habitue."), value), "python")
    yield _docstring(value)
    if inspect.isclass(value) and value in (habitue.Workspace, habitue.Shop):
        for member, found in vars(value).items():
            if not member.startswith("_") and isinstance(found, (FunctionType, property)):
                yield from _described(f"{value.__name__}.{member}", found, "###")
    elif inspect.isclass(value) and not issubclass(value, Exception):
        yield _fenced("\n".join(_declarations(value)), "python")


def _signature(name: str, function: FunctionType) -> str:
    text = f"{name}{inspect.signature(function)}".replace("(self, ", "(").replace("(self)", "()")
    text = text.replace("datetime.datetime", "datetime").replace("'", "")
    text = re.sub(r"\b(?:[a-z]+\.)+(?=[A-Z])", "", text)         # collections.abc.Callable
    if len(text) <= HELP_WIDTH:
        return text
    inner = re.sub(r", (?=\w+:|\*,)", ",\n    ", text)            # one parameter a line
    return inner.replace("(", "(\n    ", 1).replace(") -> ", ",\n) -> ")


def _docstring(value: object) -> str:
    text = inspect.getdoc(value) or ""
    text = re.sub(r"\n((?:>>> .*\n?)(?:.*\S.*\n?)*)", r"\n```pycon\n\1\n```", text)
    text = re.sub(r"(?ms)^Raises:\n    (\w+): (.*?)(?=\n\n|\Z)", _raises, text)
    return text.replace("\n\n```\n", "\n```\n")


def _raises(found: re.Match[str]) -> str:
    return f"Raises `{found[1]}`: {' '.join(found[2].split())}"


def _declarations(struct: type) -> Iterator[str]:
    """The fields of a struct as they are written in the source, comments included."""
    for line in inspect.getsource(struct).splitlines():
        if re.match(r"    [a-z_]+: ", line):
            yield re.sub(r"\s{2,}#", "  #", line.strip())


def settings_page() -> str:
    """Every setting of a deployment, and everything that decides a run."""
    names = [field.name for field in dataclasses.fields(config.Settings)]
    spelt = [f"`{name}` is `{config.PREFIX}{name.upper()}` in the environment." for name in names]
    return "\n\n".join(
        [
            "# Settings",
            "A deployment reads `habitue.toml` in the current folder, then the environment; a flag"
            " of the command line wins over both. An unknown name is an error.",
            _table(("setting", "default", "meaning"), _fields(config.Settings, config.Settings())),
            " ".join(spelt),
            f"{', '.join(f'`{name}`' for name in config.OF_CLIENTS)} are left to clients, that keep"
            " keys and an address there: they are no settings, and nothing here reads them.",
            "## A training run",
            "`TrainConfig` decides the outcome of a run and is saved beside its weights. The"
            " presets are `nano()`, `demo()`, `base()`, `large()` and `xl()` of `habitue.config`; a"
            " variation is `dataclasses.replace(nano(), seed=1)`.",
            _table(("field", "nano", "demo", "meaning"), _presets()),
        ]
    )


def _fields(struct: type, value: object) -> Iterator[tuple[str, str, str]]:
    for name, meaning in _meanings(struct).items():
        yield f"`{name}`", f"`{getattr(value, name)}`", meaning


def _presets() -> Iterator[tuple[str, str, str, str]]:
    nano, demo = config.nano(), config.demo()
    for name, meaning in _meanings(config.TrainConfig).items():
        yield f"`{name}`", f"{getattr(nano, name)}", f"{getattr(demo, name)}", meaning


def _meanings(struct: type) -> dict[str, str]:
    """Each field of a dataclass and the comment beside it."""
    source = inspect.getsource(struct)
    found = re.findall(r"(?m)^    ([a-z_]+): [^#\n]*(?:# (.*))?$", source)
    return dict(found)


def tables_page() -> str:
    """The views that SQL sees, and the Delta tables below them."""
    parts = [
        "# Tables",
        "## Views",
        "What `habitue query`, `shop.query` and `habitue.lake.query.read` see of one shop, as of a"
        " cutoff. `order` and `time` are words of SQL and stand in double quotes.",
    ]
    for view, columns in _views():
        grain = re.search(r"-- (.*)\n", view.sql)
        assert grain, f"{view.name} says what one row is"
        parts += [f"### {view.name}", _sentence(grain[1]), _columns(columns)]
    parts += ["## Delta tables", "Stored once for all shops, in the partition `bucket`."]
    source = inspect.getsource(schema)
    for table in schema.TABLES.values():
        grain = re.search(rf"# (one row per [^\n]*)\n{table.name.upper()} = ", source)
        assert grain, f"{table.name} says what one row is"
        parts += [f"### {table.name} (stored)", _sentence(grain[1]), _columns(table.schema)]
    return "\n\n".join(parts)


def _views() -> Iterator[tuple[View, pa.Schema]]:
    """The views that may be named and their columns, asked of an empty shop."""
    now = datetime(2020, 1, 1, tzinfo=UTC)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        row = {"shop": "empty", "received": now, "timezone": "UTC", "bucket": 0}
        lake.append({"shops": pa.Table.from_pylist([row], schema=schema.SHOPS)})
        for view in VIEWS:
            if view.is_public:
                sql = f"SELECT * FROM {view.name} LIMIT 0"
                yield view, query.read(lake, sql, shop="empty").schema


def _columns(columns: pa.Schema) -> str:
    rows = ((f"`{field.name}`", str(field.type)) for field in columns)
    return _table(("column", "type"), rows)


def events_page() -> str:
    """The canonical names, with what the source says of each."""
    source = inspect.getsource(events)
    rows = []
    for name in events.CANONICAL_NAMES:
        found = re.search(rf'^[A-Z_]+ = "{name}"(?:\s+# (.*))?$', source, re.MULTILINE)
        assert found, f"{name} is a constant of events.py"
        rows.append((f"`{name}`", found[1] or name.replace("_", " ")))
    return "\n\n".join(
        [
            "# Events",
            "Names are past tense and small. Any other name is kept as it came.",
            _table(("name", "meaning"), rows),
        ]
    )


def metrics_page() -> str:
    """Questions, metrics and methods of an evaluation."""
    return "\n\n".join(
        [
            "# Metrics",
            "What the rows of `habitue evaluate --json` mean: `shop`, `cutoff`, `horizon_days`,"
            " `question`, `method`, `metric`, `value`, `low`, `high`, `customers`. `low` and `high`"
            " are the 5th and 95th percentile of a bootstrap over customers, and null where that"
            " has no meaning.",
            "## Questions",
            _table(
                ("question", "asks", "is"),
                ((f"`{name}`", *told) for name, told in words.QUESTIONS.items()),
            ),
            "## Metrics",
            _table(
                ("metric", "name", "goal", "meaning"),
                (
                    (f"`{name}`", one.label, one.goal, one.meaning)
                    for name, one in words.MEASURES.items()
                ),
            ),
            "## Methods",
            _table(
                ("method", "name"), ((f"`{name}`", told) for name, told in words.METHODS.items())
            ),
        ]
    )


def http_page() -> str:
    """Every path of the service, and what is common to all."""
    groups = {
        "## Our own paths": [one for one in ROUTES if one.source == "native"],
        "## Segment, RudderStack, PostHog": [
            one for one in ROUTES if one.source in {"segment", "posthog"}
        ],
        "## Klaviyo": [one for one in ROUTES if one.source == "klaviyo"],
    }
    assert sum(map(len, groups.values())) == len(ROUTES), "every path is in one group"
    parts = ["# HTTP", (TEMPLATES / "http.md").read_text().strip()]
    for title, routes in groups.items():
        rows = ((f"`{one.method} {one.path}`", _key(one), one.about) for one in routes)
        parts += [title, _table(("path", "key", "what it does"), rows)]
    parts += [
        "## Scopes",
        _table(
            ("scope", "lets a secret key"), ((f"`{name}`", told) for name, told in SCOPES.items())
        ),
        "## Why an input is not taken",
        "The reasons in receipts, in `/v1/rejected` and in `habitue rejected`.",
        _table(("reason", "the input has"), ((f"`{one}`", told) for one, told in REASONS.items())),
    ]
    return "\n\n".join(parts)


def _key(route: Route) -> str:
    if route.open:
        return "none"
    scope = f"`{route.scope}`" if route.scope else "all scopes"
    return f"public, or secret with {scope}" if route.public else f"secret with {scope}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(one) for one in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.strip()}\n```"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for file, content in pages().items():
        (REFERENCE / file).write_text(content)
        print(REFERENCE.name, file)
