"""API keys: random, shown once, stored as their SHA-256, each belonging to one organization."""

import hashlib
import secrets
from dataclasses import dataclass

from service import queries
from service.postgres import Connection

_PREFIX = "campaigns_"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: a key and the organization that it belongs to."""

    organization_id: int
    key_id: int


class KeyTaken(Exception):
    """The key belongs to another organization already."""


async def create(connection: Connection, organization_id: int, name: str) -> str:
    """Make a key of 256 random bits and store its hash; the answer is its only copy."""
    key = _PREFIX + secrets.token_urlsafe(32)
    await add(connection, organization_id, name, key)
    return key


async def add(connection: Connection, organization_id: int, name: str, key: str) -> None:
    """Store a key that was made elsewhere; once more changes nothing.

    Raises:
        KeyTaken: another organization has it.
    """
    await queries.add_key(connection, organization_id, name, _sha256(key))
    caller = await find(connection, key)
    if caller is None or caller.organization_id != organization_id:
        raise KeyTaken


async def find(connection: Connection, key: str) -> Caller | None:
    """Look up whose key this is."""
    return await queries.find_key(connection, _sha256(key))


def _sha256(key: str) -> bytes:
    # A header may hold any byte; aiohttp hands the ones that are not UTF-8 on as surrogates.
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()
