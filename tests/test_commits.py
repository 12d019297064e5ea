"""Group commit: shared when there is something to share, and nobody pays for anybody else."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count

import asyncpg
import pytest
from aiohttp import web

from bench import versions
from service import postgres, queries
from service.commits import COMMITS, Commits, context
from service.history import Version
from service.idempotency import Attempt
from service.postgres import Connection
from service.settings import SETTINGS, Settings
from tests.conftest import somebody_waits_for_a_lock
from tests.consumers import eventually

Drafts = Sequence[tuple[Version, Attempt | None]]


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[postgres.Pool]:
    async with postgres.pool(settings.database_url, 10, settings) as opened:
        yield opened


@pytest.fixture
def commits(pool: postgres.Pool, settings: Settings) -> Commits:
    return Commits(pool, settings)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The campaigns of each statement."""
    real, seen = queries.create_drafts, []

    async def create_drafts(connection: Connection, drafts: Drafts, kept: timedelta) -> set[int]:
        seen.append([version.campaign.id for version, _ in drafts])
        return await real(connection, drafts, kept)

    monkeypatch.setattr(queries, "create_drafts", create_drafts)
    return seen


@pytest.fixture
def loans(pool: postgres.Pool, monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """The connections that were borrowed."""
    real, seen = pool.acquire, []

    @asynccontextmanager
    async def acquire() -> AsyncIterator[Connection]:
        async with real() as connection:
            seen.append(connection)
            yield connection

    monkeypatch.setattr(pool, "acquire", acquire)
    return seen


def version(number: int, **said: object) -> Version:
    made = versions.example()
    campaign = replace(made.campaign, **said)  # type: ignore[arg-type] # as the test says
    return numbered(made._replace(campaign=campaign), number)


def numbered(made: Version, number: int) -> Version:
    campaign = replace(made.campaign, id=number)
    return made._replace(campaign=campaign, event=replace(made.event, campaign_id=number))


def attempt(key: str) -> Attempt:
    return Attempt("POST /api/v1/campaigns", key, secrets.token_bytes(32))


async def stored(connection: Connection) -> list[int]:
    rows = await connection.fetch("SELECT campaign_id FROM outbox ORDER BY campaign_id")
    return [row["campaign_id"] for row in rows]


async def test_a_draft_that_comes_alone_is_stored_alone(
    commits: Commits, batches: list[list[int]]
) -> None:
    assert await commits.store(version(1), None)
    assert await commits.store(version(2), None)
    assert batches == [[1], [2]]


async def test_drafts_that_come_at_the_same_time_share_a_statement(
    commits: Commits, batches: list[list[int]], connection: Connection
) -> None:
    made = (commits.store(version(number), None) for number in range(1, 251))
    assert all(await asyncio.gather(*made))
    assert [len(batch) for batch in batches] == [100, 100, 50]
    assert await stored(connection) == [*range(1, 251)]


async def test_of_those_who_come_again_and_again_one_half_is_stored_while_the_other_is_answered(
    commits: Commits, batches: list[list[int]]
) -> None:
    numbers = count(1)

    async def come_again() -> None:
        for _ in range(5):
            await commits.store(version(next(numbers)), None)
            # To be answered takes longer than until the next statement begins.
            for _ in range(5):
                await asyncio.sleep(0)

    await asyncio.gather(*(come_again() for _ in range(20)))
    assert [len(batch) for batch in batches] == [10] * 10


TABLES = ["campaigns", "campaign_history", "outbox", "idempotency_records"]
TOLD_APART = {"id", "campaign_id", "key", "fingerprint", "created_at", "next_attempt_at"}


@pytest.mark.parametrize("with_keys", [True, False])
@pytest.mark.parametrize("table", TABLES)
async def test_a_draft_that_comes_alone_is_stored_as_those_that_come_together(
    commits: Commits,
    batches: list[list[int]],
    connection: Connection,
    table: str,
    *,
    with_keys: bool,
) -> None:
    made, keys = version(1), [attempt(f"{number}") if with_keys else None for number in range(3)]
    await commits.store(made, keys[0])
    together = [(numbered(made, number + 1), keys[number]) for number in (1, 2)]
    await asyncio.gather(*(commits.store(*one) for one in together))
    assert batches == [[1], [2, 3]]
    rows = [
        {name: value for name, value in row.items() if name not in TOLD_APART}
        for row in await connection.fetch(f"TABLE {table}")
    ]
    assert len(rows) == (3 if with_keys or table != "idempotency_records" else 0)
    assert all(row == rows[0] for row in rows)


async def test_a_draft_that_comes_soon_gets_the_connection_of_the_last_one(
    commits: Commits, loans: list[Connection]
) -> None:
    for number in range(1, 6):
        assert await commits.store(version(number), None)
    assert len(loans) == 1


async def test_a_connection_for_which_nobody_comes_is_given_back(
    commits: Commits, pool: postgres.Pool
) -> None:
    assert await commits.store(version(1), None)
    assert await commits.store(version(2), None)
    await eventually(lambda: _is_idle(pool), 5, "the connection")


async def test_at_the_end_no_connection_is_kept_for_others(
    pool: postgres.Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.commits._LINGER_SECONDS", 600)
    app = web.Application()
    app[postgres.POOL], app[SETTINGS] = pool, settings
    async with asynccontextmanager(context)(app):
        assert await app[COMMITS].store(version(1), None)
    await eventually(lambda: _is_idle(pool), 5, "the connection")


async def test_whoever_waits_for_a_connection_gets_it_however_many_drafts_come(
    settings: Settings,
) -> None:
    impatient = replace(settings, database_pool_size=2, database_timeout_seconds=2)
    async with postgres.pool(settings.database_url, 2, impatient) as pool, pool.acquire():
        commits = Commits(pool, impatient)
        assert await commits.store(version(1), None)

        async def create(numbers: Iterable[int]) -> None:
            for number in numbers:
                assert await commits.store(version(number), None)

        creating = [asyncio.create_task(create(count(start, 10))) for start in range(2, 10)]
        for _ in range(20):
            async with pool.acquire():
                assert not any(task.done() for task in creating)
        for task in creating:
            task.cancel()
        await asyncio.wait(creating)


async def test_a_connection_to_be_made_anew_is_not_kept(
    commits: Commits, pool: postgres.Pool, loans: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.commits._LINGER_SECONDS", 600)
    assert await commits.store(version(1), None)
    # As by a request that found its server to be a standby.
    await pool._expire("test")
    assert await commits.store(version(2), None)
    assert len(loans) == 2


async def test_too_many_for_one_statement_are_looked_after_though_a_lane_was_idle(
    commits: Commits,
    batches: list[list[int]],
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.commits._LINGER_SECONDS", 600)
    assert await commits.store(version(1), None)
    async with connection.transaction():
        await connection.execute("LOCK TABLE campaigns")
        many = [asyncio.create_task(commits.store(version(n), None)) for n in range(2, 152)]
        await eventually(lambda: _sizes(batches, [1, 100, 50]), 4, "another statement beside it")
    assert all(await asyncio.gather(*many))


async def test_a_connection_that_breaks_while_it_is_kept_fails_nobody(
    commits: Commits,
    connection: Connection,
    owner: Settings,
    loans: list[Connection],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.commits._LINGER_SECONDS", 600)
    assert await commits.store(version(1), None)
    await _end_session(owner, loans[0])
    assert await commits.store(version(2), None)
    assert await stored(connection) == [1, 2]


async def test_a_draft_that_cannot_be_stored_fails_no_other(
    commits: Commits, connection: Connection
) -> None:
    # Nobody gets such a name past the schema.
    made = [version(1), version(2, name=""), version(3)]
    results = await asyncio.gather(
        *(commits.store(one, None) for one in made), return_exceptions=True
    )
    assert [results[0], results[2]] == [True, True]
    assert isinstance(results[1], asyncpg.CheckViolationError)
    assert await stored(connection) == [1, 3]


async def test_of_drafts_with_one_key_one_is_stored(
    commits: Commits, connection: Connection
) -> None:
    made = (commits.store(version(number), attempt("same")) for number in range(1, 21))
    assert sorted(await asyncio.gather(*made)) == [False] * 19 + [True]
    assert len(await stored(connection)) == 1


async def test_a_key_whose_first_draft_failed_is_free_for_the_next(
    commits: Commits, connection: Connection
) -> None:
    results = await asyncio.gather(
        commits.store(version(1, name=""), attempt("same")),
        commits.store(version(2), attempt("same")),
        return_exceptions=True,
    )
    assert isinstance(results[0], asyncpg.CheckViolationError)
    assert results[1] is True
    assert await stored(connection) == [2]


async def test_a_caller_who_goes_away_leaves_its_key_to_others(
    commits: Commits, connection: Connection
) -> None:
    async with connection.transaction():
        await connection.execute("LOCK TABLE campaigns")
        gone = asyncio.create_task(commits.store(version(1), attempt("same")))
        await asyncio.sleep(0)
        second = asyncio.create_task(commits.store(version(2), attempt("same")))
        await asyncio.sleep(0)
        gone.cancel()
    # Whichever of them is stored, it is one.
    assert await second in (True, False)
    assert len(await stored(connection)) == 1


async def test_a_statement_that_waits_holds_up_nobody_who_comes_later(
    commits: Commits, connection: Connection, owner: Settings
) -> None:
    async with connection.transaction():
        # As another process that is about to store the same.
        await queries.create_drafts(connection, [(version(1), attempt("k"))], timedelta(days=1))
        slow = asyncio.create_task(commits.store(version(2), attempt("k")))
        await _somebody_waits(owner)
        async with asyncio.timeout(4):
            assert await commits.store(version(3), None)
        assert not slow.done()
    assert not await slow


async def test_whoever_waits_too_long_for_a_turn_is_told(
    pool: postgres.Pool, settings: Settings, connection: Connection, owner: Settings
) -> None:
    hasty = replace(settings, database_pool_size=2, database_timeout_seconds=0.3)
    commits = Commits(pool, hasty)
    async with connection.transaction():
        await connection.execute("LOCK TABLE campaigns")
        first = asyncio.create_task(commits.store(version(1), None))
        await _somebody_waits(owner)
        with pytest.raises(postgres.Unavailable, match="no turn in time"):
            await commits.store(version(2), None)
    assert await first
    assert await stored(connection) == [1]


async def test_who_waits_for_a_key_that_cannot_be_stored_waits_no_second_time(
    settings: Settings, connection: Connection
) -> None:
    hasty = replace(settings, database_timeout_seconds=0.5)
    async with postgres.pool(hasty.database_url, 10, hasty) as pool, connection.transaction():
        await connection.execute("LOCK TABLE campaigns")
        commits = Commits(pool, hasty)
        made = (commits.store(version(number), attempt("same")) for number in range(1, 21))
        async with asyncio.timeout(5):
            results = await asyncio.gather(*made, return_exceptions=True)
    assert {type(result) for result in results} == {postgres.Unavailable}


async def test_drafts_that_are_tried_one_by_one_have_no_deadline_each(
    pool: postgres.Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    async def create_drafts(_: Connection, drafts: Drafts, __: timedelta) -> set[int]:
        calls.append(len(drafts))
        if len(calls) == 1:
            raise asyncpg.CheckViolationError
        # As a database that hangs from now on.
        await asyncio.sleep(0.2)
        raise TimeoutError

    monkeypatch.setattr(queries, "create_drafts", create_drafts)
    # None is left to a statement of its own, which may or may not begin in time.
    monkeypatch.setattr("service.commits._MOST_LEFT", 0)
    commits = Commits(pool, replace(settings, database_timeout_seconds=0.2))
    made = (commits.store(version(number), None) for number in range(1, 11))
    results = await asyncio.gather(*made, return_exceptions=True)
    assert {type(result) for result in results} == {postgres.Unavailable}
    assert calls == [10, 1]


async def test_a_database_that_is_away_fails_all_that_wait(settings: Settings) -> None:
    away = replace(settings, database_url="postgresql://nobody@127.0.0.1:1/none")
    async with postgres.pool(away.database_url, 2, away) as pool:
        made = (Commits(pool, away).store(version(number), None) for number in (1, 2))
        results = await asyncio.gather(*made, return_exceptions=True)
    assert [type(result) for result in results] == [postgres.Unavailable] * 2


async def test_batches_with_the_same_keys_in_another_order_do_not_wait_for_each_other(
    pool: postgres.Pool, settings: Settings, connection: Connection
) -> None:
    one, other = Commits(pool, settings), Commits(pool, settings)
    numbers = iter(range(1, 10_000))
    for turn in range(20):
        keys = [f"{turn}-{number}" for number in range(40)]
        made = [one.store(version(next(numbers)), attempt(key)) for key in keys]
        made += [other.store(version(next(numbers)), attempt(key)) for key in reversed(keys)]
        assert sum(await asyncio.gather(*made)) == len(keys)
    await eventually(lambda: _count(connection, 20 * 40), 5, "all campaigns")


async def _sizes(batches: list[list[int]], sizes: list[int]) -> bool:
    return [len(batch) for batch in batches] == sizes


async def _is_idle(pool: postgres.Pool) -> bool:
    return pool._pool.get_idle_size() == pool._pool.get_size()


async def _end_session(owner: Settings, connection: Connection) -> None:
    session = connection.get_server_pid()
    async with postgres.connect(owner) as other:
        await other.execute("SELECT pg_terminate_backend($1, 5000)", session)
    # The process has to hear of it, too, as it does of one that ended a while ago.
    await eventually(lambda: _is_lost(connection), 5, "the end")


async def _is_lost(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


async def _count(connection: Connection, number: int) -> bool:
    return len(await stored(connection)) == number


async def _somebody_waits(owner: Settings) -> None:
    async with postgres.connect(owner) as connection:
        await eventually(lambda: somebody_waits_for_a_lock(connection), 10, "a lock")
