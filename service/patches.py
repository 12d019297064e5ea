"""Patches: what an update says, and what is said of a campaign after it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patch:
    """New values of fields, of which None is cleared; objects are replaced, or changed by entry."""

    values: dict[str, object]
    by_entry: bool

    def applied_to(self, stated: dict[str, object]) -> dict[str, object]:
        """What is said then (RFC 7396); what is not spoken of stays as it was."""
        return _merged(stated, self.values, by_entry=self.by_entry)


def _merged(
    stated: dict[str, object], values: dict[str, object], *, by_entry: bool
) -> dict[str, object]:
    merged = dict(stated)
    for name, value in values.items():
        before = merged.get(name)
        if value is None:
            merged.pop(name, None)
        elif by_entry and isinstance(value, dict) and isinstance(before, dict):
            merged[name] = _merged(before, value, by_entry=True)
        else:
            merged[name] = value
    return merged
