"""Problem documents (RFC 9457): the one shape in which every error leaves the service."""

from dataclasses import dataclass
from http import HTTPStatus

import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from service import (
    access,
    assistants,
    auth,
    backlog,
    bodies,
    campaigns,
    connections,
    edits,
    idempotency,
    invalid,
    limits,
    postgres,
    preconditions,
    slots,
    turns,
)
from service.access import TRACE, Trace

logger = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """What all problems of one kind share; without a `detail` the error's own text is told.

    `closes`: nobody knows where on the connection the next request begins.
    `logged`: a fault of ours is told with its traceback.
    """

    status: HTTPStatus
    slug: str
    title: str
    detail: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    closes: bool = False
    logged: bool = True


KINDS: dict[type[BaseException], Kind] = {
    HttpProcessingError: Kind(
        HTTPStatus.BAD_REQUEST,
        "malformed-request",
        "The request cannot be read",
        detail="The request is not valid HTTP/1.1.",
        closes=True,
    ),
    bodies.Incomplete: Kind(HTTPStatus.BAD_REQUEST, "incomplete-body", "The body is incomplete"),
    bodies.Malformed: Kind(HTTPStatus.BAD_REQUEST, "malformed-body", "The body cannot be read"),
    idempotency.InvalidKey: Kind(
        HTTPStatus.BAD_REQUEST, "invalid-idempotency-key", "The Idempotency-Key cannot be read"
    ),
    preconditions.Invalid: Kind(
        HTTPStatus.BAD_REQUEST, "invalid-precondition", "The precondition cannot be read"
    ),
    auth.Unauthenticated: Kind(
        HTTPStatus.UNAUTHORIZED,
        "unauthenticated",
        "A valid API key is needed",
        headers=(("WWW-Authenticate", "Bearer"),),
    ),
    auth.Forbidden: Kind(HTTPStatus.FORBIDDEN, "forbidden", "The key is not for this"),
    web.HTTPNotFound: Kind(
        HTTPStatus.NOT_FOUND, "not-found", "Not found", detail="There is nothing at this path."
    ),
    campaigns.NotFound: Kind(
        HTTPStatus.NOT_FOUND, "campaign-not-found", "There is no such campaign"
    ),
    web.HTTPMethodNotAllowed: Kind(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Method not allowed",
        detail="This path has other methods; the header Allow lists them.",
    ),
    connections.HeadersTooSlow: Kind(
        HTTPStatus.REQUEST_TIMEOUT,
        "headers-too-slow",
        "The headers take too long",
        closes=True,
    ),
    bodies.TooSlow: Kind(
        HTTPStatus.REQUEST_TIMEOUT,
        "body-too-slow",
        "The body takes too long",
        closes=True,
    ),
    edits.NotNow: Kind(
        HTTPStatus.CONFLICT, "campaign-status", "The status of the campaign does not allow it"
    ),
    preconditions.Failed: Kind(
        HTTPStatus.PRECONDITION_FAILED, "precondition-failed", "The campaign has changed"
    ),
    bodies.TooLarge: Kind(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", "The body is too large"
    ),
    bodies.NotJson: Kind(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "not-json",
        "The body is not announced as JSON",
        headers=(("Accept", "application/json"),),
    ),
    bodies.Encoded: Kind(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "encoded-body",
        "The body is compressed",
        headers=(("Accept-Encoding", "identity"),),
    ),
    invalid.InvalidBody: Kind(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-body", "The body is not acceptable"
    ),
    invalid.InvalidParameters: Kind(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-parameters", "The query is not acceptable"
    ),
    idempotency.KeyReused: Kind(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "idempotency-key-reused",
        "The Idempotency-Key belongs to another request",
    ),
    preconditions.Required: Kind(
        HTTPStatus.PRECONDITION_REQUIRED, "precondition-required", "An If-Match is needed"
    ),
    limits.Exceeded: Kind(HTTPStatus.TOO_MANY_REQUESTS, "too-many-requests", "Too many requests"),
    slots.ShareTaken: Kind(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too-many-at-once",
        "Too many requests at once",
        headers=(("Retry-After", "1"),),
    ),
    turns.Overloaded: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "overloaded",
        "The service is busy",
        headers=(("Retry-After", "1"),),
        logged=False,
    ),
    assistants.Unavailable: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "assistants-unavailable",
        "The assistant cannot be checked",
        detail="Nothing was stored. Try again later.",
        # Sooner it may not even be asked.
        headers=(("Retry-After", f"{assistants.PAUSE_SECONDS:.0f}"),),
        logged=False,
    ),
    backlog.Full: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "outbox-full",
        "Too many events wait for the broker",
        headers=(("Retry-After", f"{backlog.REVIEW_SECONDS:.0f}"),),
        # Told once, when it begins.
        logged=False,
    ),
    connections.HeadersTooLarge: Kind(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "headers-too-large",
        "The headers are too large",
        closes=True,
    ),
    connections.Full: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "too-many-connections",
        "The service has no connection to spare",
        headers=(("Retry-After", "1"),),
        closes=True,
    ),
    postgres.Unavailable: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "unavailable",
        "The service cannot reach its database",
        detail="The request may or may not have taken effect. Try again later.",
        headers=(("Retry-After", "1"),),
    ),
}

OUR_FAULT = Kind(
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
        kind = _kind(error)
        if kind.logged and kind.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.exception("request failed", method=request.method, path=access.shown(request))
        response = document(request[TRACE], error)
        if "Expect" in request.headers:
            # Nobody knows whether the body will come that was asked for, or not.
            response.force_close()
        return response


def document(trace: Trace, error: BaseException) -> web.Response:
    """Tell a caller about an error, and nothing of the inside."""
    kind = _kind(error)
    body = {
        "type": f"urn:problem-type:campaigns:{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.detail or str(error),
        "request_id": trace.request_id,
    }
    if isinstance(error, invalid.Invalid):
        body["errors"] = error.errors
    headers = dict(kind.headers) | {"X-Request-ID": trace.request_id}
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers["Allow"] = error.headers["Allow"]
    if isinstance(error, preconditions.Failed):
        headers["ETag"] = error.etag
    if isinstance(error, limits.Exceeded):
        headers["Retry-After"] = str(error.retry_after_seconds)
    response = web.Response(
        status=kind.status,
        body=orjson.dumps(body),
        content_type=CONTENT_TYPE,
        headers=headers,
    )
    if kind.closes:
        response.force_close()
    return response


def _kind(error: BaseException) -> Kind:
    """The kind of an error's class, or of the nearest above it."""
    return next((KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), OUR_FAULT)
