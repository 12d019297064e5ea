"""Who is measured, and how each is started."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import environment, golang, pgbench
from bench.load import Generator, Load
from bench.rig import Place, Rig
from bench.served import Measured, Run, served
from dev.console import Failure
from dev.environment import ROOT


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One that can be run, again and again."""

    name: str
    run: Run


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
            contenders.append(Contender(name=name, run=run))
    return contenders, left_out


def _ours(
    name: str, rig: Rig, generator: Generator, *, processes: int = 1, by: Sequence[str] = ()
) -> Run:
    variables = {"LOG_FORMAT": "json", "PROCESSES": str(processes)}
    command = [*by, sys.executable, "-P", "-m", "service", "serve"]
    return served(command, variables, name, rig, generator, with_keys=name.endswith("keys"))


def limited(processes: int, join: Path, rig: Rig, generator: Generator) -> Run:
    """The service with so many processes, all in the cgroup that this file is to join."""
    by = ["sh", "-c", f'echo $$ > {join} && exec "$@"', "sh"]
    return _ours(f"ours_{processes}", rig, generator, processes=processes, by=by)


def _peer_a(name: str, rig: Rig, generator: Generator) -> Run:
    command = [str(environment.python()), "-P", "-m", "uvicorn", "bench.peers.a_fastapi:app"]
    # All else as it is by default: it logs each request, as the service does.
    command += ["--port", "{port}"]
    return served(command, {}, name, rig, generator)


def _peer_b(name: str, rig: Rig, generator: Generator) -> Run:
    return served(_python("b_aiohttp"), {}, name, rig, generator)


def _peer_c(name: str, rig: Rig, generator: Generator) -> Run:
    return served([str(golang.build(rig.folder))], {}, name, rig, generator)


def _floor(floor: str, name: str, rig: Rig, generator: Generator) -> Run:
    return served([*_python("floors"), floor], {}, name, rig, generator)


def _publishing(name: str, rig: Rig, _generator: Generator) -> Run:
    place = rig.place(name)

    def measure(connections: int, seconds: int) -> Measured:
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
        # It gives the same ids each time.
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
    "floor_e": "E: aiohttp, our commits and relay",
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
    "floor_e": partial(_floor, "events"),
    "floor_p": _publishing,
    "pgbench": _pgbench,
}
