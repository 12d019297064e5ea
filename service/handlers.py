"""HTTP handlers of campaigns: load, call, respond."""

from aiohttp import web

from service import schemas
from service.access import TRACE
from service.auth import CALLER
from service.campaigns import CAMPAIGNS


async def create_campaign(request: web.Request) -> web.Response:
    draft = schemas.load_draft(await _body(request))
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


async def _body(request: web.Request) -> bytes:
    """Read the body, whose compression or chunks may turn out to be broken only now."""
    try:
        return await request.read()
    except web.RequestPayloadError as error:
        raise schemas.MalformedBody("The body does not arrive as its headers announce.") from error
