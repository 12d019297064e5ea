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
        return _json(campaigns.rehearsal(request[CALLER], draft))
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
    return _json(previews.of(sample))


def _json(answer: object) -> web.Response:
    return web.Response(body=orjson.dumps(answer), content_type="application/json")
