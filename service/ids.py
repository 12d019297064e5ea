"""Ids: random ones, made many at a time, as asking the kernel takes longer than all the rest."""

import os

# Made in C, as those that asyncpg reads; Python's own take fifteen times as long.
from asyncpg.pgproto.pgproto import UUID

_SIZE = 16
_MADE_AT_ONCE = 64

# Of an id, the bits that are the same in all of version 4, and what they are (RFC 9562, 5.4).
_FIXED = bytes.fromhex("000000000000f000c000000000000000")
_VERSION_4 = bytes.fromhex("00000000000040008000000000000000")
_ALL_FIXED = int.from_bytes(_FIXED * _MADE_AT_ONCE)
_ALL_VERSION_4 = int.from_bytes(_VERSION_4 * _MADE_AT_ONCE)

_unused: list[UUID] = []
# Or two processes would use the same ones.
os.register_at_fork(after_in_child=_unused.clear)


def new() -> UUID:
    """A random UUID (RFC 9562, version 4) that no other process has."""
    if not _unused:
        random = int.from_bytes(os.urandom(_SIZE * _MADE_AT_ONCE))
        made = (random & ~_ALL_FIXED | _ALL_VERSION_4).to_bytes(_SIZE * _MADE_AT_ONCE)
        _unused.extend(UUID(made[start : start + _SIZE]) for start in range(0, len(made), _SIZE))
    return _unused.pop()
