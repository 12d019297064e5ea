"""Suggestions: what somebody may have meant by a name that is not known."""

import difflib
from collections.abc import Iterable

# Comparing takes time that grows with the length, and nobody mistypes a name this long.
_LONGEST = 64


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence to append, or nothing when no known name is near."""
    if len(name) > _LONGEST:
        return ""
    nearest = difflib.get_close_matches(name.lower(), known, n=1)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""
