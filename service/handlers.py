"""HTTP handlers of campaigns: load, call, respond."""

import orjson
from aiohttp import web

from service import bodies, idempotency, previews, schemas
from service.access import TRACE
from service.auth import CALLER
from service.campaigns import CAMPAIGNS
from service.limits import LIMITS


async def create_campaign(request: web.Request) -> web.Response:
    validate_only = schemas.load_validate_only(request.query)
    draft = schemas.load_draft(await bodies.read(request))
    attempt = idempotency.attempt(request, draft.stated)
    if validate_only:
        answer = await request.app[CAMPAIGNS].rehearse(request[CALLER], draft)
        return web.json_bytes_response(answer, dumps=orjson.dumps)
    with request.app[LIMITS].creating(request) as take_back:
        created = await request.app[CAMPAIGNS].create_draft(
            request[CALLER], draft, request[TRACE], attempt
        )
        if created.replayed:
            take_back()
    return created.response()


async def read_campaign(request: web.Request) -> web.Response:
    campaign_id = int(request.match_info["id"])
    campaign = await request.app[CAMPAIGNS].read(request[CALLER], campaign_id)
    return web.Response(
        body=campaign.to_json(),
        content_type="application/json",
        headers={"ETag": campaign.etag},
    )


async def preview_template(request: web.Request) -> web.Response:
    sample = schemas.load_sample(await bodies.read(request))
    return web.json_bytes_response(previews.of(sample), dumps=orjson.dumps)
