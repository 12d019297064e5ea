"""A way to a server that counts the messages that pass, in threads beside whoever uses it."""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How to find the messages in what the server says, or the client."""

    of_server: bool
    # Bytes that come before the first message.
    preamble: int
    header: int
    # How long a message is, with its header.
    length: Callable[[bytes], int]


# A message has its type, and how long it is without that.
POSTGRES = Protocol(
    of_server=True, preamble=0, header=5, length=lambda head: 1 + int.from_bytes(head[1:5])
)
# After `AMQP0091` a frame has type, channel and length, and a byte at its end.
AMQP = Protocol(
    of_server=False, preamble=8, header=7, length=lambda head: 8 + int.from_bytes(head[3:7])
)


@dataclass
class Messages:
    """How many of each type have passed, by the first byte, over all connections."""

    by_type: Counter[int] = field(default_factory=Counter)

    def watch(self, protocol: Protocol) -> Callable[[bytes], None]:
        """For the bytes of one connection."""
        waiting, skip = bytearray(), protocol.preamble

        def see(data: bytes) -> None:
            nonlocal skip
            waiting.extend(data)
            while len(waiting) >= skip + protocol.header:
                head = bytes(waiting[skip : skip + protocol.header])
                end = skip + protocol.length(head)
                if len(waiting) < end:
                    return
                self.by_type[head[0]] += 1
                del waiting[:end]
                skip = 0

        return see


@contextmanager
def by_way(url: str, protocol: Protocol) -> Iterator[tuple[str, Messages]]:
    """The URL of a detour to this server, and the messages that pass there."""
    parts, messages = urlsplit(url), Messages()
    target = (str(parts.hostname), int(parts.port or 0))

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                see = messages.watch(protocol)
                _start(_connect, client, target, see, protocol.of_server)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = _start(accept)
        login = parts.netloc.rpartition("@")[0]
        place = f"{login}@127.0.0.1:{listener.getsockname()[1]}"
        yield parts._replace(netloc=place).geturl(), messages
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()


def _start(target: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread


def _connect(
    client: socket.socket, target: tuple[str, int], see: Callable[[bytes], None], of_server: bool
) -> None:
    with client, socket.create_connection(target) as server:
        there = _start(_carry, client, server, bytes if of_server else see)
        _carry(server, client, see if of_server else bytes)
        there.join()


def _carry(one: socket.socket, other: socket.socket, see: Callable[[bytes], object]) -> None:
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    with suppress(OSError):
        while data := one.recv(65536):
            see(data)
            other.sendall(data)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)
