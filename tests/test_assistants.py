"""The check of `assistant_id`, with a real HTTP server as the service that knows the assistants."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import structlog
from aiohttp import BasicAuth, web

from service import assistants, invalid, keys, turns
from service.app import create_app
from service.assistants import ASSISTANTS, Assistants
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import NOWHERE, Client, create_key
from tests.consumers import eventually
from tests.test_create import EXAMPLE

CREATE = "/api/v1/campaigns"
PATTERN = "/organizations/{organization_id}/assistants/{assistant_id}"

Start = Callable[..., Awaitable[Client]]


class Directory:
    """A service that knows one assistant of one organization, and who asked it for which."""

    def __init__(self, organization: int) -> None:
        self.known = {(organization, EXAMPLE["assistant_id"])}
        self.status: int | None = None
        self.asked: list[tuple[int, int]] = []
        self.headers: list[dict[str, str]] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.address = ""

    @property
    def url(self) -> str:
        return f"http://{self.address}{PATTERN}"

    async def answer(self, request: web.Request) -> web.Response:
        organization, assistant = map(int, request.match_info.values())
        self.asked.append((organization, assistant))
        self.headers.append(dict(request.headers))
        status = self.status or (200 if (organization, assistant) in self.known else 404)
        await self.answering.wait()
        return web.Response(status=status, headers={"Location": "/elsewhere", "Set-Cookie": "a=b"})


@pytest.fixture
async def directory(organization: int, aiohttp_server: Any) -> AsyncIterator[Directory]:
    running = Directory(organization)
    app = web.Application()
    app.router.add_get(PATTERN, running.answer)
    # Its own log has the paths that it was asked for.
    server = await aiohttp_server(app, access_log=None)
    running.address = f"127.0.0.1:{server.port}"
    yield running
    running.answering.set()


@pytest.fixture
def start(settings: Settings, api_key: str, aiohttp_client: Any, directory: Directory) -> Start:
    """Start a service that asks the directory, with these settings, and answer a client of it."""

    async def start(**changes: Any) -> Client:
        asking = {"amqp_url": NOWHERE, "assistants_url": directory.url} | changes
        client: Client = await aiohttp_client(
            create_app(replace(settings, **asking)), headers={"Authorization": f"Bearer {api_key}"}
        )
        return client

    return start


def of(client: Client) -> Assistants:
    assert client.app is not None
    return client.app[ASSISTANTS]


async def create(client: Client, assistant: int = EXAMPLE["assistant_id"], **headers: str) -> int:
    body = EXAMPLE | {"assistant_id": assistant}
    response = await client.post(CREATE, json=body, headers=headers)
    await response.read()
    return response.status


_strangers = itertools.count(1000)


async def fail(checks: Assistants, organization: int, times: int) -> None:
    """Check assistants that nobody has asked for, and have nobody tell."""
    for _ in range(times):
        with pytest.raises((assistants.Unavailable, turns.Overloaded)):
            await checks.check(organization, next(_strangers))


async def stored(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM campaigns"))


async def test_nobody_is_asked_unless_a_setting_says_whom(
    start: Start, directory: Directory
) -> None:
    client = await start(assistants_url=Settings().assistants_url)
    assert await create(client, assistant=7) == 201
    assert directory.asked == []
    assert of(client)._session is None


async def test_an_assistant_of_the_organization_is_accepted(
    start: Start, directory: Directory, organization: int
) -> None:
    assert await create(await start()) == 201
    assert directory.asked == [(organization, EXAMPLE["assistant_id"])]
    assert directory.headers[0]["Accept"] == "application/json"


async def test_an_unknown_assistant_is_refused_at_its_field_and_nothing_is_stored(
    start: Start, connection: Connection
) -> None:
    response = await (await start()).post(CREATE, json=EXAMPLE | {"assistant_id": 7})
    document = await response.json()
    assert response.status == 422
    assert document["type"] == "urn:problem-type:campaigns:invalid-body"
    assert document["detail"] == "1 problem in the body."
    assert document["errors"] == [
        {"pointer": "#/assistant_id", "detail": "Is not an assistant of your organization."}
    ]
    assert await stored(connection) == 0


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (403, "the directory tells that it is another organization's"),
        (404, "it does not"),
        (410, "it was there"),
    ],
)
async def test_an_assistant_of_others_is_refused_as_an_unknown_one(
    start: Start, directory: Directory, status: int, reason: str
) -> None:
    client = await start()
    headers = {"X-Request-ID": "the-same"}
    unknown = await client.post(CREATE, json=EXAMPLE | {"assistant_id": 7}, headers=headers)
    directory.status = status
    foreign = await client.post(CREATE, json=EXAMPLE | {"assistant_id": 8}, headers=headers)
    assert (unknown.status, await unknown.read()) == (foreign.status, await foreign.read()), reason


async def test_validate_only_checks_the_assistant(start: Start) -> None:
    client = await start()
    known = await client.post(f"{CREATE}?validate_only=true", json=EXAMPLE)
    wrong = EXAMPLE | {"assistant_id": 7}
    unknown = await client.post(f"{CREATE}?validate_only=true", json=wrong)
    assert (known.status, unknown.status) == (200, 422)


async def test_nobody_is_asked_for_a_body_that_is_wrong_anyway(
    start: Start, directory: Directory
) -> None:
    response = await (await start()).post(CREATE, json=EXAMPLE | {"campaign_type": "fax"})
    assert response.status == 422
    assert directory.asked == []


async def test_nobody_is_asked_for_a_preview(start: Start, directory: Directory) -> None:
    client = await start()
    response = await client.post(f"{CREATE}/template-preview", json={"template": "Hi"})
    assert response.status == 200
    assert directory.asked == []


async def test_a_known_assistant_is_asked_for_once(start: Start, directory: Directory) -> None:
    client = await start()
    assert [await create(client) for _ in range(3)] == [201] * 3
    assert len(directory.asked) == 1


async def test_an_assistant_that_many_ask_for_at_once_is_asked_for_once(
    start: Start, directory: Directory, organization: int
) -> None:
    checks = of(await start())
    await asyncio.gather(*(checks.check(organization, 123) for _ in range(50)))
    assert len(directory.asked) == 1


async def test_who_goes_away_takes_no_question_from_the_others(
    start: Start, directory: Directory, organization: int
) -> None:
    checks = of(await start())
    first, second = (asyncio.create_task(checks.check(organization, 123)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert first.cancelled()
    assert len(directory.asked) == 1


async def test_what_one_organization_has_says_nothing_about_another(
    start: Start, directory: Directory, organization: int, connection: Connection
) -> None:
    other = await create_key(connection, keys.Grant(organization + 1, "other"))
    client = await start()
    assert await create(client) == 201
    assert await create(client, Authorization=f"Bearer {other}") == 422
    assert [asked for asked, _ in directory.asked] == [organization, organization + 1]


async def test_a_known_assistant_is_asked_for_again_after_a_while(
    start: Start, directory: Directory
) -> None:
    client = await start(assistants_cache_seconds=0.1)
    assert await create(client) == 201
    directory.known.clear()

    async def is_refused() -> bool:
        return await create(client) == 422

    await eventually(is_refused, 10, "the end of what was remembered")


async def test_an_unknown_assistant_is_asked_for_once_as_well(
    start: Start, directory: Directory
) -> None:
    client = await start()
    assert [await create(client, assistant=7) for _ in range(2)] == [422] * 2
    assert len(directory.asked) == 1


async def test_an_unknown_assistant_is_forgotten_sooner_than_a_known_one(
    start: Start, directory: Directory, organization: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assistants, "_UNKNOWN_SECONDS", 0.1)
    client = await start()
    assert [await create(client, assistant) for assistant in (123, 7)] == [201, 422]
    directory.known.add((organization, 7))

    async def is_accepted() -> bool:
        return await create(client, assistant=7) == 201

    await eventually(is_accepted, 10, "the end of what was remembered")
    assert await create(client) == 201
    assert directory.asked.count((organization, 123)) == 1


def test_an_unknown_assistant_is_remembered_for_at_most_five_seconds() -> None:
    assert assistants._UNKNOWN_SECONDS == 5


async def test_what_is_remembered_for_less_is_so_whether_known_or_not(
    start: Start, directory: Directory, organization: int
) -> None:
    client = await start(assistants_cache_seconds=0.1)
    assert await create(client, assistant=7) == 422
    directory.known.add((organization, 7))

    async def is_accepted() -> bool:
        return await create(client, assistant=7) == 201

    await eventually(is_accepted, 3, "the end of what was remembered, of the 5 seconds otherwise")


async def test_the_pairs_that_are_remembered_fill_no_memory(
    start: Start, organization: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assistants, "_REMEMBERED", 10)
    checks = of(await start())
    for assistant in range(1000, 1030):
        with pytest.raises(invalid.InvalidBody):
            await checks.check(organization, assistant)
    assert len(checks._answers) == 10


async def test_a_directory_that_does_not_answer_costs_no_more_than_the_deadline(
    start: Start, directory: Directory
) -> None:
    directory.answering.clear()
    client = await start(assistants_timeout_seconds=0.2)
    async with asyncio.timeout(5):
        assert await create(client) == 503
    assert len(directory.asked) == 1


async def test_the_wait_for_a_turn_is_within_the_deadline_and_no_failure_of_the_directory(
    start: Start, directory: Directory, organization: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assistants, "_TURNS", 1)
    directory.answering.clear()
    checks = of(await start(assistants_timeout_seconds=0.5))
    async with asyncio.timeout(5):
        await asyncio.gather(*(fail(checks, organization, 1) for _ in range(20)))
    assert len(directory.asked) < 5
    directory.answering.set()
    await checks.check(organization, 123)


async def test_what_one_organization_does_to_the_directory_is_not_held_against_others(
    start: Start, directory: Directory, organization: int
) -> None:
    checks = of(await start(assistants_timeout_seconds=0.5))
    directory.status = 500
    await fail(checks, organization + 1, 5)
    directory.status = None
    with pytest.raises(assistants.Unavailable, match="not asked"):
        await checks.check(organization + 1, 123)
    await checks.check(organization, 123)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (500, "it failed"),
        (502, "what is behind it failed"),
        (503, "it says so"),
        (400, "it does not understand our question"),
        (401, "it does not know us, which says nothing about the assistant"),
        (429, "it has too much to do"),
        (302, "a redirect may lead anywhere, to a page for logging in with 200"),
        (304, "we have nothing that could be unmodified"),
    ],
)
async def test_an_answer_that_says_neither_yes_nor_no_refuses_and_stores_nothing(
    start: Start, directory: Directory, connection: Connection, status: int, reason: str
) -> None:
    directory.status = status
    response = await (await start()).post(CREATE, json=EXAMPLE)
    document = await response.json()
    assert response.status == 503, reason
    assert document["type"] == "urn:problem-type:campaigns:assistants-unavailable"
    assert document["detail"] == "Nothing was stored. Try again later."
    assert int(response.headers["Retry-After"]) == assistants.PAUSE_SECONDS
    assert await stored(connection) == 0


@pytest.mark.parametrize("status", [200, 202, 204, 206])
async def test_any_success_is_a_yes(start: Start, directory: Directory, status: int) -> None:
    directory.status = status
    assert await create(await start(), assistant=7) == 201


async def test_a_redirect_is_not_followed(start: Start, aiohttp_server: Any) -> None:
    visited = []

    async def elsewhere(request: web.Request) -> web.Response:
        visited.append(request.path)
        if request.path == "/elsewhere":
            return web.Response()
        raise web.HTTPFound("/elsewhere")

    app = web.Application()
    app.router.add_get("/{path:.*}", elsewhere)
    server = await aiohttp_server(app)
    client = await start(assistants_url=f"http://127.0.0.1:{server.port}{PATTERN}")
    assert await create(client) == 503
    assert "/elsewhere" not in visited


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b"", "it hangs up"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "it is something else"),
        (b"HTTP/1.1 200", "it is cut off"),
    ],
)
async def test_what_is_no_http_refuses(start: Start, says: bytes, reason: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(says)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = await start(assistants_url=f"http://127.0.0.1:{port}{PATTERN}")
        assert await create(client) == 503, reason


async def test_a_directory_that_is_not_there_refuses(start: Start) -> None:
    assert await create(await start(assistants_url=f"http://127.0.0.1:1{PATTERN}")) == 503


async def test_a_directory_that_is_down_may_be_set_to_accept(
    start: Start, directory: Directory, connection: Connection
) -> None:
    directory.status = 500
    assert await create(await start(assistants_unreachable="accept")) == 201
    assert await stored(connection) == 1


async def test_also_then_an_unknown_assistant_is_refused(start: Start) -> None:
    assert await create(await start(assistants_unreachable="accept"), assistant=7) == 422


async def test_what_was_not_checked_is_not_remembered_as_known(
    start: Start, directory: Directory
) -> None:
    client = await start(assistants_unreachable="accept")
    directory.status = 500
    assert await create(client, assistant=7) == 201
    directory.status = None
    assert await create(client, assistant=7) == 422


async def test_each_failed_call_and_each_pause_is_logged_once_and_no_request_within(
    start: Start, directory: Directory
) -> None:
    directory.status = 500
    client = await start(assistants_unreachable="accept")
    with structlog.testing.capture_logs() as logged:
        assert [await create(client) for _ in range(9)] == [201] * 9
    told = [(entry["event"], entry.get("error")) for entry in logged]
    assert [event for event in told if "assistants" in event[0]] == [
        *[("assistants not checked", "status 500")] * 5,
        ("assistants not asked for a while", None),
    ]


async def test_after_some_failures_in_a_row_nobody_is_asked(
    start: Start, directory: Directory, organization: int
) -> None:
    directory.status = 500
    checks = of(await start())
    await fail(checks, organization, 8)
    assert len(directory.asked) == assistants.FAILURES == 5


async def test_failures_that_are_not_in_a_row_do_no_harm(
    start: Start, directory: Directory, organization: int
) -> None:
    checks = of(await start())
    for assistant in (1000, 1001):
        directory.status = 500
        await fail(checks, organization, 4)
        directory.status = 200
        await checks.check(organization, assistant)
    assert len(directory.asked) == 10


async def test_an_unknown_assistant_is_no_failure(
    start: Start, directory: Directory, organization: int
) -> None:
    checks = of(await start())
    for assistant in range(1000, 1010):
        with pytest.raises(invalid.InvalidBody):
            await checks.check(organization, assistant)
    assert len(directory.asked) == 10


async def test_what_is_remembered_is_known_while_nobody_is_asked(
    start: Start, directory: Directory, organization: int
) -> None:
    client = await start()
    assert await create(client) == 201
    directory.status = 500
    await fail(of(client), organization, 5)
    assert [await create(client, assistant) for assistant in (123, 7)] == [201, 503]


@pytest.fixture
async def paused(
    start: Start, directory: Directory, organization: int, monkeypatch: pytest.MonkeyPatch
) -> Assistants:
    """Checks that have failed; the pause is soon over."""
    monkeypatch.setattr(assistants, "PAUSE_SECONDS", 0.2)
    directory.status = 500
    checks = of(await start(assistants_timeout_seconds=20.0))
    await fail(checks, organization, 5)
    directory.asked.clear()
    return checks


async def until_asked(checks: Assistants, directory: Directory, organization: int) -> None:
    """Check until the pause is over and the directory was asked once."""

    async def is_asked() -> bool:
        with suppress(assistants.Unavailable):
            await checks.check(organization, 123)
        return len(directory.asked) == 1

    await eventually(is_asked, 10, "the end of the pause")


async def test_a_directory_that_is_back_is_asked_again(
    paused: Assistants, directory: Directory, organization: int
) -> None:
    directory.status = 200
    await until_asked(paused, directory, organization)
    await asyncio.gather(*(paused.check(organization, assistant) for assistant in range(1, 11)))
    assert len(directory.asked) == 11


async def test_one_that_is_still_down_is_left_alone_for_another_while(
    paused: Assistants,
    directory: Directory,
    organization: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assistants, "PAUSE_SECONDS", 60.0)
    await until_asked(paused, directory, organization)
    await fail(paused, organization, 5)
    assert len(directory.asked) == 1


async def begin_trial(
    checks: Assistants, directory: Directory, organization: int
) -> asyncio.Task[None]:
    """Have one check wait for an answer after the pause."""
    directory.answering.clear()
    trials: list[asyncio.Task[None]] = []

    async def has_begun() -> bool:
        if not trials or trials[0].done():
            if trials:
                assert isinstance(trials.pop().exception(), assistants.Unavailable)
            trials.append(asyncio.create_task(checks.check(organization, 123)))
        return len(directory.asked) == 1

    await eventually(has_begun, 10, "the end of the pause")
    return trials[0]


async def test_one_caller_at_a_time_tries_whether_it_is_back(
    paused: Assistants, directory: Directory, organization: int
) -> None:
    directory.status = 200
    trial = await begin_trial(paused, directory, organization)
    await asyncio.gather(*(fail(paused, organization, 1) for _ in range(20)))
    assert len(directory.asked) == 1
    directory.answering.set()
    await trial
    await paused.check(organization, 7)


async def test_a_question_that_is_cancelled_while_it_tries_decides_nothing(
    paused: Assistants, directory: Directory, organization: int
) -> None:
    trial = await begin_trial(paused, directory, organization)
    paused._flights._under_way[organization, 123].cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    directory.asked.clear()
    second = await begin_trial(paused, directory, organization)
    await fail(paused, organization, 5)
    assert len(directory.asked) == 1
    directory.answering.set()
    with pytest.raises(assistants.Unavailable, match="status 500"):
        await second


async def test_a_question_that_is_cancelled_is_no_failure(
    start: Start, directory: Directory, organization: int
) -> None:
    directory.answering.clear()
    checks = of(await start(assistants_timeout_seconds=20.0))
    gone = [asyncio.create_task(checks.check(organization, number)) for number in range(1, 11)]
    await eventually(lambda: len(directory.asked) == 10, 10, "ten questions")
    for question in checks._flights._under_way.values():
        question.cancel()
    await asyncio.wait(gone)
    directory.answering.set()
    await checks.check(organization, 123)


async def test_an_answer_from_before_the_pause_does_not_end_it(
    start: Start, directory: Directory, organization: int
) -> None:
    checks = of(await start(assistants_timeout_seconds=20.0))
    directory.answering.clear()
    early = asyncio.create_task(checks.check(organization, 123))
    await eventually(lambda: len(directory.asked) == 1, 10, "a question")
    held, directory.answering = directory.answering, asyncio.Event()
    directory.answering.set()
    directory.status = 500
    await fail(checks, organization, 5)
    held.set()
    await early
    await fail(checks, organization, 1)
    assert len(directory.asked) == 6


async def test_a_failure_from_before_the_pause_does_not_begin_another(
    start: Start, directory: Directory, organization: int
) -> None:
    directory.status = 500
    directory.answering.clear()
    checks = of(await start(assistants_timeout_seconds=20.0))
    under_way = asyncio.gather(*(fail(checks, organization, 1) for _ in range(15)))
    await eventually(lambda: len(directory.asked) == 15, 10, "15 questions")
    with structlog.testing.capture_logs() as logged:
        directory.answering.set()
        await under_way
    events = [entry["event"] for entry in logged]
    assert events.count("assistants not checked") == 15
    assert events.count("assistants not asked for a while") == 1


async def test_a_user_and_a_password_in_the_url_are_sent(
    start: Start, directory: Directory
) -> None:
    url = directory.url.replace("//", "//us%40er:hunter%2F2@")
    assert await create(await start(assistants_url=url)) == 201
    sent = BasicAuth.decode(directory.headers[0]["Authorization"])
    assert (sent.login, sent.password) == ("us@er", "hunter/2")


async def test_no_cookie_goes_from_one_answer_to_the_next_question(
    start: Start, directory: Directory
) -> None:
    # Cookies of addresses are never kept.
    client = await start(assistants_url=directory.url.replace("127.0.0.1", "localhost"))
    assert [await create(client, assistant) for assistant in (7, 8)] == [422, 422]
    assert not any("Cookie" in headers for headers in directory.headers)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": 500}, "an answer"),
        ({"address": "127.0.0.1:1"}, "no connection"),
    ],
)
async def test_the_url_is_neither_logged_nor_answered(
    start: Start,
    directory: Directory,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    reason: str,
) -> None:
    for name, value in changes.items():
        setattr(directory, name, value)
    url = directory.url.replace("//", "//user:hunter2@") + "?token=hunter2"
    client = await start(assistants_url=url)
    caplog.set_level("DEBUG")
    with structlog.testing.capture_logs() as logged:
        response = await client.post(CREATE, json=EXAMPLE)
        answered = await response.text()
    assert response.status == 503, reason
    told = str(logged) + caplog.text + answered
    assert "assistants not checked" in told
    assert "hunter2" not in told
    assert "/assistants/123" not in told


@pytest.mark.parametrize(
    ("status", "refused", "reason"),
    [(404, 422, "the assistant was deleted since"), (500, 503, "nobody can tell any more")],
)
async def test_a_repeated_create_is_answered_as_the_first_whatever_became_of_the_assistant(
    start: Start,
    directory: Directory,
    connection: Connection,
    status: int,
    refused: int,
    reason: str,
) -> None:
    key = {"Idempotency-Key": "a"}
    first = await (await start()).post(CREATE, json=EXAMPLE, headers=key)
    directory.status = status
    # One that remembers no assistant.
    client = await start()
    assert await create(client) == refused
    again = await client.post(CREATE, json=EXAMPLE, headers=key)
    assert (again.status, await again.read()) == (201, await first.read()), reason
    other = await client.post(CREATE, json=EXAMPLE, headers={"Idempotency-Key": "b"})
    assert other.status == refused
    await connection.execute("UPDATE idempotency_records SET created_at = now() - '25 h'::interval")
    too_late = await client.post(CREATE, json=EXAMPLE, headers=key)
    assert too_late.status == refused
    assert await stored(connection) == 1


@pytest.mark.parametrize(
    ("patch", "status", "questions", "reason"),
    [
        ({"name": "New"}, 200, 1, "the assistant was accepted with the campaign"),
        ({"assistant_id": EXAMPLE["assistant_id"]}, 200, 1, "it is the same"),
        ({"assistant_id": 7}, 422, 2, "another one, which nobody knows"),
    ],
)
async def test_an_update_asks_for_an_assistant_that_is_new(
    start: Start,
    directory: Directory,
    connection: Connection,
    patch: dict[str, Any],
    status: int,
    questions: int,
    reason: str,
) -> None:
    client = await start()
    await create(client)
    campaign_id = await connection.fetchval("SELECT id FROM campaigns")
    answer = await client.patch(f"{CREATE}/{campaign_id}", json=patch)
    assert (answer.status, len(directory.asked)) == (status, questions), reason
    if status == 422:
        assert (await answer.json())["errors"] == [
            {"pointer": "#/assistant_id", "detail": "Is not an assistant of your organization."}
        ]


async def test_a_duplicate_asks_as_a_create_does(start: Start, connection: Connection) -> None:
    client = await start()
    await create(client)
    campaign_id = await connection.fetchval("SELECT id FROM campaigns")
    answer = await client.post(f"{CREATE}/{campaign_id}/duplicate", json={"assistant_id": 7})
    assert answer.status == 422
    assert await stored(connection) == 1
