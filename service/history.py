"""History: the versions of a campaign, each with what was done, when, and with which key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from service.access import Trace
    from service.drafts import Campaign
    from service.events import Event
    from service.idempotency import Answer
    from service.keys import Caller

Kind = Literal["created", "updated", "deleted"]


# Not frozen, as campaigns are not.
@dataclass(slots=True, kw_only=True)
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


class Version(NamedTuple):
    """A campaign as it is from now on, and all that is stored with it or not at all."""

    campaign: Campaign
    change: Change
    event: Event
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Events by their time, `until` not included, of these types, of one organization or of all."""

    since: datetime
    until: datetime
    types: Sequence[str]
    organization_id: int | None = None


class Place(NamedTuple):
    """Where an event stands in the history, in the order in which all of them are sent again.

    The versions of a campaign are in order, as none is older than the one before it.
    """

    changed_at: datetime
    organization_id: int
    campaign_id: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many events can be sent again, and how many were stored without their bytes."""

    organization_id: int
    type: str
    events: int
    unavailable: int
