"""HTTP handlers of campaigns: load, call, respond."""

import orjson
from aiohttp import web

from service import bodies, campaigns, previews, schemas
from service.access import TRACE
from service.auth import CALLER
from service.campaigns import CAMPAIGNS


async def create_campaign(request: web.Request) -> web.Response:
    validate_only = schemas.load_validate_only(request.query)
    draft = schemas.load_draft(await bodies.read(request))
    if validate_only:
        answer = campaigns.rehearsal(request[CALLER], draft)
        return web.json_bytes_response(answer, dumps=orjson.dumps)
    campaign = await request.app[CAMPAIGNS].create_draft(request[CALLER], draft, request[TRACE])
    return web.Response(
        status=201,
        body=campaign.to_json(),
        content_type="application/json",
        headers={
            "Location": f"/api/v1/campaigns/{campaign.id}",
            "ETag": f'"{campaign.version}"',
        },
    )


async def preview_template(request: web.Request) -> web.Response:
    sample = schemas.load_sample(await bodies.read(request))
    return web.json_bytes_response(previews.of(sample), dumps=orjson.dumps)
