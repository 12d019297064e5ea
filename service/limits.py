"""Fair limits: how much a key and an organization may ask of this process."""

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler
from cachetools import LRUCache

from service.auth import CALLER
from service.idempotency import Answer
from service.settings import SETTINGS, Settings

# Buckets that are remembered for each limit; one that is forgotten is full again.
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Limit:
    """So much at once, and so much a second in the long run; `what` is for people."""

    name: str
    what: str
    burst: int
    per_second: float


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of a limit, in the words of the proposed standard.

    See https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
    """

    limit: Limit
    tokens: float
    exceeded: bool

    @property
    def policy(self) -> str:
        return f'"{self.limit.name}";q={self.limit.burst};w={self._seconds(self.limit.burst)}'

    @property
    def state(self) -> str:
        until_full = self._seconds(self.limit.burst - self.tokens)
        return f'"{self.limit.name}";r={math.floor(self.tokens)};t={until_full}'

    @property
    def retry_after_seconds(self) -> int:
        return self._seconds(1 - self.tokens)

    def _seconds(self, tokens: float) -> int:
        return math.ceil(tokens / self.limit.per_second)


class Exceeded(Exception):
    """A limit is reached."""

    def __init__(self, quota: Quota) -> None:
        limit, self.retry_after_seconds = quota.limit, quota.retry_after_seconds
        super().__init__(
            f"{limit.what} at a rate of {limit.per_second:g} a second, at most {limit.burst} at "
            f"once. Try again in {self.retry_after_seconds} s."
        )


class Buckets:
    """A token bucket for each of many, all of one limit: full at first, and filled steadily."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        # How many tokens, and when.
        self._buckets: LRUCache[Hashable, tuple[float, float]] = LRUCache(_REMEMBERED)

    def take(self, whose: Hashable) -> Quota:
        """Take a token if there is one."""
        now, burst = time.monotonic(), self._limit.burst
        tokens, at = self._buckets.get(whose, (burst, now))
        tokens = min(burst, tokens + (now - at) * self._limit.per_second)
        exceeded = tokens < 1
        if not exceeded:
            tokens -= 1
        self._buckets[whose] = tokens, now
        return Quota(self._limit, tokens, exceeded)

    def give_back(self, whose: Hashable) -> None:
        """Put a token back; one that overflows is cut off when the next is taken."""
        if whose in self._buckets:
            tokens, at = self._buckets[whose]
            self._buckets[whose] = tokens + 1, at


QUOTAS: web.RequestKey[list[Quota]] = web.RequestKey("QUOTAS")


class Limits:
    """The limits of this process; a rate of 0 switches one off."""

    def __init__(self, settings: Settings) -> None:
        requests = Limit(
            "requests",
            "Your key may send requests",
            settings.key_requests_burst,
            settings.key_requests_per_second,
        )
        creates = Limit(
            "creates",
            "Your organization may create campaigns",
            settings.organization_creates_burst,
            settings.organization_creates_per_second,
        )
        self._requests = Buckets(requests) if requests.per_second else None
        self._creates = Buckets(creates) if creates.per_second else None

    def count_request(self, request: web.Request) -> None:
        """Raises: Exceeded."""
        caller = request[CALLER]
        if self._requests:
            _take(request, self._requests, (caller.organization_id, caller.key_id))

    async def counted(
        self, request: web.Request, create: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """Count a create, unless it fails, or turns out to be an earlier one.

        Raises:
            Exceeded: the organization has created enough for now.
            whatever `create` raises.
        """
        if self._creates is None:
            return await create()
        whose = request[CALLER].organization_id
        _take(request, self._creates, whose)
        is_new = False
        try:
            answer = await create()
            is_new = not answer.replayed
            return answer
        finally:
            if not is_new:
                self._creates.give_back(whose)
                request[QUOTAS].pop()


def _take(request: web.Request, buckets: Buckets, whose: Hashable) -> None:
    quota = buckets.take(whose)
    request.setdefault(QUOTAS, []).append(quota)
    if quota.exceeded:
        raise Exceeded(quota)


def are_set(settings: Settings) -> bool:
    """Whether there is anything to count, and to tell of."""
    return bool(settings.key_requests_per_second or settings.organization_creates_per_second)


LIMITS: web.AppKey[Limits] = web.AppKey("LIMITS")


async def context(app: web.Application) -> AsyncIterator[None]:
    """Count what is asked of `app`."""
    app[LIMITS] = Limits(app[SETTINGS])
    yield


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count the requests of all who have a key."""
    if CALLER in request:
        request.app[LIMITS].count_request(request)
    return await handler(request)


async def tell(request: web.Request, response: web.StreamResponse) -> None:
    """Say with every answer what is left."""
    if quotas := request.get(QUOTAS):
        response.headers["RateLimit-Policy"] = ", ".join(quota.policy for quota in quotas)
        response.headers["RateLimit"] = ", ".join(quota.state for quota in quotas)
