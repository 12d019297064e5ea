"""What a key is, and how long it stays one."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from service import keys, queries
from service.postgres import Connection
from tests.conftest import create_key


def test_a_key_can_be_found_by_a_pattern_and_no_two_are_the_same() -> None:
    made = {keys.generate() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch("campaigns_[0-9A-Za-z]{49}", key) for key in made)
    # 43 of 62 characters are more than 256 bits, and each of them does occur.
    assert len({character for key in made for character in key[10:53]}) == 62


def test_the_checksum_of_a_key_finds_every_mistyped_letter() -> None:
    key = keys.generate()
    assert keys.is_key(key)
    for place in range(len("campaigns_"), len(key)):
        wrong = "x" if key[place] != "x" else "y"
        assert not keys.is_key(key[:place] + wrong + key[place + 1 :])


def test_two_letters_that_changed_places_are_found() -> None:
    key = keys.generate()
    place = next(n for n in range(10, 58) if key[n] != key[n + 1])
    assert not keys.is_key(key[:place] + key[place + 1] + key[place] + key[place + 2 :])


async def test_a_key_is_stored_with_what_it_is_for_and_without_itself(
    connection: Connection,
) -> None:
    expires_at = datetime.now(UTC) + timedelta(days=1)
    grant = keys.Grant(7, "billing", frozenset({"campaigns:read"}), expires_at)
    key = await create_key(connection, grant)
    [stored] = await queries.list_keys(connection, 7)
    assert (stored.name, stored.scopes, stored.expires_at) == (
        "billing",
        ["campaigns:read"],
        expires_at,
    )
    assert stored.prefix == key[:16]
    assert key not in repr(stored)


async def test_keys_of_another_organization_are_not_listed(connection: Connection) -> None:
    await create_key(connection, keys.Grant(7, "a"))
    assert await queries.list_keys(connection, 8) == []


async def test_a_revoked_key_is_nobodys(connection: Connection) -> None:
    key = await create_key(connection, keys.Grant(7, "a"))
    [stored] = await queries.list_keys(connection, 7)
    await keys.revoke(connection, 7, stored.id)
    assert await queries.find_key(connection, keys.sha256(key)) is None


@pytest.mark.parametrize("organization_id", [7, 8])
async def test_a_key_that_is_not_there_cannot_be_revoked_or_rotated(
    connection: Connection, organization_id: int
) -> None:
    await create_key(connection, keys.Grant(7, "a"))
    [stored] = await queries.list_keys(connection, 7)
    if organization_id == 7:
        await keys.revoke(connection, 7, stored.id)
    with pytest.raises(keys.NoSuchKey):
        await keys.revoke(connection, organization_id, stored.id)
    with pytest.raises(keys.NoSuchKey):
        await keys.rotate(connection, organization_id, stored.id, timedelta(hours=1), None)


async def test_a_rotated_key_and_its_successor_are_both_valid_for_a_while(
    connection: Connection,
) -> None:
    scopes = frozenset({"campaigns:read"})
    old = await create_key(connection, keys.Grant(7, "billing", scopes))
    [stored] = await queries.list_keys(connection, 7)
    new, _ = await keys.rotate(connection, 7, stored.id, timedelta(hours=1), None)
    callers = [await queries.find_key(connection, keys.sha256(key)) for key in (old, new)]
    assert [caller and caller.organization_id for caller in callers] == [7, 7]
    assert [caller and caller.scopes for caller in callers] == [scopes, scopes]
    before, after = await queries.list_keys(connection, 7)
    assert before.expires_at is not None
    assert timedelta(minutes=59) < before.expires_at - datetime.now(UTC) <= timedelta(hours=1)
    assert (after.name, after.expires_at) == ("billing", None)


async def test_a_rotation_does_not_lengthen_the_life_of_the_old_key(
    connection: Connection,
) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=5)
    await create_key(connection, keys.Grant(7, "a", expires_at=soon))
    [stored] = await queries.list_keys(connection, 7)
    await keys.rotate(connection, 7, stored.id, timedelta(hours=1), None)
    assert (await queries.list_keys(connection, 7))[0].expires_at == soon


async def test_a_key_that_ends_at_once_leaves_its_successor_only(connection: Connection) -> None:
    old = await create_key(connection, keys.Grant(7, "a"))
    [stored] = await queries.list_keys(connection, 7)
    await keys.rotate(connection, 7, stored.id, timedelta(0), None)
    assert await queries.find_key(connection, keys.sha256(old)) is None


async def test_a_key_that_ends_is_rotated_to_one_that_lives_as_long(
    connection: Connection,
) -> None:
    month = datetime.now(UTC) + timedelta(days=30)
    await create_key(connection, keys.Grant(7, "a", expires_at=month))
    [stored] = await queries.list_keys(connection, 7)
    _, successor = await keys.rotate(connection, 7, stored.id, timedelta(hours=1), None)
    assert successor.expires_at is not None
    assert abs(successor.expires_at - month) < timedelta(minutes=1)


async def test_an_expired_key_cannot_be_revoked(connection: Connection) -> None:
    await create_key(connection, keys.Grant(7, "a"))
    [stored] = await queries.list_keys(connection, 7)
    await connection.execute("UPDATE api_keys SET expires_at = now()")
    with pytest.raises(keys.NoSuchKey):
        await keys.revoke(connection, 7, stored.id)


@pytest.mark.parametrize(
    "grant",
    [
        keys.Grant(8, "a"),
        keys.Grant(7, "a", frozenset({"campaigns:read"})),
        keys.Grant(7, "a", expires_at=datetime(2100, 1, 1, tzinfo=UTC)),
    ],
    ids=["another organization", "other scopes", "another end"],
)
async def test_a_key_is_not_stored_a_second_time_for_something_else(
    connection: Connection, grant: keys.Grant
) -> None:
    key = await create_key(connection, keys.Grant(7, "a"))
    with pytest.raises(keys.KeyTaken):
        await keys.add(connection, grant, key)
    assert len(await queries.list_keys(connection, 7)) == 1
