"""The key check that the peers have in common: looked up by its hash, remembered for a while."""

import hashlib
import time
from collections.abc import Awaitable, Callable

FIND = """
SELECT organization_id
FROM api_keys
WHERE sha256 = {} AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""

_SECONDS = 5.0


class Callers:
    """The organizations of keys; `find` asks the database."""

    def __init__(self, find: Callable[[bytes], Awaitable[int | None]]) -> None:
        self._find = find
        self._known: dict[bytes, tuple[float, int | None]] = {}

    async def organization(self, authorization: str) -> int | None:
        hashed = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).digest()
        found = self._known.get(hashed)
        if found is None or found[0] < time.monotonic():
            found = time.monotonic() + _SECONDS, await self._find(hashed)
            self._known[hashed] = found
        return found[1]
