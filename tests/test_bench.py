"""What the benchmark makes of what it measures, and whether it stores what the service stores."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from bench import counting, curve, figures, memory, pgbench, plot, processes, profile, versions
from bench.figures import Row
from bench.load import Load
from bench.served import Measured
from service import postgres, queries
from service.settings import Settings


def measured(per_second: float, events_left: int = 0) -> Measured:
    load = Load(per_second=per_second, p50_ms=1000 / per_second, p99_ms=3000 / per_second, count=9)
    return Measured(load=load, cpu_ms={"own": 0.1}, events_left=events_left)


def rows(**rates: float) -> list[Row]:
    return [figures.row(name, 32, [measured(rate)]) for name, rate in rates.items()]


def verdicts(**rounds: list[Measured]) -> dict[str, bool | None]:
    found = figures.targets({(name, 32): seen for name, seen in rounds.items()})
    return {target.what: target.is_met for target in found}


AGAINST_A = "creates/s at 32 connections, against A"
P99_AGAINST_A = "p99 at 32 connections, against A"


def test_a_row_is_the_median_of_its_rounds_between_the_slowest_and_the_fastest() -> None:
    row = figures.row("ours", 32, [measured(100), measured(300), measured(10, events_left=2)])

    assert (row.slowest, row.per_second, row.fastest) == (10, 100, 300)
    assert row.p50_ms == 10
    assert row.events_left == 2


@pytest.mark.parametrize(("rate", "is_met"), [(600, True), (599.99, False), (599, False)])
def test_a_target_for_a_rate_is_met_from_its_limit_on(rate: float, is_met: bool) -> None:
    assert verdicts(ours=[measured(rate)], peer_a=[measured(100)])[AGAINST_A] is is_met


@pytest.mark.parametrize(("rate", "is_met"), [(400, True), (399, False)])
def test_a_target_for_a_time_is_met_up_to_its_limit(rate: float, is_met: bool) -> None:
    assert verdicts(ours=[measured(rate)], peer_a=[measured(100)])[P99_AGAINST_A] is is_met


def test_a_rate_that_leaves_events_behind_meets_no_target() -> None:
    ours = [measured(10_000, events_left=1)]

    assert verdicts(ours=ours, peer_a=[measured(100)])[AGAINST_A] is False


def test_two_are_compared_by_the_median_of_their_ratios_in_the_same_round() -> None:
    ours = [measured(rate) for rate in (600, 1_200, 700)]
    peer = [measured(rate) for rate in (100, 200, 200)]

    (against_a, *_) = figures.targets({("ours", 32): ours, ("peer_a", 32): peer})

    assert (against_a.lower, against_a.ratio, against_a.upper) == (4.75, 6, 6)


def test_a_target_is_open_while_one_of_the_two_is_not_measured() -> None:
    assert set(verdicts(ours=[measured(100)]).values()) == {None}


def test_two_processes_are_compared_with_one_by_their_medians() -> None:
    rates = {(32, 1): [90.0, 100.0, 500.0], (32, 2): [10.0, 170.0, 180.0]}

    assert processes.ratio(rates, 32) == 1.7


def test_a_table_says_what_was_amiss() -> None:
    (row,) = rows(ours=1_234)

    table = figures.table([replace(row, refused=3, events_left=4_000)])

    assert "1,234" in table
    assert "3 refused, 4,000 events left" in table


def test_a_plot_has_a_bar_as_long_as_its_rate_for_each_row() -> None:
    image = ET.fromstring(plot.svg(rows(ours=200, peer_a=100)))  # noqa: S314 (it is our own)

    bars = [
        float(shape.get("width", ""))
        for shape in image.iter("{http://www.w3.org/2000/svg}rect")
        if shape.get("height") == "14"
    ]
    assert bars[0] == 2 * bars[1]


def test_a_curve_has_a_dot_for_each_sample_higher_up_for_more() -> None:
    image = ET.fromstring(curve.svg("", [(0, 50), (10, 100)], 150, "at most"))  # noqa: S314 (as above)

    first, second = image.iter("{http://www.w3.org/2000/svg}circle")
    assert float(first.get("cx", "")) < float(second.get("cx", ""))
    assert float(first.get("cy", "")) > float(second.get("cy", ""))


def test_memory_is_flat_if_the_last_sample_is_that_in_the_middle() -> None:
    assert memory.growth([(0, 40.0), (10, 50.0), (20, 60.0), (30, 60.0)]) == 1
    assert memory.growth([(0, 40.0), (10, 50.0), (20, 75.0)]) == 1.5


def test_a_look_counts_for_the_part_of_the_innermost_function_that_has_one() -> None:
    caller = "main (service/__main__.py:19);run (asyncio/runners.py:118)"

    seen = profile.parts(
        f"{caller};middleware (service/auth.py:30);load (marshmallow/schema.py:734);f (re.py:1) 3\n"
        f"{caller};middleware (service/auth.py:30) 2\n"
        f"{caller} 1\n"
    )

    assert seen == {"validation": 3, "key, limits, errors": 2, "uvloop and the rest": 1}


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_messages_are_counted_in_whatever_pieces_they_come(size: int) -> None:
    frame = b"\x01\0\1" + (5).to_bytes(4) + b"abcde\xce"
    stream, messages = b"AMQP\0\0\x09\1" + frame * 3, counting.Messages()

    see = messages.watch(counting.AMQP)
    for start in range(0, len(stream), size):
        see(stream[start : start + size])

    assert messages.by_type == {1: 3}


async def test_pgbench_stores_what_the_service_stores(
    connection: postgres.Connection, database_url: str
) -> None:
    version = versions.example()
    # An id that the sequence does not come to.
    version = version._replace(campaign=replace(version.campaign, id=10**9))
    kept = Settings().idempotency_kept
    assert await queries.create_drafts(connection, [(version, None)], kept) == {10**9}

    pgbench.run(pgbench.find(), database_url, clients=1, seconds=1)

    for table, own in {
        "campaigns": ["id", "created_at", "updated_at"],
        "campaign_history": ["campaign_id", "changed_at", "event_id", "event_body"],
        "outbox": ["campaign_id", "created_at", "event_id", "body", "next_attempt_at"],
    }.items():
        different = f"SELECT count(*), count(DISTINCT to_jsonb(t) - $1::text[]) FROM {table} t"  # noqa: S608
        count, kinds = await connection.fetchrow(different, own) or (0, 0)
        assert count > 1
        assert kinds == 1
