"""Contenders that listen: started, checked, put under load, and ended."""

import os
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
import requests

from bench import honesty
from bench.load import Generator, Load
from bench.rig import Place, Rig
from dev.environment import ROOT
from dev.processes import Child, steady_port

# Settings of the caller's are not for what is measured.
BARE = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}

_SERVERS = {"postgres": "PostgreSQL", "beam.smp": "RabbitMQ"}

# Seconds and connections of load that nobody measures: connections open, statements are prepared.
_WARM_UP = 1
_WARM_UP_CONNECTIONS = 32

# Seconds after the last answer in which the events of all creates have to be confirmed.
_CONFIRMED_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was seen of a contender at so many connections."""

    load: Load
    # Of a create: by the contender's own processes, PostgreSQL's and RabbitMQ's.
    cpu_ms: dict[str, float] = field(default_factory=dict)
    # Events that were not confirmed in time.
    events_left: int = 0


# Is given connections and seconds.
Measure = Callable[[int, int], Measured]

# The contender is there as long as the context lasts.
Run = Callable[[], AbstractContextManager[Measure]]


def served(
    command: Sequence[str],
    variables: dict[str, str],
    name: str,
    rig: Rig,
    generator: Generator,
    *,
    with_keys: bool = False,
) -> Run:
    """A program that listens on HTTP_PORT."""
    place = rig.place(name)

    @contextmanager
    def run() -> Iterator[Measure]:
        with serving(command, rig.folder / name, place.environment | variables) as (url, child):
            if not name.startswith("floor"):
                honesty.check(name, url, place)
            measure = partial(_measure, generator, place, url, child, with_keys=with_keys)
            measure(_WARM_UP_CONNECTIONS, _WARM_UP)
            yield measure

    return run


@contextmanager
def serving(
    command: Sequence[str], folder: Path, variables: dict[str, str]
) -> Iterator[tuple[str, Child]]:
    """A program that listens; its log and the port are in files that begin like the folder."""
    port = steady_port(folder.with_suffix(".port"))
    url = f"http://127.0.0.1:{port}"
    child = Child(
        folder.name,
        [word.format(port=port) for word in command],
        environment=BARE | {"HTTP_PORT": str(port)} | variables,
        folder=Path("/"),
        ends_by=signal.SIGTERM,
        log=folder.with_suffix(".log"),
    )
    try:
        child.wait_until(lambda: _is_ready(url), seconds=30)
        yield url, child
    finally:
        child.stop()


def _is_ready(url: str) -> bool:
    with suppress(requests.ConnectionError):
        return requests.get(f"{url}/readyz", timeout=5).ok
    return False


def _measure(
    generator: Generator,
    place: Place,
    url: str,
    child: Child,
    connections: int,
    seconds: int,
    *,
    with_keys: bool,
) -> Measured:
    before = _cpu_seconds(child)
    load = generator.post(
        url, place.key, connections=connections, seconds=seconds, with_keys=with_keys
    )
    has_relay = child.name.startswith(("ours", "floor_e"))
    events_left = place.waiting(_CONFIRMED_SECONDS) if has_relay else 0
    after = _cpu_seconds(child)
    cpu_ms = {part: (after[part] - before[part]) * 1e3 / max(load.count, 1) for part in after}
    return Measured(load=load, cpu_ms=cpu_ms, events_left=events_left)


def _cpu_seconds(child: Child) -> dict[str, float]:
    """What the contender and the servers have used; the load generator has ended."""
    used: dict[str, float] = defaultdict(float)
    own = _pids(child)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            part = _SERVERS.get(process.name(), "own" if process.pid in own else None)
            if part:
                # With those of its children that have ended, as connections of PostgreSQL may have.
                used[part] += sum(process.cpu_times()[:4])
    return used


def _pids(child: Child) -> set[int]:
    """Of all its processes; none, if it has ended."""
    with suppress(psutil.NoSuchProcess):
        main = psutil.Process(child.process.pid)
        return {main.pid, *(process.pid for process in main.children(recursive=True))}
    return set()
