"""What becomes of the service as it goes on: its memory after a million creates, and how fast it
creates campaigns when there are ten million.

Of the second, one service has an empty table and another, on the same server, a full one, and they
are measured by turns. Ten million campaigns take about 15 GB in /var/tmp, and many minutes to make.
"""

import argparse
import json
import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import structlog
from tabulate import tabulate

from bench import crowded, curve, memory
from bench.crowded import Pair
from bench.load import generator
from bench.memory import Sample
from bench.rig import rig
from dev.console import Failure, say

RESULTS = Path(__file__).with_name("results") / "growth.json"

_MOST_MEGABYTES = 150
_LEAST_RATIO = 0.95
# What a sample may be above another and still be called the same.
_FLAT = 1.05


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Megabytes after so many creates; creates a second in two tables, by rounds."""

    campaigns: int
    memory: list[Sample]
    rates: list[Pair]

    @property
    def ratio(self) -> float:
        """Of the full table to the empty one; each round is compared with itself."""
        return median(pair.full / pair.empty for pair in self.rates)


def main() -> int:
    """Measure, print a table, keep the figures."""
    options = _parser().parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        found = measure(options)
    except Failure as failure:
        print(f"run: {failure}", file=sys.stderr)
        return 1
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(json.dumps(asdict(found), indent=1) + "\n")
    if found.memory:
        title = "megabytes of the service after so many creates"
        image = curve.svg(title, found.memory, _MOST_MEGABYTES, "at most")
        options.results.with_suffix(".svg").write_text(image)
    print(table(found))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run bench growth", description=__doc__)
    parser.add_argument(
        "--creates", type=int, default=1_000_000, metavar="N",
        help="after which memory is looked at; 0: leave this out; default: 1000000",
    )  # fmt: skip
    parser.add_argument(
        "--campaigns", type=int, default=10_000_000, metavar="N",
        help="in the full table; 0: leave this out; default: 10000000",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=40, metavar="N", help="default: 40")
    parser.add_argument(
        "--seconds", type=int, default=3, metavar="N", help="of each rate; default: 3"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FILE",
        help="where figures are kept, and the plot beside it; default: bench/results/growth.json",
    )  # fmt: skip
    return parser


def measure(options: argparse.Namespace) -> Figures:
    """Raises: Failure."""
    load, samples, pairs = generator(), [], []
    with rig() as servers:
        if options.creates:
            place = servers.place("memory")
            samples = memory.sample(place, servers.folder, load, options.creates)
        if options.campaigns:
            empty, full = servers.place("empty"), servers.place("crowded")
            say(f"making {options.campaigns:,} campaigns")
            crowded.fill(full, options.campaigns)
            pairs = crowded.measure(
                empty, full, servers.folder, load, options.rounds, options.seconds
            )
    return Figures(campaigns=options.campaigns, memory=samples, rates=pairs)


def table(found: Figures) -> str:
    """The figures for people, in Markdown."""
    lines = []
    if found.memory:
        (_, first), (creates, last) = found.memory[0], found.memory[-1]
        lines += [
            ["memory at the start", f"{first:.1f} MB", ""],
            [f"memory after {creates:,} creates", f"{last:.1f} MB", f"<= {_MOST_MEGABYTES} MB"],
            [
                "the same, to that after half of them",
                f"{memory.growth(found.memory):.3f}",
                f"<= {_FLAT}",
            ],
        ]
    if found.rates:
        empty, full = (
            median(getattr(pair, name) for pair in found.rates) for name in ("empty", "full")
        )
        lines += [
            ["creates/s, empty table", f"{empty:,.0f}", ""],
            [f"creates/s, {found.campaigns:,} campaigns", f"{full:,.0f}", ""],
            ["ratio, median of the rounds", f"{found.ratio:.3f}", f">= {_LEAST_RATIO}"],
        ]
    return tabulate(lines, ["", "measured", "target"], tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    sys.exit(main())
