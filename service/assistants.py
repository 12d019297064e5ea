"""Assistants: whether an organization has one, which only the service that keeps them knows."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import aiohttp
import structlog
from aiohttp import web
from cachetools import LRUCache, TLRUCache

from service import invalid
from service.flights import Flights
from service.settings import SETTINGS, Settings
from service.turns import Overloaded, Turns

logger = structlog.get_logger(__name__)

# An organization and an assistant, and how many of these are remembered.
_Pair = tuple[int, int]
_REMEMBERED = 10_000

# Seconds for which an unknown assistant is remembered at most: who just made one will use it soon.
_UNKNOWN_SECONDS = 5.0

# Failures in a row of an organization's questions after which nobody is asked for it, and seconds
# until somebody is again.
FAILURES = 5
PAUSE_SECONDS = 10.0

# Questions of one organization at the same time; the next one waits for its turn.
_TURNS = 20

# The assistant is not there, or not for this organization. A 401 is about our own credentials.
_UNKNOWN_STATUSES = (403, 404, 410)

# One answer for both, so that nobody learns which assistants others have.
_UNKNOWN: invalid.Error = {
    "pointer": "#/assistant_id",
    "detail": "Is not an assistant of your organization.",
}


class Unavailable(Exception):
    """The service of the assistants gave no answer, or was not asked as it gave none of late."""


class Breaker:
    """Spares a service that is down its callers, and them the wait.

    After a pause one caller tries it, and what comes of that decides. Outcomes of calls
    that were under way when the pause began decide nothing, nor does a call that is cancelled. The
    library `circuitbreaker` would let all callers try at once, and closes upon either of those.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._paused_until = 0.0
        self._trying = False

    @contextmanager
    def call(self) -> Iterator[None]:
        """Guard one call.

        Raises:
            Unavailable: as the call did, or without one being made.
        """
        is_trial = self._failures >= FAILURES
        if is_trial:
            self._begin_trial()
        try:
            yield
        except Unavailable as error:
            self._note_failure(error, is_trial=is_trial)
            raise
        else:
            if is_trial or self._failures < FAILURES:
                self._failures = 0
        finally:
            if is_trial:
                self._trying = False

    def _begin_trial(self) -> None:
        if self._trying or time.monotonic() < self._paused_until:
            raise Unavailable("not asked, as it failed of late")
        self._trying = True

    def _note_failure(self, error: Unavailable, *, is_trial: bool) -> None:
        self._failures += 1
        logger.warning("assistants not checked", error=str(error), failures=self._failures)
        if is_trial or self._failures == FAILURES:
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            logger.warning("assistants not asked for a while", seconds=PAUSE_SECONDS)


class _Asker(NamedTuple):
    """What one organization has to do with the directory, so that it cannot spoil it for others."""

    turns: Turns
    breaker: Breaker


class Assistants:
    """What is known of the assistants of organizations; without a session, nobody is asked."""

    def __init__(self, session: aiohttp.ClientSession | None, settings: Settings) -> None:
        self._session = session
        self._url = settings.assistants_url
        self._timeout_seconds = settings.assistants_timeout_seconds
        self._accepts_unchecked = settings.assistants_unreachable == "accept"
        known_seconds = settings.assistants_cache_seconds
        unknown_seconds = min(_UNKNOWN_SECONDS, known_seconds)
        self._answers: TLRUCache[_Pair, bool] = TLRUCache(
            _REMEMBERED,
            ttu=lambda _pair, known, now: now + (known_seconds if known else unknown_seconds),
            timer=time.monotonic,
        )
        self._askers: LRUCache[int, _Asker] = LRUCache(_REMEMBERED)
        self._flights = Flights(self._ask)

    async def check(self, organization_id: int, assistant_id: int) -> None:
        """Let pass an assistant of this organization.

        Raises:
            invalid.InvalidBody: it is unknown, or another organization's.
            Unavailable, turns.Overloaded: nobody can tell, and the settings do not accept it then.
        """
        if self._session is None:
            return
        pair = organization_id, assistant_id
        try:
            known = self._answers.get(pair)
            if known is None:
                known = await self._flights.join(pair)
        except (Unavailable, Overloaded) as error:
            if isinstance(error, Overloaded):
                logger.warning("assistants not checked", error="no turn in time")
            if self._accepts_unchecked:
                return
            raise
        if not known:
            raise invalid.InvalidBody([_UNKNOWN])

    async def _ask(self, pair: _Pair) -> bool:
        asker = self._askers.get(pair[0])
        if asker is None:
            asker = self._askers[pair[0]] = _Asker(Turns(_TURNS, self._timeout_seconds), Breaker())
        async with asker.turns.turn():
            with asker.breaker.call():
                status = await self._status(pair)
                if status not in _UNKNOWN_STATUSES and status // 100 != 2:
                    raise Unavailable(f"status {status}")
        known = self._answers[pair] = status not in _UNKNOWN_STATUSES
        return known

    async def _status(self, pair: _Pair) -> int:
        organization_id, assistant_id = map(str, pair)
        url = self._url.replace("{organization_id}", organization_id)
        url = url.replace("{assistant_id}", assistant_id)
        assert self._session
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                return response.status
        except (aiohttp.ClientError, OSError) as error:
            # Texts of these may have the URL in them, and with it a password.
            raise Unavailable(type(error).__name__) from None


ASSISTANTS: web.AppKey[Assistants] = web.AppKey("ASSISTANTS")


async def context(app: web.Application) -> AsyncIterator[None]:
    """Keep the assistants of `app`, and connections to their service if there is one."""
    settings = app[SETTINGS]
    async with _session(settings) if settings.assistants_url else nullcontext() as session:
        app[ASSISTANTS] = Assistants(session, settings)
        yield


def _session(settings: Settings) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # Turns and slots bound these; a queue for connections would look like a slow directory.
        connector=aiohttp.TCPConnector(limit=0),
        # A cookie of one organization's answer is not for the next one's question.
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "application/json"},
        timeout=aiohttp.ClientTimeout(total=settings.assistants_timeout_seconds),
    )
