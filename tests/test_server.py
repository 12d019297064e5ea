"""The HTTP server, where no middleware is in charge."""

from collections.abc import AsyncIterator

import pytest
import structlog
from aiohttp import ClientSession, web
from aiohttp.typedefs import Handler

from service import server
from service.app import create_app
from service.settings import Settings


@web.middleware
async def crash(request: web.Request, handler: Handler) -> web.StreamResponse:
    await handler(request)
    raise ZeroDivisionError("the inside")


@pytest.fixture
async def crashing_url(settings: Settings) -> AsyncIterator[str]:
    app = create_app(settings)
    app.middlewares.insert(0, crash)
    runner = server._Runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield "http://{}:{}/healthz".format(*runner.addresses[0])
    await runner.cleanup()


async def test_what_no_middleware_catches_is_told_and_logged_under_one_id(
    crashing_url: str,
) -> None:
    with structlog.testing.capture_logs() as logged:
        async with ClientSession() as client, client.get(crashing_url) as response:
            document = await response.json(content_type="application/problem+json")
    [entry] = [entry for entry in logged if entry["log_level"] == "error"]
    assert response.status == document["status"] == 500
    assert "inside" not in document["detail"]
    assert isinstance(entry["exc_info"], ZeroDivisionError)
    assert entry["request_id"] == document["request_id"] == response.headers["X-Request-ID"]
