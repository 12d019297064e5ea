"""Edits: how campaigns are changed and deleted, by many at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from service import events, postgres, queries, schemas
from service.access import Trace
from service.answers import Answers
from service.assistants import Assistants
from service.backlog import Backlog
from service.campaigns import Campaigns
from service.drafts import Campaign
from service.history import Change, Version
from service.idempotency import Answer, Attempt
from service.keys import Caller
from service.patches import Patch
from service.preconditions import Precondition
from service.turns import Overloaded, TurnsOfEach

_EDITABLE = ("draft", "paused")
_FIXED_AFTER_DRAFT = ("campaign_type", "assistant_id")


class NotNow(Exception):
    """The status of the campaign does not allow it."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Who edits which campaign, and what must hold of it."""

    caller: Caller
    campaign_id: int
    precondition: Precondition
    trace: Trace
    attempt: Attempt | None


class Edits:
    """The use cases that change a campaign: each reads it and stores its next version.

    That is stored only if it is still the next one, so of two who have read the same version the
    second reads again. In one process, one campaign is edited by one at a time: what would only be
    read again is not read.
    """

    def __init__(
        self,
        pool: postgres.Pool,
        campaigns: Campaigns,
        assistants: Assistants,
        answers: Answers,
        backlog: Backlog,
        most_seconds: float,
    ) -> None:
        self._pool = pool
        self._campaigns = campaigns
        self._assistants = assistants
        self._answers = answers
        self._backlog = backlog
        self._most_seconds = most_seconds
        self._turns: TurnsOfEach[tuple[int, int]] = TurnsOfEach(1, most_seconds)

    async def update(self, edit: Edit, patch: Patch) -> Answer:
        """Store what a campaign says with a patch, unless it says that already.

        Raises:
            campaigns.NotFound, preconditions.Failed
            NotNow: it is neither draft nor paused, or its type or assistant is changed later.
            invalid.InvalidBody: also of what the campaign says, if that is not accepted any more.
            assistants.Unavailable, turns.Overloaded: the assistant is not accepted.
            turns.Overloaded: too many others are quicker.
            idempotency.KeyReused: the key of the attempt belongs to another one.
            backlog.Full: nothing is stored.
            postgres.Unavailable: nothing is stored, or the connection broke before that was sure.
        """

        async def next_version(campaign: Campaign) -> Version | Answer:
            if campaign.status not in _EDITABLE:
                raise NotNow(
                    f"A campaign can be changed as long as it is {' or '.join(_EDITABLE)}; "
                    f"this one is {campaign.status}."
                )
            edit.precondition.check(campaign)
            draft = schemas.load_draft(patch.applied_to(campaign.editable()))
            changed = campaign.differing(draft)
            if not changed:
                return _updated(campaign)
            _check_fixed(campaign, changed)
            if "assistant_id" in changed:
                await self._assistants.check(edit.caller.organization_id, draft.assistant_id)
            after = campaign.changed_to(draft)
            variables = draft.template_variables()
            return Version(
                campaign=after,
                change=Change.to(after, "updated", changed, edit.caller, edit.trace),
                event=events.updated(after, variables, changed, edit.trace),
                answer=_updated(after),
            )

        return await self._edit(edit, next_version)

    async def delete(self, edit: Edit) -> Answer:
        """Let a campaign be gone for all callers.

        Raises:
            campaigns.NotFound, preconditions.Failed
            NotNow: it is running.
            turns.Overloaded: too many others are quicker.
            idempotency.KeyReused: the key of the attempt belongs to another one.
            backlog.Full: nothing is stored.
            postgres.Unavailable: nothing is stored, or the connection broke before that was sure.
        """

        async def last_version(campaign: Campaign) -> Version:
            if campaign.status == "running":
                raise NotNow("A running campaign cannot be deleted: stop it first.")
            edit.precondition.check(campaign)
            after = campaign.next()
            return Version(
                campaign=after,
                change=Change.to(after, "deleted", [], edit.caller, edit.trace),
                event=events.deleted(after, edit.trace),
                answer=Answer(200, {}, b'{"message":"Campaign deleted successfully"}'),
            )

        return await self._edit(edit, last_version)

    async def _edit(
        self, edit: Edit, step: Callable[[Campaign], Awaitable[Version | Answer]]
    ) -> Answer:
        """Take steps until one is the next; one that changes nothing needs no version."""

        async def take_step() -> Answer | None:
            result = await step(await self._campaigns.read(edit.caller, edit.campaign_id))
            if isinstance(result, Answer):
                kept = await self._answers.keep(edit.caller, edit.attempt, result)
                return result if kept else None
            return result.answer if await self._store(result, edit.attempt) else None

        async def take_steps() -> Answer:
            clock = asyncio.get_running_loop()
            deadline = clock.time() + self._most_seconds
            while clock.time() < deadline:
                answer = await self._answers.find(edit.caller, edit.attempt) or await take_step()
                if answer:
                    return answer
            raise Overloaded("Too many others change this campaign.")

        async with self._turns.turn((edit.caller.organization_id, edit.campaign_id)):
            return await self._answers.or_earlier(edit.caller, edit.attempt, take_steps)

    async def _store(self, version: Version, attempt: Attempt | None) -> bool:
        self._backlog.check_room()
        async with self._pool.acquire() as connection:
            stored = await queries.change_campaign(connection, version, attempt, self._answers.kept)
        if stored:
            self._backlog.wake(1)
        return stored


def _check_fixed(campaign: Campaign, changed: list[str]) -> None:
    fixed = [name for name in changed if name in _FIXED_AFTER_DRAFT]
    if fixed and campaign.status != "draft":
        raise NotNow(
            f"{' and '.join(fixed)} can be changed in a draft only; "
            f"this campaign is {campaign.status}."
        )


def _updated(campaign: Campaign) -> Answer:
    body = campaign.to_json(message="Campaign updated successfully")
    return Answer(200, {"ETag": campaign.etag}, body)


EDITS: web.AppKey[Edits] = web.AppKey("EDITS")
