"""Campaigns: what a draft is, and how one comes to be."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import orjson
from aiohttp import web

from service import events, postgres, queries, templates
from service.access import Trace
from service.assistants import Assistants, Unavailable
from service.filters import Value
from service.idempotency import Answer, Attempt
from service.invalid import InvalidBody

if TYPE_CHECKING:
    from service.keys import Caller

CampaignType = Literal["call", "sms", "mixed"]
FallbackValues = dict[str, Value]

# Ids that one round trip reserves; those left over when a process ends are never used.
_IDS_RESERVED_AT_ONCE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a caller may say of a new campaign, with the published defaults."""

    name: str
    campaign_type: CampaignType
    assistant_id: int
    description: str | None = None
    welcome_message_template: str | None = None
    agenda_template: str | None = None
    end_call_message_template: str | None = None
    sms_message_template: str | None = None
    fallback_values: FallbackValues = field(default_factory=dict)
    max_attempts: int = 3
    retry_delay_minutes: int = 30

    def template_variables(self) -> templates.Variables:
        """The variables of all four templates, classed by who must supply them."""
        sources = (
            self.welcome_message_template,
            self.agenda_template,
            self.end_call_message_template,
            self.sms_message_template,
        )
        return templates.variables(
            [templates.parse(source) for source in sources if source is not None],
            self.fallback_values,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A stored campaign; the order of the fields is the published order of the keys."""

    id: int
    name: str
    description: str | None
    campaign_type: CampaignType
    status: str
    assistant_id: int
    welcome_message_template: str | None
    agenda_template: str | None
    end_call_message_template: str | None
    sms_message_template: str | None
    fallback_values: FallbackValues
    variable_mappings: dict[str, str]
    available_variables: list[str]
    max_attempts: int
    retry_delay_minutes: int
    total_contacts: int
    completed_contacts: int
    failed_contacts: int
    created_at: datetime
    updated_at: datetime
    # Not in the published example: the official SDK needs the first, an ETag shows the second.
    organization_id: int
    version: int

    @property
    def etag(self) -> str:
        return f'"{self.version}"'

    def to_json(self) -> bytes:
        """The campaign as the API shows it."""
        return orjson.dumps(self, option=orjson.OPT_UTC_Z)


class NotFound(Exception):
    """The organization has no such campaign; another one may have it."""


class Campaigns:
    """The use cases of a campaign, each in one transaction that is over when the call returns."""

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
            invalid.InvalidBody, assistants.Unavailable: the assistant is not accepted.
            idempotency.KeyReused: the key of the attempt belongs to another one.
            postgres.Unavailable: nothing is stored, or the connection broke before that was sure.
        """
        try:
            await self._assistants.check(caller.organization_id, draft.assistant_id)
        except (InvalidBody, Unavailable):
            # It was accepted when the campaign was created, if it was.
            async with self._pool.acquire() as connection:
                answer = await _earlier_answer(connection, caller, attempt)
            if answer is None:
                raise
            return answer
        async with self._pool.acquire() as connection:
            return await self._store_once(connection, caller, draft, trace, attempt)

    async def _store_once(
        self,
        connection: postgres.Connection,
        caller: Caller,
        draft: Draft,
        trace: Trace,
        attempt: Attempt | None,
    ) -> Answer:
        campaign = _new(await self._next_id(connection), caller, draft)
        event = events.created(campaign, draft.template_variables(), trace)
        answer = _created(campaign)
        while not await queries.create_draft(
            connection, campaign, event, answer, attempt, self._answers_kept
        ):
            # There is one, unless it was pruned just now.
            if earlier := await _earlier_answer(connection, caller, attempt):
                return earlier
        self._wake_relay()
        return answer

    async def rehearse(self, caller: Caller, draft: Draft) -> dict[str, object]:
        """What a create would answer, without what only storing brings about; and its variables.

        Raises:
            invalid.InvalidBody, assistants.Unavailable: the assistant is not accepted.
        """
        await self._assistants.check(caller.organization_id, draft.assistant_id)
        campaign = asdict(_new(0, caller, draft))
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


CAMPAIGNS: web.AppKey[Campaigns] = web.AppKey("CAMPAIGNS")


async def _earlier_answer(
    connection: postgres.Connection, caller: Caller, attempt: Attempt | None
) -> Answer | None:
    if attempt is None:
        return None
    found = await queries.find_answer(connection, caller.organization_id, attempt)
    return attempt.replay(*found) if found else None


def _created(campaign: Campaign) -> Answer:
    headers = {"Location": f"/api/v1/campaigns/{campaign.id}", "ETag": campaign.etag}
    return Answer(201, headers, campaign.to_json())


def _new(campaign_id: int, caller: Caller, draft: Draft) -> Campaign:
    now = datetime.now(UTC)
    return Campaign(
        id=campaign_id,
        name=draft.name,
        description=draft.description,
        campaign_type=draft.campaign_type,
        status="draft",
        assistant_id=draft.assistant_id,
        welcome_message_template=draft.welcome_message_template,
        agenda_template=draft.agenda_template,
        end_call_message_template=draft.end_call_message_template,
        sms_message_template=draft.sms_message_template,
        fallback_values=draft.fallback_values,
        variable_mappings={},
        available_variables=[],
        max_attempts=draft.max_attempts,
        retry_delay_minutes=draft.retry_delay_minutes,
        total_contacts=0,
        completed_contacts=0,
        failed_contacts=0,
        created_at=now,
        updated_at=now,
        organization_id=caller.organization_id,
        version=1,
    )
