"""Peer B: the libraries of the service, used the plain way, with no outbox.

It publishes after the insert and waits for the confirmation: an event is lost when the process ends
in between, or when the broker is away.
"""

import json
import os
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aio_pika
import asyncpg
import uvloop
from aiohttp import web
from marshmallow import Schema, ValidationError, fields, pre_load, validate

from bench.peers.callers import FIND, Callers

POOL: web.AppKey["asyncpg.Pool[asyncpg.Record]"] = web.AppKey("POOL")
EXCHANGE: web.AppKey[aio_pika.abc.AbstractExchange] = web.AppKey("EXCHANGE")
CALLERS: web.AppKey[Callers] = web.AppKey("CALLERS")

INSERT = """
INSERT INTO campaigns (
    organization_id, id, version, name, name_key, description, campaign_type, status, assistant_id,
    welcome_message_template, agenda_template, end_call_message_template, sms_message_template,
    fallback_values, max_attempts, retry_delay_minutes, created_at, updated_at
)
VALUES (
    $1, nextval('campaign_ids'), 1, $2, $3, $4, $5, 'draft', $6, $7, $8, $9, $10, $11, $12, $13,
    $14, $14
)
RETURNING *
"""


def storable(value: object) -> None:
    if isinstance(value, str) and "\0" in value:
        raise ValidationError("Must not contain NUL.")


def sayable(value: object) -> None:
    storable(value)
    if not isinstance(value, (str, int, float)) or (isinstance(value, str) and len(value) > 1_000):
        raise ValidationError("Must be a number, a boolean or a string of at most 1000 characters.")


def _text(longest: int, **options: Any) -> fields.String:
    return fields.String(validate=[validate.Length(max=longest), storable], **options)


class DraftSchema(Schema):
    name = fields.String(required=True, validate=[validate.Length(1, 200), storable])
    description = _text(2_000, load_default=None, allow_none=True)
    campaign_type = fields.String(required=True, validate=validate.OneOf(["call", "sms", "mixed"]))
    assistant_id = fields.Integer(strict=True, required=True, validate=validate.Range(1, 2**63 - 1))
    welcome_message_template = _text(10_000, load_default=None, allow_none=True)
    agenda_template = _text(10_000, load_default=None, allow_none=True)
    end_call_message_template = _text(10_000, load_default=None, allow_none=True)
    sms_message_template = _text(10_000, load_default=None, allow_none=True)
    fallback_values = fields.Dict(
        keys=fields.String(validate=validate.Regexp(r"^[^\W\d]\w{0,63}$")),
        values=fields.Raw(validate=sayable),
        load_default=dict,
        validate=validate.Length(max=100),
    )
    max_attempts = fields.Integer(strict=True, load_default=3, validate=validate.Range(1, 100))
    retry_delay_minutes = fields.Integer(
        strict=True, load_default=30, validate=validate.Range(0, 43_200)
    )

    @pre_load
    def trim(self, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        name = body.get("name")
        return body | {"name": name.strip()} if isinstance(name, str) else body


class SettingsSchema(Schema):
    max_attempts = fields.Integer()
    retry_delay_minutes = fields.Integer()
    welcome_template = fields.String(attribute="welcome_message_template")
    agenda_template = fields.String()


SETTINGS = SettingsSchema()


class CampaignSchema(Schema):
    id = fields.Integer()
    name = fields.String()
    description = fields.String()
    campaign_type = fields.String()
    status = fields.String()
    assistant_id = fields.Integer()
    welcome_message_template = fields.String()
    agenda_template = fields.String()
    end_call_message_template = fields.String()
    sms_message_template = fields.String()
    fallback_values = fields.Raw()
    variable_mappings = fields.Raw()
    available_variables = fields.Raw()
    max_attempts = fields.Integer()
    retry_delay_minutes = fields.Integer()
    total_contacts = fields.Integer()
    completed_contacts = fields.Integer()
    failed_contacts = fields.Integer()
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime()
    assistant_name = fields.Constant(None)
    last_import_file_name = fields.Constant(None)
    last_import_date = fields.Constant(None)
    last_import_row_count = fields.Constant(None)
    organization_id = fields.Integer()
    version = fields.Integer()
    settings = fields.Function(SETTINGS.dump)


DRAFT, CAMPAIGN = DraftSchema(), CampaignSchema()


async def create_campaign(request: web.Request) -> web.Response:
    organization = await request.app[CALLERS].organization(request.headers["Authorization"])
    if organization is None:
        raise web.HTTPUnauthorized
    try:
        draft = DRAFT.load(await request.json())
    except ValidationError as error:
        return web.json_response(error.messages, status=422)
    row = await request.app[POOL].fetchrow(
        INSERT,
        organization,
        draft["name"],
        draft["name"].casefold(),
        draft["description"],
        draft["campaign_type"],
        draft["assistant_id"],
        draft["welcome_message_template"],
        draft["agenda_template"],
        draft["end_call_message_template"],
        draft["sms_message_template"],
        draft["fallback_values"],
        draft["max_attempts"],
        draft["retry_delay_minutes"],
        datetime.now(UTC),
    )
    assert row
    campaign = CAMPAIGN.dump(dict(row))
    await publish(request.app[EXCHANGE], campaign)
    headers = {"Location": f"/api/v1/campaigns/{row['id']}", "ETag": f'"{row["version"]}"'}
    return web.json_response(campaign, status=201, headers=headers)


async def publish(exchange: aio_pika.abc.AbstractExchange, campaign: dict[str, Any]) -> None:
    number, request_id = str(campaign["id"]), str(uuid.uuid4())
    event = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "type": "campaign.created",
        "source": f"/api/v1/campaigns/{number}",
        "subject": number,
        "time": campaign["updated_at"],
        "sequence": "0000000001",
        "partitionkey": number,
        "datacontenttype": "application/json",
        "dataschema": "urn:campaign-service:event:campaign.created:1",
        "requestid": request_id,
        "data": {"campaign": campaign, "template_variables": {"required": [], "optional": []}},
    }
    await exchange.publish(
        aio_pika.Message(
            json.dumps(event).encode(),
            content_type="application/cloudevents+json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=str(event["id"]),
            type="campaign.created",
            timestamp=datetime.now(UTC),
            headers={"request-id": request_id},
        ),
        routing_key="campaign.created",
    )


async def readyz(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ready"})


async def database(app: web.Application) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], init=read_json) as pool:
        app[POOL] = pool
        app[CALLERS] = Callers(lambda sha256: pool.fetchval(FIND.format("$1"), sha256))
        yield


async def read_json(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.set_type_codec(
        "json", encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
    )


async def broker(app: web.Application) -> AsyncIterator[None]:
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    async with connection:
        channel = await connection.channel(publisher_confirms=True)
        app[EXCHANGE] = await channel.get_exchange("campaign.events")
        yield


def main() -> None:
    app = web.Application()
    app.cleanup_ctx.extend([database, broker])
    app.add_routes([web.post("/api/v1/campaigns", create_campaign), web.get("/readyz", readyz)])
    uvloop.install()
    web.run_app(
        app, host="127.0.0.1", port=int(os.environ["HTTP_PORT"]), access_log=None, print=None
    )


if __name__ == "__main__":
    main()
