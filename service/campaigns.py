"""Campaigns: how they are made and read."""

from collections import deque
from dataclasses import asdict

from aiohttp import web

from service import drafts, events, postgres, queries, schemas
from service.access import Trace
from service.answers import Answers
from service.assistants import Assistants
from service.backlog import Backlog
from service.commits import Commits
from service.drafts import Campaign, Draft
from service.fields import LONGEST_NAME
from service.flights import Flights
from service.history import Change, Version
from service.idempotency import Answer, Attempt
from service.keys import Caller
from service.patches import Patch

# Ids that one round trip reserves; those left over when a process ends are never used.
_IDS_RESERVED_AT_ONCE = 200

_COPY = " (copy)"


class NotFound(Exception):
    """The organization has no such campaign; another one may have it."""


class Campaigns:
    """The use cases that change no campaign; what one makes, one statement stores."""

    def __init__(
        self,
        pool: postgres.Pool,
        assistants: Assistants,
        answers: Answers,
        backlog: Backlog,
        commits: Commits,
    ) -> None:
        self._pool = pool
        self._assistants = assistants
        self._answers = answers
        self._backlog = backlog
        self._commits = commits
        self._reserved_ids: deque[int] = deque()
        self._reservations = Flights(self._reserve_ids)

    async def create_draft(
        self, caller: Caller, draft: Draft, trace: Trace, attempt: Attempt | None
    ) -> Answer:
        """Store a draft, its event and its answer by one statement, then wake the relay.

        An attempt that was made before is answered as it was then.

        Raises:
            invalid.InvalidBody, assistants.Unavailable, turns.Overloaded: the assistant is not
                accepted.
            idempotency.KeyReused: the key of the attempt belongs to another one.
            backlog.Full: nothing is stored.
            postgres.Unavailable: nothing is stored, or the connection broke before that was sure.
        """

        async def create() -> Answer:
            await self._assistants.check(caller.organization_id, draft.assistant_id)
            answer = None
            while answer is None:
                # An earlier answer may get too old before it is read; then the key is new again.
                answer = await self._store(caller, draft, trace, attempt) or (
                    await self._answers.find(caller, attempt)
                )
            return answer

        return await self._answers.or_earlier(caller, attempt, create)

    async def duplicate(
        self, caller: Caller, campaign_id: int, patch: Patch, trace: Trace, attempt: Attempt | None
    ) -> Answer:
        """Create a draft that says what another campaign says, but for what the caller says.

        Raises:
            NotFound: there is nothing to duplicate.
            invalid.InvalidBody: also of what the campaign says, if that is not accepted any more.
            whatever `create_draft` raises.
        """

        async def duplicate() -> Answer:
            campaign = await self.read(caller, campaign_id)
            name = campaign.name[: LONGEST_NAME - len(_COPY)] + _COPY
            draft = schemas.load_draft(patch.applied_to(campaign.editable() | {"name": name}))
            return await self.create_draft(caller, draft, trace, attempt)

        # What was duplicated once may say something else by now, or be gone.
        return await self._answers.find(caller, attempt) or (
            await self._answers.or_earlier(caller, attempt, duplicate)
        )

    async def _store(
        self, caller: Caller, draft: Draft, trace: Trace, attempt: Attempt | None
    ) -> Answer | None:
        self._backlog.check_room()
        campaign = drafts.new(await self._next_id(), caller.organization_id, draft)
        version = _first_version(campaign, draft, caller, trace)
        if not await self._commits.store(version, attempt):
            return None
        self._backlog.wake(self._commits.size_of_last)
        return version.answer

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
            return await find(connection, caller.organization_id, campaign_id)

    async def _next_id(self) -> int:
        while not self._reserved_ids:
            await self._reservations.join(None)
        return self._reserved_ids.popleft()

    async def _reserve_ids(self, _: None) -> None:
        async with self._pool.acquire() as connection:
            ids = await queries.reserve_campaign_ids(connection, _IDS_RESERVED_AT_ONCE)
        self._reserved_ids.extend(ids)


async def find(connection: postgres.Connection, organization_id: int, campaign_id: int) -> Campaign:
    """Raises: NotFound."""
    found = await queries.read_campaigns(connection, organization_id, [campaign_id])
    if not found:
        raise NotFound("Your organization has no campaign of this id.")
    return found[0]


def _first_version(campaign: Campaign, draft: Draft, caller: Caller, trace: Trace) -> Version:
    headers = {"Location": f"/api/v1/campaigns/{campaign.id}", "ETag": campaign.etag}
    shown = campaign.to_json()
    return Version(
        campaign=campaign,
        change=Change.to(campaign, "created", [], caller, trace),
        event=events.created(campaign, shown, draft.template_variables(), trace),
        answer=Answer(201, headers, shown),
    )


CAMPAIGNS: web.AppKey[Campaigns] = web.AppKey("CAMPAIGNS")
