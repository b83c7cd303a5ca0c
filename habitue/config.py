"""Settings of a deployment, and everything that decides the outcome of a training run.

`Settings` come from defaults, then `habitue.toml`, then the environment (`HABITUE_*`); a flag of
the command line wins over all three. This is the only file that reads the environment or the
clock: everything else is told.
"""

import gc
import math
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from habitue.errors import BadSetting
from habitue.faults import arm

SETTINGS_FILE = "habitue.toml"
PREFIX = "HABITUE_"
OF_TESTS = "HABITUE_TEST_"               # what only tests read
FAULT = "HABITUE_FAULT"                  # of tests that crash us; see habitue.faults
AHEAD = "HABITUE_CLOCK_AHEAD"            # seconds: what will silence have done by then?
OF_CLIENTS = ("HABITUE_KEY", "HABITUE_PUBLIC_KEY", "HABITUE_URL")   # what they call; not ours
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MOST_AHEAD = 100 * 365.25 * 86_400
_COLLECTED = (1_000, 10, 2_000)            # things that are new, until the collector looks at them
_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
Place = Literal["here", "processes", "ray"]
_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


arm(os.environ.get(FAULT, ""))


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Where a deployment keeps its things, and how much of the machine it may use."""

    workspace: Path = Path("work")         # the folder that holds every shop
    lake: str | None = None                # s3://bucket/prefix; none: in that folder
    shop: str | None = None                # the shop that is meant when none is named
    log: str | None = None                 # the event log: kafka://host:9092/topic; none: in files
    scores: str | None = field(default=None, repr=False)    # redis://host:6379/0; none: in a file
    threads: int = 0                       # for arithmetic; 0 takes half the cores
    text_encoder: str | None = None        # that also reads item texts; none: n-grams alone
    lm_url: str | None = None              # a language model: an OpenAI-compatible address, to /v1
    lm_model: str | None = None            # the model's name there
    lm_key: str | None = field(default=None, repr=False)    # that it asks for; none: it asks none


def load_settings(
    folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """Defaults, then `habitue.toml` in `folder`, then the environment.

    Raises:
        BadSetting: a name is unknown or a value impossible.
    """
    file = _from_file((folder or Path.cwd()) / SETTINGS_FILE)
    told = file | _from_environment(os.environ if environment is None else environment)
    return Settings(**{name: _parsed(name, *saying) for name, saying in told.items()})


def object_store_options(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """What clients of S3 are told beside what they read from the environment themselves (AWS_*).

    Plain http is for a server on this machine; elsewhere AWS_ALLOW_HTTP=true must ask for it.

    Raises:
        BadSetting: AWS_ENDPOINT_URL is plain http and leaves this machine.
    """
    told = os.environ if environment is None else environment
    endpoint = urlsplit(told.get("AWS_ENDPOINT_URL", ""))
    if endpoint.scheme != "http":
        return {}
    if not is_here(endpoint.hostname) and told.get("AWS_ALLOW_HTTP", "").lower() != "true":
        raise BadSetting(
            f"AWS_ENDPOINT_URL names {endpoint.hostname} by plain http: keys and customers would"
            " cross the network in the open\nhint: https, or AWS_ALLOW_HTTP=true"
        )
    return {"AWS_ALLOW_HTTP": "true"}


def is_here(host: str | None) -> bool:
    """Whether a host is this machine by its name or number."""
    return host in _LOOPBACK


def limit_threads(threads: int) -> None:
    """Hold numeric libraries that are not loaded yet to so many threads; 0 takes half the cores.

    Matrices here are small: a thread that has to wait for a busy core costs more than it brings.
    A number in the environment stands.
    """
    count = str(threads or max((os.cpu_count() or 1) // 2, 1))
    for name in _THREADED:
        os.environ[name] = count if threads else os.environ.get(name, count)


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Let the garbage collector leave alone what is there now, and what has been there for long.

    A process that keeps many small things would otherwise stop for a tenth of a second now and
    then, to look through all of them. What is new is looked at in small pieces, milliseconds each.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*_COLLECTED)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()                      # what ends with the process can be collected again


def prepare_ray() -> None:
    """What Ray reads before it starts: it tells nobody that it runs, and trains by its own V2."""
    for name, value in _RAY.items():
        os.environ.setdefault(name, value)


def ray_address() -> str | None:
    """The Ray cluster to work on, as Ray's own variable names it; none: one is made here."""
    return os.environ.get("RAY_ADDRESS") or None


def utc_now() -> datetime:
    """The clock, for entry points; everything below takes `now` as an argument.

    It runs ahead by `HABITUE_CLOCK_AHEAD`, so that a trial need not wait for what time does.
    """
    return datetime.now(UTC) + clock_ahead()


def clock() -> float:
    """The clock in seconds since 1970, for what ages (segments of the log); a default, no more."""
    return utc_now().timestamp()


@cache
def clock_ahead() -> timedelta:
    """How far this process's clock runs ahead.

    Raises:
        BadSetting: it is told something else than a number of seconds, at most a hundred years.
    """
    told = os.environ.get(AHEAD, "0")
    try:
        seconds = float(told)
    except ValueError:
        seconds = math.nan
    if not 0.0 <= seconds <= _MOST_AHEAD:
        raise BadSetting(
            f"{AHEAD} must be seconds by which the clock runs ahead, not {told!r}\n"
            "hint: 2592000 is 30 days; it is for trials, so leave it out where events are real"
        )
    return timedelta(seconds=seconds)


Told = dict[str, tuple[object, str]]       # a setting's name -> its value and who said so


def _from_file(path: Path) -> Told:
    if not path.exists():
        return {}
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path.name} is not valid TOML: {error}") from error
    return {name: (value, f"{path.name}: {name}") for name, value in content.items()}


def _from_environment(environment: Mapping[str, str]) -> Told:
    return {
        name.removeprefix(PREFIX).lower(): (value, name)
        for name, value in environment.items()
        if name.startswith(PREFIX)
        and name not in (FAULT, AHEAD, *OF_CLIENTS)
        and not name.startswith(OF_TESTS)
    }


def _parsed(name: str, value: object, source: str) -> Any:
    known = [one.name for one in fields(Settings)]
    if name not in known:
        raise BadSetting(f"{source} is no setting\nhint: the settings are {', '.join(known)}")
    if name == "threads":
        return _thread_count(value, source)
    if not isinstance(value, str) or not value:
        found = "" if name == "lm_key" else f", not {value!r}"
        raise BadSetting(f"{source} must be text{found}")
    return Path(value) if name == "workspace" else value


def _thread_count(value: object, source: str) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal():
        raise BadSetting(
            f"{source} must be a whole number of threads, not {value!r}\n"
            "hint: 0 takes half the cores"
        )
    return int(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Everything that decides the outcome of a run; saved beside its weights."""

    width: int = 64                        # D; heads are 32 wide
    layers: int = 2
    epochs: int = 7                        # passes over every customer
    batch_tokens: int = 2_048              # per optimiser step, padding included
    learning_rate: float = 2e-3            # peak, after warm-up
    weight_decay: float = 0.05
    dropout: float = 0.1
    item_dropout: float = 0.2              # share of items known by content alone, per batch
    item_trust: float = 20.0               # orders by which an item is half its own, half content
    item_temperature: float = 0.0          # of cosines of states and items; 0: dot products
    exact_items: int = 30_000              # of a catalogue; the softmax over more is sampled
    item_rows: int = 384                   # scored against the catalogue in one step, at most
    shop_dropout: float = 1.0              # share of queries without the shop's descriptor
    queries: int = 8                       # per pass, of a customer known from the start
    max_events: int = 128                  # of one chunk of a sequence
    text_buckets: int = 16_384             # of hashed words and character n-grams
    text_encoder: str = ""                 # that also reads item texts: a folder or a package
    unseen_compete: bool = True            # items nobody ordered are learnt to be unlikely
    from_nothing: bool = False             # never begin from weights that ship
    checkpoint_every: int = 200            # steps
    seed: int = 0
    shares: int = 1                        # of the customers, each a stream of batches of its own
    bfloat16: bool = False                 # matrix products in 16 bits; weights stay float32

    @property
    def heads(self) -> int:
        """Attention heads, each 32 wide."""
        return max(1, self.width // 32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """Where work runs that can be shared, and among how many; not what comes out of it."""

    place: Place = "here"
    workers: int = 1
    storage: str | None = None             # where Ray keeps checkpoints; none: with the workspace


HERE = Launch()


def sized(width: int, layers: int) -> TrainConfig:
    """A model of a size; what must follow its size does, the rest is as in `nano`.

    The peak learning rate falls with the root of the width.
    """
    own = TrainConfig()
    rate = own.learning_rate * min((own.width / width) ** 0.5, 1.0)
    return replace(own, width=width, layers=layers, learning_rate=rate)


def nano() -> TrainConfig:
    """64 wide, 2 layers: a minute on two cores."""
    return TrainConfig()


def demo() -> TrainConfig:
    """96 wide, 3 layers: what `habitue demo` trains."""
    return replace(nano(), width=96, layers=3)


def base() -> TrainConfig:
    """256 wide, 6 layers: for a shop with millions of events, on a GPU."""
    return sized(256, 6)


def large() -> TrainConfig:
    """512 wide, 12 layers: for one large GPU."""
    return sized(512, 12)


def xl() -> TrainConfig:
    """1024 wide, 16 layers: for several."""
    return sized(1024, 16)
