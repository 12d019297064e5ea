"""How much memory the service has after how many creates."""

import sys
from pathlib import Path

import psutil

from bench import served
from bench.load import Generator, Load
from bench.rig import Place
from dev.console import Failure, say

_CONNECTIONS = 32
_SAMPLES = 10
_FIRST_SECONDS = 2

# Creates so far, and megabytes.
Sample = tuple[int, float]


def sample(place: Place, folder: Path, load: Generator, creates: int) -> list[Sample]:
    """After each tenth of the creates; the first sample is from before them.

    Raises:
        Failure: a create failed, or an event was not confirmed.
    """
    command = [sys.executable, "-P", "-m", "service", "serve"]
    variables = place.environment | {"LOG_FORMAT": "json"}
    with served.serving(command, folder / "memory", variables) as (url, child):
        samples, done = [(0, _megabytes(child.process.pid))], 0
        per_second: float | None = None
        while done < creates:
            wanted = creates * len(samples) / _SAMPLES
            # A time can be asked for, not a number: most samples are a bit late.
            seconds = round((wanted - done) / per_second) if per_second else _FIRST_SECONDS
            one = load.post(url, place.key, connections=_CONNECTIONS, seconds=max(seconds, 1))
            _check(one, place)
            done, per_second = done + one.count, one.per_second
            if done >= wanted:
                samples.append((done, _megabytes(child.process.pid)))
                say(f"{done:,}/{creates:,} creates, {samples[-1][1]:.1f} MB")
    return samples


def _check(one: Load, place: Place) -> None:
    if left := place.waiting(60):
        raise Failure(f"{left} events were not confirmed in a minute")
    if one.errors or one.refused:
        raise Failure(f"{one.errors} creates failed, {one.refused} were refused")
    # The disk need not hold them all.
    place.clean()


def _megabytes(process_id: int) -> float:
    parent = psutil.Process(process_id)
    processes = [parent, *parent.children(recursive=True)]
    return round(sum(process.memory_info().rss for process in processes) / 1e6, 1)


def growth(samples: list[Sample]) -> float:
    """What the last sample is to the one in the middle: 1 is flat."""
    return round(samples[-1][1] / samples[len(samples) // 2][1], 3)
