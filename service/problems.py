"""Problem documents (RFC 9457): the one shape in which every error leaves the service."""

from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

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
    schemas.MalformedBody: Kind(
        HTTPStatus.BAD_REQUEST, "malformed-body", "The body cannot be read"
    ),
    auth.Unauthenticated: Kind(
        HTTPStatus.UNAUTHORIZED,
        "unauthenticated",
        "A valid API key is needed",
        headers=(("WWW-Authenticate", "Bearer"),),
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
    except web.HTTPException as error:
        return _from_http(request, error)
    except Exception as error:
        kind = KINDS.get(type(error), _OUR_FAULT)
        if kind.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.exception("request failed", method=request.method, path=request.path)
        return _document(request, kind, kind.detail or str(error), _errors(error))


def _errors(error: Exception) -> dict[str, Any]:
    if isinstance(error, schemas.InvalidBody):
        return {"errors": [asdict(problem) for problem in error.problems]}
    return {}


def _from_http(request: web.Request, error: web.HTTPException) -> web.Response:
    """Keep what aiohttp itself decided, such as 404, 405 with `Allow`, or 413."""
    status = HTTPStatus(error.status)
    slug = status.phrase.lower().replace(" ", "-")
    kept = tuple(
        (name, error.headers[name]) for name in ("Allow", "Location") if name in error.headers
    )
    kind = Kind(status, slug, status.phrase, headers=kept)
    return _document(request, kind, f"{status.description or status.phrase}.", {})


def _document(
    request: web.Request, kind: Kind, detail: str, extension: dict[str, Any]
) -> web.Response:
    body = {
        "type": f"urn:problem-type:campaigns:{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "request_id": request[TRACE].request_id,
        **extension,
    }
    return web.Response(
        status=kind.status,
        body=orjson.dumps(body),
        content_type=CONTENT_TYPE,
        headers=dict(kind.headers),
    )
