"""How a workspace is served, and what is written down of that: for who starts, and who asks."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec

from habitue.serving.metrics import Metrics

Listening: TypeAlias = Callable[[int, Callable[[], None]], None]

LOCK_FILE, OPERATOR_FILE, TOLD_FILE = "serve.lock", "operator.key", "serve.json"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """How a workspace is served."""

    host: str = "127.0.0.1"
    port: int = 8787                       # 0: any that is free
    klaviyo_limits: bool | None = None     # none: unless only this machine can ask
    scores: bool = True                    # whether answers are kept up to date beside the server
    workers: int = 1                       # that answer; of several none writes; 0: others answer

    @property
    def holds_klaviyo_limits(self) -> bool:
        """Whether Klaviyo's own limits hold at its paths."""
        if self.klaviyo_limits is None:
            return self.host not in LOOPBACK
        return self.klaviyo_limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """The commands that run beside the server."""

    follow: Sequence[str] = ()             # follows the log; ends when it has settled all of it
    score: Sequence[str] = ()              # keeps scores
    answer: Sequence[str] = ()             # answers, as one of several; is told which, as JSON

    @property
    def commands(self) -> list[Sequence[str]]:
        """Those that run once, whoever answers."""
        return [one for one in (self.follow, self.score) if one]


NOTHING = Beside()


class ServerTold(msgspec.Struct, frozen=True, kw_only=True):
    """What the server writes down every second for `habitue status`."""

    pid: int
    host: str
    port: int
    started: float                         # seconds since 1970
    time: float
    accepted: dict[str, int]               # by shop, since it started
    rejected: dict[str, dict[str, int]]    # by shop and reason
    rows_per_second: float
    waiting_bytes: int
    workers: int = 1


class Telling:
    """Writes down how a server goes, each time it is told what it has counted."""

    def __init__(self, path: Path, config: ServeConfig, port: int, *, now: float) -> None:
        self._path, self._config, self._port = path, config, port
        self._started = self._before = now
        self._counted = 0

    def tell(self, metrics: Metrics, waiting_bytes: int, *, now: float) -> None:
        """Write it down; raises `OSError` where that fails."""
        total = metrics.inputs
        told = ServerTold(
            pid=os.getpid(), host=self._config.host, port=self._port, started=self._started,
            time=now, accepted=dict(metrics.accepted), rejected=metrics.reasons(),
            rows_per_second=(total - self._counted) / max(now - self._before, 0.001),
            waiting_bytes=waiting_bytes, workers=self._config.workers,
        )  # fmt: skip
        self._before, self._counted = now, total
        replace(self._path, msgspec.json.encode(told))

    def over(self) -> None:
        """Nothing runs any more."""
        self._path.unlink(missing_ok=True)


def replace(path: Path, content: bytes) -> None:
    """Put a file in place, whole."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)
