"""What a second process brings where there are cores for it, however few this machine has.

Each process gets a share of a core from the kernel (CPU bandwidth control of cgroups, version 1),
so small that two leave enough for the load, PostgreSQL and RabbitMQ. That takes root.
"""

import argparse
import json
import logging
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import structlog
from tabulate import tabulate

from bench.contenders import limited
from bench.load import generator
from bench.rig import rig
from dev.console import Failure, say

RESULTS = Path(__file__).with_name("results") / "processes.json"

_CPU = Path("/sys/fs/cgroup/cpu")

# So short that a process that has used its share waits for milliseconds.
_PERIOD_MICROSECONDS = 10_000

_CONNECTIONS = (32, 128)
_PROCESSES = (1, 2)

# Creates a second of each round, by connections and processes.
Rates = dict[tuple[int, int], list[float]]


def main() -> int:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(prog="./run bench processes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument(
        "--seconds", type=int, default=3, metavar="N", help="of each measurement; default: 3"
    )
    parser.add_argument(
        "--share", type=float, default=0.2, metavar="X",
        help="of a core, for each process; default: 0.2",
    )  # fmt: skip
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FILE",
        help="where figures are kept; default: bench/results/processes.json",
    )  # fmt: skip
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        rates = measure(options.rounds, options.seconds, options.share)
    except Failure as failure:
        print(f"run: {failure}", file=sys.stderr)
        return 1
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(json.dumps(figures(rates, options.share), indent=1) + "\n")
    print(table(rates, options.share))
    return 0


def measure(rounds: int, seconds: int, share: float) -> Rates:
    """Raises: Failure."""
    rates: Rates = defaultdict(list)
    load = generator()
    with _group() as (join, allow), rig() as servers:
        runs = {count: limited(count, join, servers, load) for count in _PROCESSES}
        for number in range(1, rounds + 1):
            servers.clean()
            for count in _PROCESSES if number % 2 else reversed(_PROCESSES):
                allow(share * count)
                with runs[count]() as measure_one:
                    for connections in _CONNECTIONS:
                        one = measure_one(connections, seconds)
                        if one.events_left or one.load.errors or one.load.refused:
                            raise Failure(f"not all was done: {one}")
                        rates[connections, count].append(one.load.per_second)
                        say(
                            f"{number}/{rounds} {count} at {connections}: "
                            f"{one.load.per_second:,.0f}/s"
                        )
    return rates


@contextmanager
def _group() -> Iterator[tuple[Path, Callable[[float], None]]]:
    """A group of processes: the file to join it by, and what says how many cores it may use.

    Raises:
        Failure: we may make none.
    """
    group = _CPU / f"campaigns-{os.getpid()}"

    def write(name: str, microseconds: float) -> None:
        with _refusals():
            (group / name).write_text(str(round(microseconds)))

    def allow(cores: float) -> None:
        write("cpu.cfs_quota_us", cores * _PERIOD_MICROSECONDS)

    with _refusals():
        group.mkdir()
    try:
        write("cpu.cfs_period_us", _PERIOD_MICROSECONDS)
        yield group / "cgroup.procs", allow
    finally:
        group.rmdir()


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Failure(f"processes can be given no such share of a core here: {error}") from error


def figures(rates: Rates, share: float) -> dict[str, object]:
    """What is kept."""
    return {
        "share_of_a_core": share,
        "per_second": {
            f"{count} at {connections}": found for (connections, count), found in rates.items()
        },
        "ratio": {connections: round(ratio(rates, connections), 3) for connections in _CONNECTIONS},
    }


def ratio(rates: Rates, connections: int) -> float:
    """The median of two processes to that of one."""
    return median(rates[connections, 2]) / median(rates[connections, 1])


def table(rates: Rates, share: float) -> str:
    """The figures for people, in Markdown."""
    lines = [
        [
            connections,
            *(f"{median(rates[connections, count]):,.0f}/s" for count in _PROCESSES),
            f"{ratio(rates, connections):.2f}",
        ]
        for connections in _CONNECTIONS
    ]
    columns = ["connections", f"one process, {share:g} of a core", "two, each as much", "ratio"]
    align = ["left", "right", "right", "right"]
    return tabulate(lines, columns, tablefmt="github", colalign=align, disable_numparse=True)


if __name__ == "__main__":
    sys.exit(main())
