"""Who is measured, and how each is started."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import psutil
import requests

from bench import environment, golang, honesty, pgbench
from bench.load import Generator, Load
from bench.rig import Place, Rig
from dev.console import Failure
from dev.environment import ROOT
from dev.processes import Child, steady_port
from service.settings import Settings

# Seconds and connections of load that nobody measures: connections open, statements are prepared.
_WARM_UP = 1
_WARM_UP_CONNECTIONS = 32

# Seconds after the last answer in which the events of all creates have to be confirmed.
_CONFIRMED_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was seen of a contender at so many connections."""

    load: Load
    # Of its own processes; what the servers do for it is not in it.
    cpu_ms: float | None = None
    # Events that were not confirmed in time.
    events_left: int = 0


# Is given connections and seconds.
Measure = Callable[[int, int], Measured]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One that can be measured as long as the context lasts that `run` opens."""

    name: str
    title: str
    run: Callable[[], AbstractContextManager[Measure]]


def prepare(
    rig: Rig, generator: Generator, only: Sequence[str] | None
) -> tuple[list[Contender], dict[str, str]]:
    """Make a place for each contender; of those that are left out, tell why.

    Raises:
        Failure: a name is unknown.
    """
    unknown = set(only or ()) - TITLES.keys()
    if unknown:
        raise Failure(f"there is no {', '.join(unknown)}, only {', '.join(TITLES)}")
    contenders, left_out = [], {}
    for name in only or TITLES:
        try:
            run = _MAKERS[name](name, rig, generator)
        except Failure as failure:
            left_out[name] = str(failure)
        else:
            contenders.append(Contender(name=name, title=TITLES[name], run=run))
    return contenders, left_out


Run = Callable[[], AbstractContextManager[Measure]]


def _served(
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
        environment=os.environ | {"PYTHONPATH": str(ROOT), "HTTP_PORT": str(port)} | variables,
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
    place.clean()
    before = _cpu_seconds(child)
    load = generator.post(
        url, place.key, connections=connections, seconds=seconds, with_keys=with_keys
    )
    events_left = place.waiting(_CONFIRMED_SECONDS) if child.name.startswith("ours") else 0
    cpu_ms = (_cpu_seconds(child) - before) * 1e3 / max(load.count, 1)
    return Measured(load=load, cpu_ms=cpu_ms, events_left=events_left)


def _cpu_seconds(child: Child) -> float:
    process = psutil.Process(child.process.pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def _ours(name: str, rig: Rig, generator: Generator, *, processes: int = 1) -> Run:
    variables = {"LOG_FORMAT": "json"}
    if processes > 1:
        if "processes" not in {field.name for field in fields(Settings)}:
            raise Failure("the service has no setting for several processes")
        variables["PROCESSES"] = str(processes)
    command = [sys.executable, "-P", "-m", "service", "serve"]
    return _served(command, variables, name, rig, generator, with_keys=name.endswith("keys"))


def _peer_a(name: str, rig: Rig, generator: Generator) -> Run:
    command = [str(environment.python()), "-P", "-m", "uvicorn", "bench.peers.a_fastapi:app"]
    command += ["--port", "{port}", "--no-access-log", "--log-level", "warning"]
    return _served(command, {}, name, rig, generator)


def _peer_b(name: str, rig: Rig, generator: Generator) -> Run:
    return _served(_python("b_aiohttp"), {}, name, rig, generator)


def _peer_c(name: str, rig: Rig, generator: Generator) -> Run:
    return _served([str(golang.build(rig.folder))], {}, name, rig, generator)


def _floor(floor: str, name: str, rig: Rig, generator: Generator) -> Run:
    return _served([*_python("floors"), floor], {}, name, rig, generator)


def _publishing(name: str, rig: Rig, _generator: Generator) -> Run:
    place = rig.place(name)

    def measure(connections: int, seconds: int) -> Measured:
        place.clean()
        return Measured(load=publish(place, connections, seconds))

    return lambda: nullcontext(measure)


def publish(place: Place, in_flight: int, seconds: int) -> Load:
    """What floor P does in so many seconds.

    Raises:
        Failure: with what it said.
    """
    command = [*_python("publishing"), "--seconds", str(seconds), "--in-flight", str(in_flight)]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | place.environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Failure(f"floor P failed: {done.stderr}")
    return Load(**json.loads(done.stdout))


def _pgbench(name: str, rig: Rig, _generator: Generator) -> Run:
    program, place = pgbench.find(), rig.place(name)

    def measure(connections: int, seconds: int) -> Measured:
        place.clean()
        return Measured(load=pgbench.run(program, place.database_url, connections, seconds))

    return lambda: nullcontext(measure)


def _python(peer: str) -> list[str]:
    return [sys.executable, "-P", "-m", f"bench.peers.{peer}"]


TITLES = {
    "ours": "the service, one process",
    "ours_with_keys": "the same, each with an Idempotency-Key",
    "ours_twice": "the service, two processes",
    "peer_a": "A: FastAPI, SQLAlchemy, aio-pika",
    "peer_b": "B: aiohttp, asyncpg, aio-pika",
    "peer_c": "C: Go, pgx, amqp091",
    "floor_h": "H: aiohttp answers the body",
    "floor_d": "D: aiohttp and our statement",
    "floor_p": "P: aio-pika, so many in flight",
    "pgbench": "pgbench, our statement",
}

_MAKERS: dict[str, Callable[[str, Rig, Generator], Run]] = {
    "ours": _ours,
    "ours_with_keys": _ours,
    "ours_twice": partial(_ours, processes=2),
    "peer_a": _peer_a,
    "peer_b": _peer_b,
    "peer_c": _peer_c,
    "floor_h": partial(_floor, "http"),
    "floor_d": partial(_floor, "statement"),
    "floor_p": _publishing,
    "pgbench": _pgbench,
}
