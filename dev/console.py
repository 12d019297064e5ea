"""What `./run` says: every step with the seconds since it was called."""

import os
import sys
import time

_STARTED = float(os.environ.get("RUN_STARTED", time.monotonic()))


class Failure(Exception):
    """Something cannot be done; the text says why, and what to do about it."""


def say(text: str) -> None:
    """Report one step; to standard error, so that a command's own output stays clean."""
    print(f"[{time.monotonic() - _STARTED:6.2f} s] {text}", file=sys.stderr, flush=True)
