"""Campaigns: what is done with them."""

from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta

from aiohttp import web

from service import drafts, events, postgres, queries
from service.access import Trace
from service.assistants import Assistants, Unavailable
from service.drafts import Campaign, Draft
from service.idempotency import Answer, Attempt
from service.invalid import InvalidBody
from service.keys import Caller
from service.turns import Overloaded

# Ids that one round trip reserves; those left over when a process ends are never used.
_IDS_RESERVED_AT_ONCE = 50


class NotFound(Exception):
    """The organization has no such campaign; another one may have it."""


class Campaigns:
    """The use cases of campaigns; what one changes, it changes in one statement."""

    def __init__(
        self,
        pool: postgres.Pool,
        assistants: Assistants,
        answers_kept: timedelta,
        wake_relay: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._assistants = assistants
        self._answers_kept = answers_kept
        self._wake_relay = wake_relay
        self._reserved_ids: deque[int] = deque()

    async def create_draft(
        self, caller: Caller, draft: Draft, trace: Trace, attempt: Attempt | None
    ) -> Answer:
        """Store a draft, its event and its answer in one statement, then wake the relay.

        An attempt that was made before is answered as it was then.

        Raises:
            invalid.InvalidBody, assistants.Unavailable, turns.Overloaded: the assistant is not
                accepted.
            idempotency.KeyReused: the key of the attempt belongs to another one.
            postgres.Unavailable: nothing is stored, or the connection broke before that was sure.
        """
        try:
            await self._assistants.check(caller.organization_id, draft.assistant_id)
        except (InvalidBody, Unavailable, Overloaded):
            # It was accepted when the campaign was created, if it was.
            if earlier := await self._earlier_answer(caller, attempt):
                return earlier
            raise
        answer = None
        while answer is None:
            # An earlier answer may get too old before it is read; then the key is new again.
            answer = await self._store(caller, draft, trace, attempt) or (
                await self._earlier_answer(caller, attempt)
            )
        return answer

    async def _store(
        self, caller: Caller, draft: Draft, trace: Trace, attempt: Attempt | None
    ) -> Answer | None:
        async with self._pool.acquire() as connection:
            campaign_id = await self._next_id(connection)
            campaign = drafts.new(campaign_id, caller.organization_id, draft)
            event = events.created(campaign, draft.template_variables(), trace)
            answer = _created(campaign)
            stored = await queries.create_draft(
                connection, campaign, event, answer, attempt, self._answers_kept
            )
        if not stored:
            return None
        self._wake_relay()
        return answer

    async def _earlier_answer(self, caller: Caller, attempt: Attempt | None) -> Answer | None:
        if attempt is None:
            return None
        async with self._pool.acquire() as connection:
            found = await queries.find_answer(
                connection, caller.organization_id, attempt, self._answers_kept
            )
        return attempt.replay(*found) if found else None

    async def rehearse(self, caller: Caller, draft: Draft) -> dict[str, object]:
        """What a create would answer, without what only storing brings about; and its variables.

        Raises:
            invalid.InvalidBody, assistants.Unavailable, turns.Overloaded: the assistant is not
                accepted.
        """
        await self._assistants.check(caller.organization_id, draft.assistant_id)
        campaign = asdict(drafts.new(0, caller.organization_id, draft))
        for name in ("id", "created_at", "updated_at"):
            del campaign[name]
        return campaign | {"template_variables": draft.template_variables()}

    async def read(self, caller: Caller, campaign_id: int) -> Campaign:
        """Raises: NotFound, postgres.Unavailable."""
        async with self._pool.acquire() as connection:
            campaign = await queries.find_campaign(connection, caller.organization_id, campaign_id)
        if campaign is None:
            raise NotFound("Your organization has no campaign of this id.")
        return campaign

    async def _next_id(self, connection: postgres.Connection) -> int:
        if not self._reserved_ids:
            ids = await queries.reserve_campaign_ids(connection, _IDS_RESERVED_AT_ONCE)
            self._reserved_ids.extend(ids)
        return self._reserved_ids.popleft()


def _created(campaign: Campaign) -> Answer:
    headers = {"Location": f"/api/v1/campaigns/{campaign.id}", "ETag": campaign.etag}
    return Answer(201, headers, campaign.to_json())


CAMPAIGNS: web.AppKey[Campaigns] = web.AppKey("CAMPAIGNS")
