"""API keys: random, shown once, stored as their SHA-256, each belonging to one organization.

A key is `campaigns_`, 43 random letters and digits (256 bits), and 6 more that are their checksum:
a typo is told from an unknown key without a look-up, and whoever searches for keys that leaked
finds them by `campaigns_[0-9A-Za-z]{49}`.
"""

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from service import queries
from service.postgres import Connection

SCOPES = ("campaigns:read", "campaigns:write", "templates:preview")

_PREFIX = "campaigns_"
_DIGITS = string.digits + string.ascii_letters
_KEY = re.compile(rf"{_PREFIX}([0-9A-Za-z]{{43}})([0-9A-Za-z]{{6}})")

# Characters of a key that are kept, for people to tell keys apart by.
_SHOWN = len(_PREFIX) + 6


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key is for, and until when; None is for ever."""

    organization_id: int
    name: str
    scopes: frozenset[str] = frozenset(SCOPES)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: a key, the organization that it belongs to, and what it may do."""

    organization_id: int
    key_id: int
    scopes: frozenset[str]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """All that is known of a key once it was shown."""

    organization_id: int
    id: int
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class MalformedKey(Exception):
    """The text is no key: too short, too long, or mistyped."""


class KeyTaken(Exception):
    """The key is stored already, for another organization, with other scopes or another end."""


class NoSuchKey(Exception):
    """The organization has no such key, or it has ended already."""


def generate() -> str:
    """Make a key; nobody else knows it, and nobody can tell it again."""
    random = "".join(secrets.choice(_DIGITS) for _ in range(43))
    return _PREFIX + random + _checksum(random)


def sha256(key: str) -> bytes:
    """What is stored of a key and looked up instead of it, so that no comparison leaks its time."""
    # Of a header, bytes that are no UTF-8 come as surrogates.
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


def is_key(text: str) -> bool:
    """Whether the text has the form and the checksum of a key."""
    match = _KEY.fullmatch(text)
    return match is not None and _checksum(match[1]) == match[2]


async def add(connection: Connection, grant: Grant, key: str) -> Caller:
    """Store a key, of which this keeps the hash only; once more changes nothing.

    Raises:
        MalformedKey: it was not made by `generate`.
        KeyTaken: it is there already, and for something else.
    """
    if not is_key(key):
        raise MalformedKey
    hashed = sha256(key)
    await queries.add_key(connection, grant, key[:_SHOWN], hashed)
    caller = await queries.find_key(connection, hashed)
    if caller is None or (caller.organization_id, caller.scopes, caller.expires_at) != (
        grant.organization_id,
        grant.scopes,
        grant.expires_at,
    ):
        raise KeyTaken
    return caller


async def revoke(connection: Connection, organization_id: int, key_id: int) -> None:
    """End a key.

    Raises:
        NoSuchKey: there is none, or it was revoked before.
    """
    if not await queries.revoke_key(connection, organization_id, key_id):
        raise NoSuchKey


async def rotate(
    connection: Connection,
    organization_id: int,
    key_id: int,
    grace: timedelta,
    expires_at: datetime | None,
) -> tuple[str, Caller]:
    """Make a key of the same name and scopes; the old one ends after `grace`.

    Without an `expires_at`, the new key lives as long as the old one was to live from its creation.

    Raises:
        NoSuchKey: there is none, or it has ended.
    """
    async with connection.transaction():
        old = await queries.expire_key(connection, organization_id, key_id, grace)
        if old is None:
            raise NoSuchKey
        grant, lifetime = old
        if expires_at is None and lifetime is not None:
            expires_at = datetime.now(UTC) + lifetime
        key = generate()
        return key, await add(connection, replace(grant, expires_at=expires_at), key)


def _checksum(random: str) -> str:
    """CRC-32 in the digits of a key, as others do it whose keys are searched for."""
    number, digits = zlib.crc32(random.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
