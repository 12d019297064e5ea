"""Problem documents (RFC 9457): the one shape in which every error leaves the service."""

from dataclasses import dataclass
from http import HTTPStatus

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from service import auth, postgres, schemas
from service.access import TRACE

logger = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """What all problems of one kind share; without a `detail` the error's own text is told."""

    status: HTTPStatus
    slug: str
    title: str
    detail: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


KINDS: dict[type[Exception], Kind] = {
    # The caller went away while it was sending; nobody reads this answer, and nothing is ours.
    ConnectionResetError: Kind(
        HTTPStatus.BAD_REQUEST,
        "incomplete-body",
        "The body is incomplete",
        detail="The connection ended before the body did.",
    ),
    schemas.MalformedBody: Kind(
        HTTPStatus.BAD_REQUEST, "malformed-body", "The body cannot be read"
    ),
    auth.Unauthenticated: Kind(
        HTTPStatus.UNAUTHORIZED,
        "unauthenticated",
        "A valid API key is needed",
        headers=(("WWW-Authenticate", "Bearer"),),
    ),
    web.HTTPNotFound: Kind(
        HTTPStatus.NOT_FOUND, "not-found", "Not found", detail="There is nothing at this path."
    ),
    web.HTTPMethodNotAllowed: Kind(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Method not allowed",
        detail="This path has other methods; the header Allow lists them.",
    ),
    web.HTTPRequestEntityTooLarge: Kind(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", "The body is too large"
    ),
    schemas.InvalidBody: Kind(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-body", "The body is not acceptable"
    ),
    postgres.Unavailable: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "unavailable",
        "The service cannot reach its database",
        detail="It is not sure that the request had no effect. Try again later.",
        headers=(("Retry-After", "1"),),
    ),
}

_OUR_FAULT = Kind(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "internal-error",
    "The service failed",
    detail="The error is logged under this request_id.",
)


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error with a problem document; log once what is not the caller's fault."""
    try:
        return await handler(request)
    except Exception as error:
        kind = KINDS.get(type(error), _OUR_FAULT)
        if kind.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.exception("request failed", method=request.method, path=request.path)
        return _document(request, kind, error)


def _document(request: web.Request, kind: Kind, error: Exception) -> web.Response:
    body = {
        "type": f"urn:problem-type:campaigns:{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.detail or _sentence(error),
        "request_id": request[TRACE].request_id,
    }
    if isinstance(error, schemas.InvalidBody):
        body["errors"] = error.problems
    headers = dict(kind.headers)
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers["Allow"] = error.headers["Allow"]
    return web.Response(
        status=kind.status,
        body=orjson.dumps(body),
        content_type=CONTENT_TYPE,
        headers=headers,
    )


def _sentence(error: Exception) -> str:
    return (error.text or error.reason) if isinstance(error, web.HTTPException) else str(error)
