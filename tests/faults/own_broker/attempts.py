"""What replicas try while they cannot publish: to connect, but not all the time."""

from collections.abc import Awaitable, Callable, Sequence

from tests.faults.conftest import Scene
from tests.faults.own_broker.conftest import two_replicas
from tests.observed import Observe
from tests.proxies import Proxy

# Attempts of one replica in any second.
MOST = 5

Start = Callable[[str], Awaitable[Proxy]]


async def watched_replicas(scene: Scene, start_proxy: Start) -> list[Proxy]:
    """Two, each behind the proxy that notes when it tries to connect."""
    proxies = [await start_proxy(scene.settings.amqp_url) for _ in range(2)]
    await two_replicas(scene, *proxies)
    return proxies


def _most_in_a_second(times: Sequence[float]) -> int:
    return max(sum(begin <= other < begin + 1 for other in times) for begin in times)


async def hold(
    scene: Scene,
    proxies: list[Proxy],
    observed: Observe,
    fault: str,
) -> None:
    """What holds after all of these."""
    most = max(_most_in_a_second(proxy.attempts) for proxy in proxies)
    count = sum(len(proxy.attempts) for proxy in proxies)
    await scene.check()
    # Or nobody was disturbed.
    assert count > len(proxies), f"{count} attempts"
    assert most <= MOST, f"{most} attempts in one second"
    observed(
        9,
        fault,
        f"nothing lost, a replica tries to connect {MOST} times a second at most",
        f"{count} attempts, {most} in the worst second of one; {scene.ledger.figures()}",
    )
