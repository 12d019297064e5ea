"""`campaigns keys ...`, as operators and their scripts call it."""

import json
from typing import Any

import pytest

from service import keys, queries
from service.postgres import Connection
from service.settings import Settings
from tests.test_commands import campaigns


def made(owner: Settings, *options: str) -> str:
    done = campaigns(
        "keys", "create", "--organization", "7", "--name", "billing", *options, settings=owner
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def listed(owner: Settings) -> list[dict[str, Any]]:
    done = campaigns("keys", "list", "--organization", "7", "--json", settings=owner)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_keys_are_listed_as_a_table_without_the_keys_themselves(owner: Settings) -> None:
    key = made(owner, "--scopes", "campaigns:read", "--expires-in-days", "2")
    table = campaigns("keys", "list", "--organization", "7", settings=owner).stdout
    heading, _, row = table.splitlines()
    assert heading.split() == ["id", "name", "key", "scopes", "created", "last", "used", "state"]
    assert f"billing  {key[:16]}...  campaigns:read  " in row
    assert "valid until 2" in row
    assert key not in table


def test_keys_are_listed_as_json_for_scripts(owner: Settings) -> None:
    key = made(owner)
    [stored] = listed(owner)
    assert list(stored) == [
        "organization_id", "id", "name", "prefix", "scopes", "created_at", "expires_at",
        "last_used_at", "revoked_at",
    ]  # fmt: skip
    assert (stored["prefix"], stored["scopes"]) == (key[:16], sorted(keys.SCOPES))
    assert stored["created_at"].endswith("Z")


def test_a_key_can_be_printed_as_json(owner: Settings) -> None:
    printed = json.loads(made(owner, "--json"))
    assert keys.is_key(printed.pop("key"))
    [stored] = listed(owner)
    assert printed == {name: stored[name] for name in printed}
    assert list(printed) == ["organization_id", "id", "scopes", "expires_at"]


def test_a_name_that_looks_like_a_number_is_shown_as_it_is(owner: Settings) -> None:
    made(owner, "--name", "007")
    assert "  007  " in campaigns("keys", "list", "--organization", "7", settings=owner).stdout


async def test_a_revoked_key_is_listed_as_such(owner: Settings, connection: Connection) -> None:
    key = made(owner)
    key_id = str(listed(owner)[0]["id"])
    done = campaigns("keys", "revoke", "--organization", "7", "--id", key_id, settings=owner)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("Revoked. A service that has seen the key remembers it")
    assert await queries.find_key(connection, keys.sha256(key)) is None
    table = campaigns("keys", "list", "--organization", "7", settings=owner).stdout
    assert "revoked 2" in table


async def test_a_rotated_key_is_printed_and_the_old_one_ends(
    owner: Settings, connection: Connection
) -> None:
    old = made(owner)
    key_id = str(listed(owner)[0]["id"])
    done = campaigns(
        "keys", "rotate", "--organization", "7", "--id", key_id, "--grace-hours", "0.5",
        settings=owner,
    )  # fmt: skip
    new = done.stdout.strip()
    assert done.stderr.startswith("The old key ends in 0.5 hours. ")
    for key in (old, new):
        assert await queries.find_key(connection, keys.sha256(key)) is not None
    assert [stored["expires_at"] is None for stored in listed(owner)] == [False, True]


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_a_key_that_is_not_there_is_told(owner: Settings, command: str) -> None:
    done = campaigns("keys", command, "--organization", "7", "--id", "1", settings=owner)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "campaigns: the organization has no such key that is valid: see 'keys list'\n"
    )


@pytest.mark.parametrize("text", ["secret\n", "campaigns_\u00e9\n"])
def test_what_is_no_key_is_not_stored(owner: Settings, text: str) -> None:
    done = campaigns(
        "keys", "create", "--organization", "7", "--name", "a", "--from-stdin",
        settings=owner, text=text,
    )  # fmt: skip
    assert (done.returncode, listed(owner)) == (2, [])
    assert done.stderr == (
        "campaigns: what is on standard input is no key: 'keys create' makes one\n"
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--scopes", "campaigns:admin"),
        ("--name", "two\nlines"),
        ("--expires-in-days", "0"),
        ("--expires-in-days", "soon"),
        ("--expires-in-days", "-1"),
        ("--expires-in-days", "nan"),
        ("--expires-in-days", "1e99"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(option: str, value: str) -> None:
    done = campaigns("keys", "create", "--organization", "7", "--name", "a", option, value)
    assert done.returncode == 2
    assert option in done.stderr
