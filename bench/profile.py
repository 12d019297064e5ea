"""Where the time of a create goes: the service under load, looked at from outside of it.

py-spy looks a hundred times a second at what the service does. Each look counts for the part that
the innermost function belongs to; what no part claims counts for whoever called it, and so does
what is written in C. Looking slows the service, so the time of a create is taken before.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import structlog
from tabulate import tabulate

from bench import environment, served
from bench.load import Generator, generator
from bench.rig import Place, rig
from dev.console import Failure, say

RESULTS = Path(__file__).with_name("results") / "profile.json"

_CONNECTIONS = 32
_LOOKS_A_SECOND = 100

# Which part a function belongs to, by how its file begins, or its name; the first that fits.
_PARTS = {
    "JSON": ("json/", "Campaign.to_json"),
    "validation": (
        *("marshmallow/", "service/schemas", "service/fields", "service/bodies"),
        *("service/invalid", "service/patches"),
    ),
    "templates": (
        *("service/templates", "service/grammar", "service/phrases", "service/tokens"),
        *("service/expressions", "service/conditions", "service/filters"),
    ),
    "PostgreSQL: asyncpg": (
        *("asyncpg/", "service/queries", "service/postgres", "service/commits"),
    ),
    "RabbitMQ: aio-pika, aiormq": (
        *("aio_pika/", "aiormq/", "pamqp/", "service/broker", "service/confirms"),
    ),
    "relay": ("service/relay", "service/settlement", "service/backlog"),
    "logging": ("logging/", "structlog/", "service/logs"),
    "HTTP: aiohttp": ("aiohttp/", "yarl/", "multidict/", "service/server", "service/connections"),
    "key, limits, errors": (
        *("service/access", "service/problems", "service/auth", "service/callers"),
        *("service/keys", "service/slots", "service/limits"),
    ),
    "campaign and event": ("service/",),
}
_NO_PART = "uvloop and the rest"


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a part takes of a create."""

    part: str
    percent: float
    cpu_us: float


def main() -> int:
    """Look, print a table, keep the figures and the flame graph."""
    parser = argparse.ArgumentParser(prog="./run bench profile", description=__doc__)
    parser.add_argument(
        "--seconds", type=int, default=20, metavar="N", help="of each of three parts; default: 20"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FILE",
        help="where figures are kept, and the flame graph beside it; "
        "default: bench/results/profile.json",
    )  # fmt: skip
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    options.results.parent.mkdir(exist_ok=True)
    try:
        cpu_us, looks = measure(options.seconds, options.results.with_suffix(".svg"))
    except Failure as failure:
        print(f"run: {failure}", file=sys.stderr)
        return 1
    found = shares(looks, cpu_us)
    kept = {"cpu_us": cpu_us, "looks": looks.total(), "parts": [asdict(share) for share in found]}
    options.results.write_text(json.dumps(kept, indent=1) + "\n")
    print(table(found))
    return 0


def measure(seconds: int, graph: Path) -> tuple[float, Counter[str]]:
    """Microseconds of a core that a create takes, and how often each part was seen."""
    load, command = generator(), [sys.executable, "-P", "-m", "service", "serve"]
    with rig() as servers:
        place, folder = servers.place("profile"), servers.folder / "serve"
        variables = place.environment | {"LOG_FORMAT": "json"}
        with served.serving(command, folder, variables) as (url, child):
            load.post(url, place.key, connections=_CONNECTIONS, seconds=2)
            service = psutil.Process(child.process.pid)
            say(f"measuring for {seconds} seconds what a create takes")
            cpu_us = _cpu_us(service, place, url, load, seconds)
            with (
                _under_load(place, url, load, 2 * seconds + 10),
                tempfile.NamedTemporaryFile() as raw,
            ):
                say(f"looking for {2 * seconds} seconds at what it does")
                _look(service, "raw", seconds, Path(raw.name))
                _look(service, "flamegraph", seconds, graph)
                return cpu_us, parts(Path(raw.name).read_text())


def _cpu_us(
    service: psutil.Process, place: Place, url: str, load: Generator, seconds: int
) -> float:
    before = service.cpu_times()
    done = load.post(url, place.key, connections=_CONNECTIONS, seconds=seconds)
    # Their events are a part of it.
    place.waiting(60)
    after = service.cpu_times()
    used = after.user + after.system - before.user - before.system
    return round(used / done.count * 1e6, 1)


@contextmanager
def _under_load(place: Place, url: str, load: Generator, seconds: int) -> Iterator[None]:
    options = {"connections": _CONNECTIONS, "seconds": seconds}
    thread = threading.Thread(target=load.post, args=(url, place.key), kwargs=options)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _look(service: psutil.Process, kind: str, seconds: int, output: Path) -> None:
    """Have py-spy write what it saw.

    Raises:
        Failure: it may not look, with what it said.
    """
    # The graph shows this command, where it runs is nobody's business.
    command = ["py-spy", "record", "--pid", str(service.pid), "--format", kind]
    command += ["--duration", str(seconds), "--rate", str(_LOOKS_A_SECOND), "--output", output.name]
    done = subprocess.run(
        command,
        executable=environment.python().with_name("py-spy"),
        cwd=output.parent,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Failure(
            "py-spy cannot look at the service, it needs the right to trace another process "
            f"(ptrace): {done.stderr.strip()}"
        )


def parts(raw: str) -> Counter[str]:
    """How often each part was seen, of stacks that each end with a number."""
    seen: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, times = line.rpartition(" ")
        seen[_part(stack.split(";"))] += int(times)
    return seen


def _part(stack: list[str]) -> str:
    for frame in reversed(stack):
        file = frame.rpartition("(")[2]
        if file.startswith(("service/__main__", "service/serve_commands")):
            break
        for part, beginnings in _PARTS.items():
            if file.startswith(beginnings) or frame.startswith(beginnings):
                return part
    return _NO_PART


def shares(seen: Counter[str], cpu_us: float) -> list[Share]:
    """The largest first."""
    return [
        Share(
            part=part,
            percent=round(times / seen.total() * 100, 1),
            cpu_us=round(times / seen.total() * cpu_us, 1),
        )
        for part, times in seen.most_common()
    ]


def table(found: list[Share]) -> str:
    """The figures for people, in Markdown."""
    lines = [[share.part, f"{share.percent:.1f}", f"{share.cpu_us:.0f}"] for share in found]
    lines.append(["all", "100.0", f"{sum(share.cpu_us for share in found):.0f}"])
    columns = ["", "%", "CPU µs a create"]
    align = ["left", "right", "right"]
    return tabulate(lines, columns, tablefmt="github", colalign=align, disable_numparse=True)


if __name__ == "__main__":
    sys.exit(main())
