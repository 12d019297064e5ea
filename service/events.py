"""Events: what the bus is told of a campaign, as CloudEvents 1.0 in structured JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from service import ids

if TYPE_CHECKING:
    import uuid
    from datetime import datetime

    from service.access import Trace
    from service.drafts import Campaign
    from service.templates import Variables

CONTENT_TYPE = "application/cloudevents+json"

CREATED = "campaign.created"
UPDATED = "campaign.updated"
DELETED = "campaign.deleted"


# Not frozen, as campaigns are not.
@dataclass(slots=True, kw_only=True)
class Event:
    """An event as the outbox keeps it: `body` is complete and never made a second time."""

    organization_id: int
    campaign_id: int
    sequence: int
    id: uuid.UUID
    type: str
    body: bytes
    headers: dict[str, str]
    time: datetime


def created(campaign: Campaign, shown: bytes, variables: Variables, trace: Trace) -> Event:
    """Tell that a draft exists, with all that a consumer would otherwise have to ask for.

    `shown` is the campaign as the API shows it.
    """
    return _event(CREATED, campaign, shown, {"template_variables": variables}, trace)


def updated(
    campaign: Campaign, variables: Variables, changed_fields: list[str], trace: Trace
) -> Event:
    """Tell what a campaign says now, and which fields said something else before."""
    data = {
        "template_variables": variables,
        "changed_fields": changed_fields,
        "old_version": campaign.version - 1,
        "new_version": campaign.version,
    }
    return _event(UPDATED, campaign, campaign.to_json(), data, trace)


def deleted(campaign: Campaign, trace: Trace) -> Event:
    """Tell that a campaign is gone, and what it was."""
    return _event(DELETED, campaign, campaign.to_json(), {}, trace)


def _event(
    event_type: str, campaign: Campaign, shown: bytes, data: dict[str, object], trace: Trace
) -> Event:
    event_id = ids.new()
    headers = trace.as_headers()
    body = {
        "specversion": "1.0",
        "id": str(event_id),
        "type": event_type,
        # The sequence extension orders the events of one source, so the campaign is the source;
        # it compares as text, hence the zeros (cloudevents/extensions/sequence.md).
        "source": f"/api/v1/campaigns/{campaign.id}",
        "subject": str(campaign.id),
        "time": campaign.updated_at,
        "sequence": f"{campaign.version:010}",
        "partitionkey": str(campaign.id),
        "datacontenttype": "application/json",
        "dataschema": f"urn:campaign-service:event:{event_type}:1",
        # Extension names may hold letters and digits only.
        **{name.replace("-", ""): value for name, value in headers.items()},
        "data": {"campaign": orjson.Fragment(shown)} | data,
    }
    return Event(
        organization_id=campaign.organization_id,
        campaign_id=campaign.id,
        sequence=campaign.version,
        id=event_id,
        type=event_type,
        body=orjson.dumps(body, option=orjson.OPT_UTC_Z),
        headers=headers,
        time=campaign.updated_at,
    )
