"""How long `campaigns serve` takes from its start until it is ready, database and relay included.

The first run reads the program from the disk; the figures are of those after it.
"""

import argparse
import json
import logging
import signal
import sys
import time
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

import psutil
import structlog
from tabulate import tabulate

from bench.rig import Place, rig
from bench.served import BARE
from dev.console import Failure, say
from dev.processes import Child, steady_port

RESULTS = Path(__file__).with_name("results") / "startup.json"

_LONGEST_SECONDS = 30.0
_POLL_SECONDS = 0.005


def main() -> int:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(prog="./run bench startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, metavar="N", help="default: 11")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FILE",
        help="where figures are kept; default: bench/results/startup.json",
    )  # fmt: skip
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        times = measure(options.rounds)
    except Failure as failure:
        print(f"run: {failure}", file=sys.stderr)
        return 1
    options.results.parent.mkdir(exist_ok=True)
    figures = {"milliseconds": times, "median": median(times)}
    options.results.write_text(json.dumps(figures, indent=1) + "\n")
    print(table(times))
    return 0


def measure(rounds: int) -> list[float]:
    """Raises: Failure."""
    with rig() as servers:
        place, folder = servers.place("startup"), servers.folder / "startup"
        times = []
        for number in range(rounds + 1):
            took, cpu = start(place, folder)
            say(f"{number}/{rounds} ready after {took:.0f} ms, {cpu:.0f} ms of a core")
            times.append(round(took, 1))
    return times[1:]


def start(place: Place, folder: Path) -> tuple[float, float]:
    """Milliseconds until it is ready, and those of a core that it took itself.

    Raises:
        Failure: it ended, or was not ready in time.
    """
    port = steady_port(folder.with_suffix(".port"))
    began = time.perf_counter()
    child = Child(
        "campaigns serve",
        [Path(sys.executable).parent / "campaigns", "serve"],
        environment=BARE | {"HTTP_PORT": str(port), "LOG_FORMAT": "json"} | place.environment,
        folder=Path("/"),
        ends_by=signal.SIGTERM,
        log=folder.with_suffix(".log"),
    )
    try:
        while not _is_ready(port):
            child.check()
            if time.perf_counter() - began > _LONGEST_SECONDS:
                raise Failure(f"not ready in {_LONGEST_SECONDS:.0f} seconds")
            time.sleep(_POLL_SECONDS)
        took = time.perf_counter() - began
        times = psutil.Process(child.process.pid).cpu_times()
    finally:
        child.stop()
    return took * 1e3, (times.user + times.system) * 1e3


def _is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    with suppress(OSError):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False


def table(times: list[float]) -> str:
    """The figures for people, in Markdown."""
    lines = [
        ["from the start to ready, median", f"{median(times):.0f} ms"],
        ["fastest", f"{min(times):.0f} ms"],
        ["slowest", f"{max(times):.0f} ms"],
    ]
    return tabulate(lines, ["", "measured"], tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    sys.exit(main())
