"""A draft stored alone: what the service's statement does for many, written for one.

It is what the service's own would be without group commit and idempotency, and the floor that
nobody who stores one draft a statement gets below.
"""

import orjson

from service import drafts
from service.history import Version
from service.postgres import Connection

STATEMENT = """
WITH campaign AS (
    INSERT INTO campaigns (
        organization_id, id, version, name, name_key, description, campaign_type, assistant_id,
        welcome_message_template, agenda_template, end_call_message_template,
        sms_message_template, fallback_values, max_attempts, retry_delay_minutes, created_at,
        updated_at, status
    )
    VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, 'draft')
),

history AS (
    INSERT INTO campaign_history (
        organization_id, campaign_id, version, change, changed_fields, changed_at, key_id,
        request_id, event_id, event_body, event_headers
    )
    VALUES ($1, $2, 1, 'created', '{}', $15, $16, $17, $18, $19, $20)
)

INSERT INTO outbox (
    organization_id, campaign_id, sequence, event_id, event_type, body, headers, created_at
)
VALUES ($1, $2, 1, $18, 'campaign.created', $19, $20, $15)
"""


def values(version: Version) -> tuple[object, ...]:
    """The parameters of the statement, in their order."""
    campaign, event = version.campaign, version.event
    return (
        campaign.organization_id,
        campaign.id,
        campaign.name,
        drafts.name_key(campaign.name),
        campaign.description,
        campaign.campaign_type,
        campaign.assistant_id,
        campaign.welcome_message_template,
        campaign.agenda_template,
        campaign.end_call_message_template,
        campaign.sms_message_template,
        orjson.dumps(campaign.fallback_values).decode(),
        campaign.max_attempts,
        campaign.retry_delay_minutes,
        campaign.created_at,
        version.change.key_id,
        version.change.request_id,
        event.id,
        event.body.decode(),
        orjson.dumps(event.headers).decode(),
    )


async def store(connection: Connection, version: Version) -> None:
    await connection.execute(STATEMENT, *values(version))
