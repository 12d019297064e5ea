"""HTTP handlers of campaigns: load, call, respond."""

from collections.abc import Callable

import orjson
from aiohttp import web

from service import bodies, idempotency, parameters, preconditions, previews, schemas
from service.access import TRACE
from service.auth import CALLER
from service.campaigns import CAMPAIGNS
from service.edits import EDITS, Edit
from service.limits import LIMITS
from service.listings import Page
from service.lists import LISTS
from service.patches import Patch


async def create_campaign(request: web.Request) -> web.Response:
    validate_only = parameters.load_validate_only(request.query)
    draft = schemas.load_draft(await bodies.read(request))
    attempt = idempotency.attempt(request, draft.stated)
    if validate_only:
        answer = await request.app[CAMPAIGNS].rehearse(request[CALLER], draft)
        return web.json_bytes_response(answer, dumps=orjson.dumps)
    use_case = request.app[CAMPAIGNS].create_draft
    created = await request.app[LIMITS].counted(
        request, lambda: use_case(request[CALLER], draft, request[TRACE], attempt)
    )
    return created.response()


async def duplicate_campaign(request: web.Request) -> web.Response:
    parameters.load_none(request.query)
    patch = schemas.load_merge_patch(await bodies.read(request, otherwise={}))
    attempt = idempotency.attempt(request, patch.said)
    use_case, campaign_id = request.app[CAMPAIGNS].duplicate, _id(request)
    created = await request.app[LIMITS].counted(
        request, lambda: use_case(request[CALLER], campaign_id, patch, request[TRACE], attempt)
    )
    return created.response()


async def read_campaign(request: web.Request) -> web.Response:
    parameters.load_none(request.query)
    campaign = await request.app[CAMPAIGNS].read(request[CALLER], _id(request))
    if preconditions.is_known(request, campaign):
        return web.Response(status=304, headers={"ETag": campaign.etag})
    return web.Response(
        body=campaign.to_json(),
        content_type="application/json",
        headers={"ETag": campaign.etag},
    )


async def list_campaigns(request: web.Request) -> web.Response:
    listing = parameters.load_listing(request.query)
    return _page(request, await request.app[LISTS].page(request[CALLER], listing))


async def list_history(request: web.Request) -> web.Response:
    window = parameters.load_window(request.query)
    page = await request.app[LISTS].history(request[CALLER], _id(request), window)
    return _page(request, page)


def _page(request: web.Request, page: Page) -> web.Response:
    return web.Response(
        body=page.to_json(),
        content_type="application/json",
        headers={"Link": page.links(request.rel_url)},
    )


async def patch_campaign(request: web.Request) -> web.Response:
    return await _updated(request, schemas.load_merge_patch(await bodies.read(request)))


async def put_campaign(request: web.Request) -> web.Response:
    return await _updated(request, schemas.load_replacement(await bodies.read(request)))


async def _updated(request: web.Request, patch: Patch) -> web.Response:
    edit = _edit(request, patch.said)
    return (await request.app[EDITS].update(edit, patch)).response()


async def delete_campaign(request: web.Request) -> web.Response:
    schemas.load_nothing(await bodies.read(request, otherwise={}))
    return (await request.app[EDITS].delete(_edit(request, dict))).response()


def _edit(request: web.Request, said: Callable[[], dict[str, object]]) -> Edit:
    parameters.load_none(request.query)
    return Edit(
        caller=request[CALLER],
        campaign_id=_id(request),
        precondition=preconditions.of(request),
        trace=request[TRACE],
        attempt=idempotency.attempt(request, said),
    )


def _id(request: web.Request) -> int:
    return int(request.match_info["id"])


async def preview_template(request: web.Request) -> web.Response:
    parameters.load_none(request.query)
    sample = schemas.load_sample(await bodies.read(request))
    return web.json_bytes_response(previews.of(sample), dumps=orjson.dumps)
