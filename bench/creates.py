"""How many campaigns are created a second, and how fast each: the service beside what one would
otherwise write, and beside the parts that none can do without.

All share a machine with the servers and the load, so the ratios are what to compare. All are up all
the time, and take turns of a second or so; bench/README.md tells what each one does.
"""

import argparse
import json
import logging
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import structlog

from bench import contenders, figures, plot
from bench.contenders import Contender
from bench.load import generator
from bench.rig import Rig, rig
from bench.served import Measure, Measured
from dev.console import Failure, say

RESULTS = Path(__file__).with_name("results") / "creates.json"


def main() -> int:
    """Measure, print tables, keep the figures."""
    options = _parser().parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        with rig() as servers:
            found, left_out = contenders.prepare(servers, generator(), options.only)
            machine = _machine() | servers.versions()
            measured = measure(servers, found, left_out, options)
    except Failure as failure:
        print(f"run: {failure}", file=sys.stderr)
        return 1
    if not measured:
        print(f"run: nobody could be measured: {left_out}", file=sys.stderr)
        return 1
    rows = [figures.row(name, connections, one) for (name, connections), one in measured.items()]
    met = figures.targets(measured)
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
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="default: 20")
    parser.add_argument(
        "--seconds", type=int, default=1, metavar="N", help="of each turn; default: 1"
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
    servers: Rig, found: Sequence[Contender], left_out: dict[str, str], options: argparse.Namespace
) -> dict[tuple[str, int], list[Measured]]:
    """Let them take turns, in another order in every other round.

    One that fails is left out from there on, with all that was seen of it.
    """
    measured: dict[tuple[str, int], list[Measured]] = defaultdict(list)
    with ExitStack() as until_all_are_measured:
        running = _start(found, left_out, until_all_are_measured)
        for number in range(1, options.rounds + 1):
            # Not before each turn: RabbitMQ would be tidying up in it, most for those who do most.
            servers.clean()
            for connections in options.connections:
                # Whoever comes first must not always be the same.
                for name in list(running) if number % 2 else list(reversed(running)):
                    try:
                        one = running[name](connections, options.seconds)
                    except Failure as failure:
                        _leave_out(name, failure, left_out)
                        del running[name]
                    else:
                        measured[name, connections].append(one)
                say(f"{number}/{options.rounds} at {connections}: {_last(measured, connections)}")
    order = list(contenders.TITLES)
    kept = [(key, rounds) for key, rounds in measured.items() if key[0] not in left_out]
    return dict(sorted(kept, key=lambda item: (order.index(item[0][0]), item[0][1])))


def _start(
    found: Sequence[Contender], left_out: dict[str, str], stack: ExitStack
) -> dict[str, Measure]:
    running = {}
    for contender in found:
        try:
            running[contender.name] = stack.enter_context(contender.run())
        except Failure as failure:
            _leave_out(contender.name, failure, left_out)
    return running


def _leave_out(name: str, failure: Failure, left_out: dict[str, str]) -> None:
    say(str(failure))
    left_out[name] = str(failure)


def _last(measured: figures.Measurements, connections: int) -> str:
    return ", ".join(
        f"{name} {rounds[-1].load.per_second:,.0f}/s"
        for (name, at_once), rounds in measured.items()
        if at_once == connections
    )


def _machine() -> dict[str, str]:
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main())
