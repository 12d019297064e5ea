"""History: the versions of a campaign, each with what was done, when, and with which key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from service.access import Trace
    from service.drafts import Campaign
    from service.events import Event
    from service.idempotency import Answer
    from service.keys import Caller

Kind = Literal["created", "updated", "deleted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How a version came about, in the order of the keys over HTTP."""

    version: int
    change: Kind
    changed_fields: list[str]
    changed_at: datetime
    key_id: int | None
    request_id: str | None

    @classmethod
    def to(
        cls, campaign: Campaign, change: Kind, fields: list[str], caller: Caller, trace: Trace
    ) -> Change:
        """How this caller brings about what the campaign is from now on."""
        return cls(
            version=campaign.version,
            change=change,
            changed_fields=fields,
            changed_at=campaign.updated_at,
            key_id=caller.key_id,
            request_id=trace.request_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A campaign as it is from now on, and all that is stored with it or not at all."""

    campaign: Campaign
    change: Change
    event: Event
    answer: Answer
