"""Whatever connections do, they are bounded, and who does nothing strange does not notice.

Each limit is met where no other is near: a target has either little time or little room.
"""

import http.client
import json
import os
import re
import resource
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from dev.processes import steady_port
from service import keys
from tests.conftest import NOWHERE
from tests.processes import ROOT, until
from tests.targets import StartTarget, Target
from tests.traffic import NormalTraffic

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
BEGUN = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: "

STATUS = rb"HTTP/1\.[01] (\d+) "

MOST_BYTES = 4096

TIMES = (
    "http_header_timeout_seconds",
    "http_body_timeout_seconds",
    "http_answer_timeout_seconds",
    "http_idle_seconds",
)


@pytest.fixture(scope="module")
def hurried(start_target: StartTarget) -> Target:
    """It has no time, but for a connection that was used."""
    times = dict.fromkeys(TIMES, 1) | {"http_idle_seconds": 600}
    return start_target("hurried", **times, http_header_bytes=MOST_BYTES)


@pytest.fixture(scope="module")
def crowded(start_target: StartTarget) -> Target:
    """It has all the time, and as much room as by default."""
    return start_target("crowded", **dict.fromkeys(TIMES, 600), http_connections=1000)


@pytest.fixture
def tiny(start_target: StartTarget, request: pytest.FixtureRequest) -> Target:
    """It has all the time, but hardly any room."""
    name = f"tiny_{abs(hash(request.node.name))}"
    return start_target(name, **dict.fromkeys(TIMES, 600), http_connections=10)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Connections to be closed at the end."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process open thousands of connections, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def post(target: Target, *headers: str) -> bytes:
    """The head of a POST, without an end."""
    lines = ["POST /api/v1/campaigns HTTP/1.1", "Host: x", "Content-Type: application/json"]
    lines += [f"Authorization: Bearer {target.api_key}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n"


def answer(connection: socket.socket) -> int:
    """The status of the next answer."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status


def everything(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as stream:
        return stream.read()


def refusal(connection: socket.socket) -> tuple[int, str]:
    """The status and the kind of a problem document, behind which the connection is closed."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    document = json.loads(response.read())
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.will_close
    assert document["status"] == response.status
    assert document["request_id"] == response.headers["X-Request-ID"]
    assert is_closed(connection)
    return response.status, document["type"].rpartition(":")[2]


def is_closed(connection: socket.socket) -> bool:
    """Whether nothing comes before the end, which may take as long as a socket's timeout."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def is_over(connection: socket.socket) -> bool:
    """Whether the service has closed it already, whatever it said before."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


def trickle(connection: socket.socket) -> None:
    """Send one byte at a time, until there is an answer or an end."""

    def something_comes() -> bool:
        with suppress(ConnectionError):
            connection.send(b"x")
        return bool(select.select([connection], [], [], 0)[0])

    until(something_comes, 30, lambda: "the service still waits")


def test_headers_that_trickle_in_are_waited_for_no_longer_than_allowed(hurried: Target) -> None:
    with NormalTraffic(hurried) as traffic, hurried.connect() as connection:
        connection.sendall(BEGUN)
        trickle(connection)
        assert refusal(connection) == (408, "headers-too-slow")
        traffic.goes_on()


def test_so_are_those_of_a_later_request(hurried: Target) -> None:
    with NormalTraffic(hurried) as traffic, hurried.connect() as connection:
        connection.sendall(HEALTHZ)
        assert answer(connection) == 200
        connection.sendall(BEGUN)
        trickle(connection)
        assert refusal(connection) == (408, "headers-too-slow")
        traffic.goes_on()


def test_so_are_those_that_begin_in_the_packet_of_an_earlier_request(hurried: Target) -> None:
    with NormalTraffic(hurried) as traffic, hurried.connect() as connection:
        connection.sendall(HEALTHZ + BEGUN)
        assert answer(connection) == 200
        assert refusal(connection) == (408, "headers-too-slow")
        traffic.goes_on()


def test_headers_that_stop_are_waited_for_no_longer(hurried: Target) -> None:
    with NormalTraffic(hurried) as traffic, hurried.connect() as connection:
        connection.sendall(b"G")
        assert refusal(connection) == (408, "headers-too-slow")
        traffic.goes_on()


def test_a_connection_without_a_request_is_closed_without_an_answer(hurried: Target) -> None:
    with NormalTraffic(hurried) as traffic, hurried.connect() as connection:
        assert is_closed(connection)
        traffic.goes_on()


def test_a_connection_is_closed_when_it_has_been_idle_after_a_request(
    start_target: StartTarget,
) -> None:
    idle = start_target("idle", **dict.fromkeys(TIMES, 600) | {"http_idle_seconds": 2})
    with NormalTraffic(idle) as traffic, idle.connect() as connection:
        connection.sendall(HEALTHZ)
        assert answer(connection) == 200
        assert is_closed(connection)
        traffic.goes_on()


def test_a_body_that_trickles_in_is_waited_for_no_longer_than_allowed(hurried: Target) -> None:
    with NormalTraffic(hurried) as traffic, hurried.connect() as connection:
        connection.sendall(post(hurried, "Content-Length: 100000") + b"\r\n")
        trickle(connection)
        assert refusal(connection) == (408, "body-too-slow")
        traffic.goes_on()


def test_a_body_that_was_refused_unread_is_waited_for_no_longer(hurried: Target) -> None:
    head = b"POST /api/v1/campaigns HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    with NormalTraffic(hurried) as traffic, hurried.connect() as connection:
        connection.sendall(head)
        assert answer(connection) == 401
        trickle(connection)
        assert is_closed(connection)
        traffic.goes_on()


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET /" + b"HOSTILE" * 1000],
        [BEGUN + b"HOSTILE" * 1000],
        [b"GET / HTTP/1.1\r\n", b"HOSTILE" * 1000],
        [b"GET / HTTP/1.1\r\nHost: x\r\n" + b"HOSTILE: x\r\n" * 1000 + b"\r\n"],
        [b"GET / HTTP/1.1\r\nHost: x\r\n", *[b"HOSTILE: x\r\n" * 5000] * 500],
        [b"\r\n" * MOST_BYTES],
    ],
    ids=["a line", "a field", "a name", "many fields", "an endless stream", "nothing but lines"],
)
def test_headers_that_are_too_large_are_refused_and_neither_kept_nor_logged(
    hurried: Target, parts: list[bytes]
) -> None:
    before = hurried.peak_memory()
    with NormalTraffic(hurried) as traffic, hurried.connect() as connection:
        # It may be refused before all of it is sent.
        with suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
        assert refusal(connection) == (431, "headers-too-large")
        traffic.goes_on()
    assert hurried.peak_memory() - before < 10_000_000
    assert b"HOSTILE" not in hurried.log.read_bytes()


@pytest.mark.parametrize("used", [False, True], ids=["a new connection", "a used one"])
@pytest.mark.parametrize("cut", [1, 1000, MOST_BYTES - 1, MOST_BYTES])
def test_the_limit_of_headers_is_exact_however_they_arrive(
    hurried: Target, used: bool, cut: int
) -> None:
    largest = BEGUN + b"x" * (MOST_BYTES - len(BEGUN) - 4) + b"\r\n\r\n"
    one_more = BEGUN + b"x" + largest[len(BEGUN) :]
    with hurried.connect() as connection:
        if used:
            connection.sendall(HEALTHZ)
            assert answer(connection) == 200
        for _ in range(2):
            connection.sendall(largest[:cut])
            connection.sendall(largest[cut:])
            assert answer(connection) == 200
        for part in (one_more[:cut], one_more[cut:]):
            connection.sendall(part)
        assert refusal(connection) == (431, "headers-too-large")


@pytest.mark.parametrize("cut", [len(HEALTHZ), len(HEALTHZ) - 1, len(HEALTHZ) - 3, 1000])
def test_the_limit_of_headers_is_exact_also_behind_another_request(
    hurried: Target, cut: int
) -> None:
    begun = LAST[:-2] + b"X: "
    largest = begun + b"x" * (MOST_BYTES - len(begun) - 4) + b"\r\n\r\n"
    one_more = begun + b"x" + largest[len(begun) :]
    for head, status in ((largest, b"200"), (one_more, b"431")):
        sent = HEALTHZ + head
        with hurried.connect() as connection:
            connection.sendall(sent[:cut])
            connection.sendall(sent[cut:])
            assert re.findall(STATUS, everything(connection)) == [b"200", status]


@pytest.mark.parametrize(
    ("announced", "body"),
    [
        ("Content-Length: 500000", b" " * 500_000),
        ("Transfer-Encoding: chunked", b"7a120\r\n" + b" " * 500_000 + b"\r\n0\r\n\r\n"),
    ],
)
def test_a_large_body_is_no_header(hurried: Target, announced: str, body: bytes) -> None:
    with hurried.connect() as connection:
        connection.sendall(post(hurried, announced) + b"\r\n" + body + LAST)
        assert re.findall(STATUS, everything(connection)) == [b"400", b"200"]


@pytest.mark.parametrize("size", [MOST_BYTES - 4, MOST_BYTES, 10 * MOST_BYTES])
def test_what_is_no_http_and_as_large_as_may_be_is_refused(hurried: Target, size: int) -> None:
    with hurried.connect() as connection:
        with suppress(ConnectionError):
            connection.sendall(b"?" * size)
        assert refusal(connection) == (400, "malformed-request")


def test_requests_in_one_packet_are_answered_each(hurried: Target) -> None:
    with hurried.connect() as connection:
        connection.sendall(HEALTHZ * 500 + LAST)
        assert re.findall(STATUS, everything(connection)) == [b"200"] * 501


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("sent", [b"", b"G", HEALTHZ], ids=["silent", "half a head", "used"])
def test_thousands_of_connections_keep_nobody_out(
    crowded: Target, opened: ExitStack, sent: bytes
) -> None:
    told = crowded.log.read_bytes().count(b"connections are short")
    with NormalTraffic(crowded) as traffic:
        connections = []
        for _ in range(2500):
            connections.append(opened.enter_context(crowded.connect()))
            connections[-1].sendall(sent)
        traffic.goes_on()
        until(lambda: sum(map(is_over, connections)) >= 1500, 30, lambda: "more are open")
        traffic.goes_on()

    def is_told() -> bool:
        return crowded.log.read_bytes().count(b"connections are short") > told

    until(is_told, 30, lambda: "no word")


def test_the_connection_that_has_been_idle_longest_makes_room(
    tiny: Target, opened: ExitStack
) -> None:
    connections = [opened.enter_context(tiny.connect()) for _ in range(10)]
    for connection in [*connections, connections[0]]:
        connection.sendall(HEALTHZ)
        assert answer(connection) == 200
    assert tiny.send(HEALTHZ).status == 200
    assert is_closed(connections.pop(1))
    for connection in connections:
        connection.sendall(HEALTHZ)
        assert answer(connection) == 200


def test_when_all_connections_are_at_work_a_new_one_is_told_to_come_back(
    tiny: Target, opened: ExitStack
) -> None:
    at_work = [opened.enter_context(tiny.connect()) for _ in range(10)]
    for connection in at_work:
        connection.sendall(post(tiny, "Content-Length: 2", "Expect: 100-continue") + b"\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    refused = tiny.send(HEALTHZ)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    with tiny.connect() as connection:
        assert refusal(connection) == (503, "too-many-connections")
    at_work[0].sendall(b"{}")
    assert answer(at_work[0]) == 422
    assert tiny.send(HEALTHZ).status == 200


def test_who_has_no_key_cannot_keep_connections_at_work(tiny: Target, opened: ExitStack) -> None:
    head = b"POST /api/v1/campaigns HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    for _ in range(10):
        connection = opened.enter_context(tiny.connect())
        connection.sendall(head)
        assert answer(connection) == 401
    with NormalTraffic(tiny) as traffic:
        traffic.goes_on()


@pytest.mark.parametrize(
    "sent",
    [HEALTHZ, b"GET /api/v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n"],
    ids=["no key", "an unknown key"],
)
def test_who_has_no_key_cannot_keep_others_out_by_working(
    tiny: Target, opened: ExitStack, sent: bytes
) -> None:
    requests = sent.replace(b"%b", keys.generate().encode()) * 20
    connections = [opened.enter_context(tiny.connect()) for _ in range(10)]
    over = threading.Event()

    def keep_at_work(connection: socket.socket) -> None:
        with suppress(OSError):
            while not over.is_set():
                connection.sendall(requests)
                if not connection.recv(65536):
                    break

    threads = [threading.Thread(target=keep_at_work, args=[each]) for each in connections]
    for thread in threads:
        thread.start()
    try:
        with NormalTraffic(tiny) as traffic:
            traffic.goes_on()
    finally:
        over.set()
        for thread in threads:
            thread.join(30)


def test_answers_that_nobody_reads_are_given_up(hurried: Target) -> None:
    before = hurried.peak_memory()
    with NormalTraffic(hurried) as traffic, unread(hurried) as connection:

        def is_given_up() -> bool:
            with suppress(BlockingIOError, ConnectionError):
                connection.send(HEALTHZ * 1000)
            return is_over(connection)

        until(is_given_up, 60, lambda: "the service still waits")
        traffic.goes_on()
    assert hurried.peak_memory() - before < 10_000_000


def unread(target: Target) -> socket.socket:
    """A connection whose buffers are soon full."""
    host, _, port = target.address.partition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    connection.setblocking(False)
    return connection


def test_who_reads_no_answers_keeps_nobody_out(tiny: Target, opened: ExitStack) -> None:
    connections = [opened.enter_context(unread(tiny)) for _ in range(10)]

    def there_is_room() -> bool:
        for connection in connections:
            with suppress(BlockingIOError, ConnectionError):
                connection.send(HEALTHZ * 1000)
        return tiny.send(HEALTHZ).status == 200

    # Until their buffers are full, they are at work.
    until(there_is_room, 60, lambda: "all connections are taken")


def test_a_service_that_may_not_open_enough_files_says_so_at_its_start() -> None:
    ended = subprocess.run(
        ["sh", "-c", 'ulimit -n 1000; exec "$0" -m service serve', sys.executable],
        cwd=ROOT,
        env=os.environ | {"HTTP_CONNECTIONS": "1000", "DATABASE_POOL_SIZE": "10"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert "http_connections = 1000 needs 1110 open files, but the process may have 1000" in (
        ended.stderr
    )


def test_a_service_raises_its_own_limit_of_open_files(tmp_path: Path) -> None:
    port = steady_port(tmp_path / "port")
    with subprocess.Popen(
        ["sh", "-c", 'ulimit -Sn 256; exec "$0" -m service serve', sys.executable],
        cwd=ROOT,
        env=os.environ | {"HTTP_PORT": str(port), "AMQP_URL": NOWHERE},
    ) as service:
        limit = psutil.Process(service.pid)
        try:
            until(lambda: limit.rlimit(psutil.RLIMIT_NOFILE)[0] == 1110, 30, lambda: "it does not")
        finally:
            service.kill()
