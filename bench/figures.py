"""What several rounds come to: medians, and how they compare with the targets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from tabulate import tabulate

from bench.contenders import TITLES
from bench.served import Measured

_PARTS = ("own", "PostgreSQL", "RabbitMQ")
_CPU = [f"CPU ms, {part}" for part in _PARTS]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A contender at so many connections; medians of all rounds, and the worst of what is bad."""

    contender: str
    connections: int
    per_second: float
    slowest: float
    fastest: float
    p50_ms: float
    p99_ms: float
    cpu_ms: dict[str, float]
    errors: int
    refused: int
    events_left: int

    @property
    def counts(self) -> bool:
        """Whether all that was asked for was done."""
        return not (self.errors or self.refused or self.events_left)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Ours against another's figure; None: one of them was not measured."""

    what: str
    limit: str
    ratio: float | None
    is_met: bool | None


def row(contender: str, connections: int, rounds: Sequence[Measured]) -> Row:
    """Sum up at least one round."""
    rates = [one.load.per_second for one in rounds]
    parts = rounds[0].cpu_ms
    return Row(
        contender=contender,
        connections=connections,
        per_second=round(median(rates), 1),
        slowest=round(min(rates), 1),
        fastest=round(max(rates), 1),
        p50_ms=round(median(one.load.p50_ms for one in rounds), 3),
        p99_ms=round(median(one.load.p99_ms for one in rounds), 3),
        cpu_ms={part: round(median(one.cpu_ms[part] for one in rounds), 3) for part in parts},
        errors=max(one.load.errors for one in rounds),
        refused=max(one.load.refused for one in rounds),
        events_left=max(one.events_left for one in rounds),
    )


def targets(rows: Iterable[Row]) -> list[Target]:
    """Each target with what was measured."""
    found = {(row.contender, row.connections): row for row in rows}

    def target(
        what: str, figure: str, ours: str, other: str, connections: int, limit: float
    ) -> Target:
        # Of rates, ours is to be higher; of times, lower.
        is_rate = figure == "per_second"
        one, two = found.get((ours, connections)), found.get((other, connections))
        ratio = getattr(one, figure) / getattr(two, figure) if one and two else None
        return Target(
            what=what.format(connections),
            limit=f"{'>=' if is_rate else '<='} {limit:g}",
            ratio=None if ratio is None else round(ratio, 3),
            is_met=None
            if one is None or ratio is None
            else one.counts and (ratio >= limit if is_rate else ratio <= limit),
        )

    rates = [
        ("creates/s at {} connections, against A", "ours", "peer_a", 6.0),
        ("creates/s at {} connections, against B", "ours", "peer_b", 2.5),
        ("creates/s of two processes at {} connections, against C", "ours_twice", "peer_c", 1.0),
        ("creates/s at {} connections, against floor D", "ours", "floor_d", 0.8),
        ("creates/s of two processes at {} connections, against one", "ours_twice", "ours", 1.7),
    ]
    return [
        *(
            target(what, "per_second", ours, other, connections, limit)
            for what, ours, other, limit in rates
            for connections in (32, 128)
        ),
        target("p99 at {} connections, against A", "p99_ms", "ours", "peer_a", 32, 0.25),
        target("p50 at {} connection, against A", "p50_ms", "ours", "peer_a", 1, 0.333),
    ]


def table(rows: Iterable[Row]) -> str:
    """The figures for people, in Markdown."""
    columns = ["", "at once", "creates/s", "from", "to", "p50 ms", "p99 ms", *_CPU, "amiss"]
    lines = [
        [
            TITLES[row.contender],
            row.connections,
            f"{row.per_second:,.0f}",
            f"{row.slowest:,.0f}",
            f"{row.fastest:,.0f}",
            f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}",
            *(f"{row.cpu_ms[part]:.2f}" if part in row.cpu_ms else "" for part in _PARTS),
            _amiss(row),
        ]
        for row in rows
    ]
    align = ["left", *["right"] * 9, "left"]
    return tabulate(lines, columns, tablefmt="github", colalign=align, disable_numparse=True)


def _amiss(row: Row) -> str:
    parts = (
        (row.errors, "errors"),
        (row.refused, "refused"),
        (row.events_left, "events left"),
    )
    return ", ".join(f"{number:,} {what}" for number, what in parts if number)


def targets_table(found: Iterable[Target]) -> str:
    """The targets for people, in Markdown."""
    words = {True: "yes", False: "no", None: "not measured"}
    lines = [
        [one.what, one.limit, "" if one.ratio is None else f"{one.ratio:.2f}", words[one.is_met]]
        for one in found
    ]
    columns = ["ratio", "target", "measured", "met"]
    return tabulate(lines, columns, tablefmt="github", disable_numparse=True)
