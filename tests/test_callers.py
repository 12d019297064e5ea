"""Look-ups of keys: how rarely they are made, and how soon they are made again."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from service import callers, keys, postgres, queries, turns
from service.app import create_app
from service.callers import Callers
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Client, create_key
from tests.consumers import eventually


@pytest.fixture
def pool(client: Client) -> postgres.Pool:
    assert client.app is not None
    return client.app[postgres.POOL]


async def test_a_key_is_looked_up_once(
    pool: postgres.Pool, settings: Settings, connection: Connection, api_key: str
) -> None:
    found = Callers(pool, settings)
    first = await found.find(api_key)
    await connection.execute("DELETE FROM api_keys")
    assert first is not None
    assert await found.find(api_key) == first


async def test_a_key_that_many_send_at_once_is_looked_up_once(
    pool: postgres.Pool, settings: Settings, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    find_key = queries.find_key

    async def counted(connection: Connection, hashed: bytes) -> keys.Caller | None:
        nonlocal asked
        asked += 1
        return await find_key(connection, hashed)

    monkeypatch.setattr(queries, "find_key", counted)
    found = Callers(pool, settings)
    answers = await asyncio.gather(*(found.find(api_key) for _ in range(50)))
    assert asked == 1
    assert None not in answers


async def test_an_answer_that_was_long_on_its_way_is_not_remembered_for_longer(
    pool: postgres.Pool, settings: Settings, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_key = queries.find_key

    looked_up = 0

    async def slowly(connection: Connection, hashed: bytes) -> keys.Caller | None:
        nonlocal looked_up
        looked_up += 1
        caller = await find_key(connection, hashed)
        await asyncio.sleep(0.2)
        return caller

    monkeypatch.setattr(queries, "find_key", slowly)
    found = Callers(pool, replace(settings, key_cache_seconds=0.1))
    assert await found.find(api_key) is not None
    assert await found.find(api_key) is not None
    assert looked_up == 2


async def test_who_goes_away_takes_no_look_up_from_the_others(
    pool: postgres.Pool, settings: Settings, api_key: str
) -> None:
    found = Callers(pool, settings)
    first, second = (asyncio.create_task(found.find(api_key)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is not None


async def test_an_unknown_key_is_looked_up_once_as_well(
    pool: postgres.Pool, settings: Settings, connection: Connection
) -> None:
    found, key = Callers(pool, settings), keys.generate()
    assert await found.find(key) is None
    await keys.add(connection, keys.Grant(7, "late"), key)
    assert await found.find(key) is None


async def test_a_revoked_key_stops_working_within_the_documented_time(
    pool: postgres.Pool, settings: Settings, connection: Connection, api_key: str
) -> None:
    found = Callers(pool, replace(settings, key_cache_seconds=0.3))
    assert await found.find(api_key) is not None
    await connection.execute("UPDATE api_keys SET revoked_at = now()")
    revoked_at = asyncio.get_running_loop().time()
    while await found.find(api_key) is not None:
        assert asyncio.get_running_loop().time() < revoked_at + 3  # of the 5 that are the default
        await asyncio.sleep(0.01)


async def test_a_key_that_expires_while_it_is_remembered_is_refused_at_once(
    pool: postgres.Pool, settings: Settings, connection: Connection
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    key = await create_key(connection, keys.Grant(7, "a", expires_at=soon))
    found = Callers(pool, settings)
    assert await found.find(key) is not None

    async def is_refused() -> bool:
        return await found.find(key) is None

    await eventually(is_refused, 3, "the end of the key")


async def test_strangers_fill_no_memory(
    pool: postgres.Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "_REMEMBERED", 10)
    found = Callers(pool, settings)
    for _ in range(30):
        await found.find(keys.generate())
    assert len(found._answers) == 10


async def test_the_last_use_of_a_key_is_written_for_many_requests_at_once(
    pool: postgres.Pool, settings: Settings, connection: Connection, organization: int, api_key: str
) -> None:
    found = Callers(pool, settings)
    for _ in range(3):
        await found.find(api_key)
    [stored] = await queries.list_keys(connection, organization)
    assert stored.last_used_at is None
    await found.write_usage()
    [stored] = await queries.list_keys(connection, organization)
    assert stored.last_used_at is not None
    assert datetime.now(UTC) - stored.last_used_at < timedelta(minutes=1)


async def test_an_older_use_does_not_overwrite_a_newer_one(
    pool: postgres.Pool, settings: Settings, connection: Connection, organization: int, api_key: str
) -> None:
    found = Callers(pool, settings)
    await found.find(api_key)
    later = datetime.now(UTC) + timedelta(hours=1)
    await connection.execute("UPDATE api_keys SET last_used_at = $1", later)
    await found.write_usage()
    [stored] = await queries.list_keys(connection, organization)
    assert stored.last_used_at == later


async def test_a_use_that_could_not_be_written_is_written_later(
    settings: Settings, pool: postgres.Pool, connection: Connection, organization: int, api_key: str
) -> None:
    found = Callers(pool, settings)
    await found.find(api_key)
    async with postgres.pool("postgresql://nobody@127.0.0.1:1/d", 1, settings) as unreachable:
        found._pool = unreachable
        with pytest.raises(postgres.Unavailable):
            await found.write_usage()
    found._pool = pool
    await found.write_usage()
    [stored] = await queries.list_keys(connection, organization)
    assert stored.last_used_at is not None


async def was_used(connection: Connection, organization: int) -> bool:
    return (await queries.list_keys(connection, organization))[0].last_used_at is not None


@pytest.fixture
async def used_client(
    settings: Settings, aiohttp_client: Any, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> Client:
    """A client of a service that writes usage down all the time."""
    monkeypatch.setattr(callers, "_USAGE_SECONDS", 0.05)
    client: Client = await aiohttp_client(
        create_app(settings), headers={"Authorization": f"Bearer {api_key}"}
    )
    return client


async def test_usage_is_written_once_in_a_while(
    used_client: Client, connection: Connection, organization: int
) -> None:
    await used_client.get("/api/x")
    await eventually(lambda: was_used(connection, organization), 10, "the last use")


async def test_usage_is_written_when_the_service_stops(
    settings: Settings, aiohttp_client: Any, connection: Connection, organization: int, api_key: str
) -> None:
    client = await aiohttp_client(create_app(settings))
    await client.get("/api/x", headers={"Authorization": f"Bearer {api_key}"})
    await client.close()
    [stored] = await queries.list_keys(connection, organization)
    assert stored.last_used_at is not None


async def test_writing_usage_outlives_a_failure_and_tells_of_it(
    used_client: Client, connection: Connection, organization: int
) -> None:
    await connection.execute("ALTER TABLE api_keys RENAME COLUMN last_used_at TO away")
    with structlog.testing.capture_logs() as logged:
        await used_client.get("/api/x")

        def is_told() -> bool:
            return any(entry["event"] == "writing key usage failed" for entry in logged)

        await eventually(is_told, 10, "the failure")
    await connection.execute("ALTER TABLE api_keys RENAME COLUMN away TO last_used_at")
    await eventually(lambda: was_used(connection, organization), 10, "the last use")


async def test_strangers_hold_up_no_key_that_was_good(
    pool: postgres.Pool, settings: Settings, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, find_key = [], queries.find_key

    async def find_no_stranger(connection: Connection, hashed: bytes) -> keys.Caller | None:
        if hashed != keys.sha256(api_key):
            asked.append(hashed)
            await asyncio.sleep(60)
        return await find_key(connection, hashed)

    monkeypatch.setattr(queries, "find_key", find_no_stranger)
    found = Callers(pool, replace(settings, database_timeout_seconds=1))
    assert await found.find(api_key)
    strangers = [asyncio.create_task(found.find(keys.generate())) for _ in range(20)]
    await eventually(lambda: len(asked) == callers._STRANGERS, 10, "strangers are looked up")
    async with asyncio.timeout(10):
        found._answers.clear()
        assert await found.find(api_key)
    assert len(asked) == callers._STRANGERS
    async with asyncio.timeout(10):
        for stranger in strangers[callers._STRANGERS :]:
            with pytest.raises(turns.Overloaded):
                await stranger
    for stranger in strangers:
        stranger.cancel()
    for flight in found._flights._under_way.values():
        flight.cancel()
