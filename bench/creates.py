"""How many campaigns are created a second, and how fast each: the service beside what one would
otherwise write, and beside the parts that none can do without.

All share a machine with the servers and the load, so the ratios are what to compare. In each round
every contender is started, measured and ended once; bench/README.md tells what each one does.
"""

import argparse
import json
import logging
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import structlog

from bench import contenders, figures, plot
from bench.contenders import Contender
from bench.load import generator
from bench.rig import rig
from bench.served import Measured
from dev.console import Failure, say

RESULTS = Path(__file__).with_name("results") / "creates.json"

Measurements = dict[tuple[str, int], list[Measured]]


def main() -> int:
    """Measure, print tables, keep the figures."""
    options = _parser().parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        with rig() as servers:
            found, left_out = contenders.prepare(servers, generator(), options.only)
            machine = _machine() | servers.versions()
            measured = measure(found, left_out, options)
    except Failure as failure:
        print(f"run: {failure}", file=sys.stderr)
        return 1
    if not measured:
        print(f"run: nobody could be measured: {left_out}", file=sys.stderr)
        return 1
    rows = [figures.row(name, connections, one) for (name, connections), one in measured.items()]
    met = figures.targets(rows)
    kept = {
        "machine": machine,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "left_out": left_out,
        "rows": [asdict(row) for row in rows],
        "targets": [asdict(target) for target in met],
        "measurements": [
            {"contender": name, "connections": connections, "rounds": [asdict(one) for one in all_]}
            for (name, connections), all_ in measured.items()
        ],
    }
    # What some of them did is not to replace what all of them did.
    if results := options.results or (None if options.only else RESULTS):
        results.parent.mkdir(exist_ok=True)
        results.write_text(json.dumps(kept, indent=1) + "\n")
        results.with_suffix(".svg").write_text(plot.svg(rows))
    print(figures.table(rows), figures.targets_table(met), sep="\n\n")
    for name, reason in left_out.items():
        print(f"\nLeft out: {contenders.TITLES[name]}; {reason}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run bench creates", description=__doc__)
    names = ", ".join(contenders.TITLES)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument(
        "--seconds", type=int, default=5, metavar="N", help="of each measurement; default: 5"
    )
    parser.add_argument(
        "--connections", type=int, nargs="+", default=[1, 32, 128], metavar="N",
        help="default: 1 32 128",
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"of {names}")
    parser.add_argument(
        "--results", type=Path, metavar="FILE",
        help="where figures are kept, and the plot beside it; default: bench/results/creates.json, "
        "or nowhere with --only",
    )  # fmt: skip
    return parser


def measure(
    found: Sequence[Contender], left_out: dict[str, str], options: argparse.Namespace
) -> Measurements:
    """Let one after the other run, in another order in every other round.

    One that fails is left out from there on, with all that was seen of it.
    """
    measured: Measurements = defaultdict(list)
    for number in range(1, options.rounds + 1):
        # Whoever comes first must not always be the same.
        for contender in found if number % 2 else reversed(found):
            if contender.name in left_out:
                continue
            try:
                with contender.run() as measure_one:
                    for connections in options.connections:
                        one = measure_one(connections, options.seconds)
                        measured[contender.name, connections].append(one)
                        say(
                            f"{number}/{options.rounds} {contender.name} at {connections}: "
                            f"{one.load.per_second:,.0f}/s, p99 {one.load.p99_ms:.1f} ms"
                        )
            except Failure as failure:
                say(str(failure))
                left_out[contender.name] = str(failure)
    order = list(contenders.TITLES)
    kept = [(key, rounds) for key, rounds in measured.items() if key[0] not in left_out]
    return dict(sorted(kept, key=lambda item: (order.index(item[0][0]), item[0][1])))


def _machine() -> dict[str, str]:
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main())
