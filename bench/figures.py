"""What several rounds come to: medians, and how they compare with the targets."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from tabulate import tabulate

from bench.contenders import TITLES
from bench.served import Measured

_PARTS = ("own", "PostgreSQL", "RabbitMQ")
_CPU = [f"CPU ms, {part}" for part in _PARTS]

# The rounds of a contender at so many connections.
Measurements = Mapping[tuple[str, int], Sequence[Measured]]


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
    """Ours against another's figure of the same round; None: one of them was not measured.

    The median of all rounds, and what a quarter of them is below, or above.
    """

    what: str
    limit: str
    ratio: float | None
    lower: float | None
    upper: float | None
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


def targets(measured: Measurements) -> list[Target]:
    """Each target with what was measured."""

    def target(
        what: str, figure: str, ours: str, other: str, connections: int, limit: float
    ) -> Target:
        # Of rates, ours is to be higher; of times, lower.
        is_rate = figure == "per_second"
        one, two = measured.get((ours, connections)), measured.get((other, connections))
        lower, ratio, upper = _ratios(one, two, figure) if one and two else (None, None, None)
        return Target(
            what=what.format(connections),
            limit=f"{'>=' if is_rate else '<='} {limit:g}",
            ratio=_rounded(ratio),
            lower=_rounded(lower),
            upper=_rounded(upper),
            is_met=None
            if one is None or ratio is None
            else row(ours, connections, one).counts
            and (ratio >= limit if is_rate else ratio <= limit),
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


def _ratios(
    ours: Sequence[Measured], others: Sequence[Measured], figure: str
) -> tuple[float, float, float]:
    """The quartiles: in a round, the machine is as slow or fast for one as for the other."""
    ratios = [
        getattr(one.load, figure) / getattr(other.load, figure)
        for one, other in zip(ours, others, strict=True)
    ]
    # It wants two of them at least.
    lower, middle, upper = quantiles(ratios * 2 if len(ratios) == 1 else ratios, method="inclusive")
    return lower, middle, upper


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 3)


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
        [
            one.what,
            one.limit,
            *(
                "" if ratio is None else f"{ratio:.2f}"
                for ratio in (one.ratio, one.lower, one.upper)
            ),
            words[one.is_met],
        ]
        for one in found
    ]
    columns = ["ratio", "target", "measured", "quarter below", "quarter above", "met"]
    return tabulate(lines, columns, tablefmt="github", disable_numparse=True)
