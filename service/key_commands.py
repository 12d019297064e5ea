"""`campaigns keys ...`: what operators do with API keys."""

import argparse
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import orjson
from tabulate import tabulate

from service import keys, postgres, queries
from service.failure import Failure
from service.settings import Settings

_Result = TypeVar("_Result")

_REMEMBERED = (
    "A service that has seen the key remembers it for its key_cache_seconds, 5 by default."
)


def create(options: argparse.Namespace, settings: Settings) -> None:
    """Print a new key, once; or store one that was made elsewhere."""
    key = _given_key() if options.from_stdin else keys.generate()
    grant = keys.Grant(
        options.organization, options.name, frozenset(options.scopes), _expiry(options)
    )
    try:
        caller = postgres.run(settings, lambda connection: keys.add(connection, grant, key))
    except keys.KeyTaken as error:
        raise Failure(
            "this key is stored already, for another organization, with other scopes or another end"
        ) from error
    _print_key(key, caller, options)


def _given_key() -> str:
    key = sys.stdin.buffer.readline().strip().decode(errors="replace")
    if not key:
        raise Failure("there is no key on standard input")
    if not keys.is_key(key):
        raise Failure("what is on standard input is no key: 'keys create' makes one")
    return key


def list_(options: argparse.Namespace, settings: Settings) -> None:
    """Print the keys of an organization, also those that have ended."""
    found = postgres.run(
        settings, lambda connection: queries.list_keys(connection, options.organization)
    )
    if options.json:
        print(orjson.dumps(found, option=orjson.OPT_UTC_Z).decode())
        return
    rows = [
        (
            key.id,
            key.name,
            f"{key.prefix}..." if key.prefix else "",
            " ".join(key.scopes),
            _day(key.created_at),
            _day(key.last_used_at),
            _state(key),
        )
        for key in found
    ]
    heading = ["id", "name", "key", "scopes", "created", "last used", "state"]
    print(tabulate(rows, heading, disable_numparse=True))


def revoke(options: argparse.Namespace, settings: Settings) -> None:
    """End a key now."""
    _of_a_key(options, settings, keys.revoke)
    if options.json:
        print(orjson.dumps({"id": options.id, "revoked": True}).decode())
    print(f"Revoked. {_REMEMBERED}", file=sys.stderr)


def rotate(options: argparse.Namespace, settings: Settings) -> None:
    """Print a key that replaces another, which ends a while later."""
    grace = timedelta(hours=options.grace_hours)

    async def replace(
        connection: postgres.Connection, organization_id: int, key_id: int
    ) -> tuple[str, keys.Caller]:
        return await keys.rotate(connection, organization_id, key_id, grace, _expiry(options))

    _print_key(*_of_a_key(options, settings, replace), options)
    print(f"The old key ends in {options.grace_hours:g} hours. {_REMEMBERED}", file=sys.stderr)


def _of_a_key(
    options: argparse.Namespace,
    settings: Settings,
    act: Callable[[postgres.Connection, int, int], Awaitable[_Result]],
) -> _Result:
    try:
        return postgres.run(
            settings, lambda connection: act(connection, options.organization, options.id)
        )
    except keys.NoSuchKey as error:
        raise Failure("the organization has no such key that is valid: see 'keys list'") from error


def _print_key(key: str, caller: keys.Caller, options: argparse.Namespace) -> None:
    if not options.json:
        print(key)
        return
    shown = {
        "key": key,
        "organization_id": caller.organization_id,
        "id": caller.key_id,
        "scopes": sorted(caller.scopes),
        "expires_at": caller.expires_at,
    }
    print(orjson.dumps(shown, option=orjson.OPT_UTC_Z).decode())


def _expiry(options: argparse.Namespace) -> datetime | None:
    days = options.expires_in_days
    return None if days is None else datetime.now(UTC) + timedelta(days=days)


def _day(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _state(key: keys.Key) -> str:
    if key.revoked_at is not None:
        return f"revoked {_day(key.revoked_at)}"
    if key.expires_at is None:
        return "valid"
    expired = key.expires_at <= datetime.now(UTC)
    return f"{'expired' if expired else 'valid until'} {_day(key.expires_at)}"
