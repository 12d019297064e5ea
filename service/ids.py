"""Ids: random ones, made many at a time, as asking the kernel takes longer than all the rest."""

import os
import uuid

_MADE_AT_ONCE = 64

_unused: list[uuid.UUID] = []
# Or two processes would use the same ones.
os.register_at_fork(after_in_child=_unused.clear)


def new() -> uuid.UUID:
    """A random UUID (RFC 9562, version 4) that no other process has."""
    if not _unused:
        random = os.urandom(16 * _MADE_AT_ONCE)
        _unused.extend(
            uuid.UUID(bytes=random[start : start + 16], version=4)
            for start in range(0, len(random), 16)
        )
    return _unused.pop()
