"""Patches: what an update says, and what is said of a campaign after it."""

from dataclasses import dataclass

from service.invalid import Error, InvalidBody


@dataclass(frozen=True, slots=True)
class Patch:
    """New values of fields, of which None is cleared; objects are replaced, or changed by entry.

    `unclear` are fields that came as null in the settings of the SDK, and where: it sends them all,
    so that null may mean to leave the field as it is.
    """

    values: dict[str, object]
    unclear: dict[str, str]
    by_entry: bool

    def said(self) -> dict[str, object]:
        """What tells it from other patches."""
        return {"values": self.values, "unclear": self.unclear}

    def applied_to(self, stated: dict[str, object]) -> dict[str, object]:
        """What is said then (RFC 7396); what is not spoken of stays as it was.

        Raises:
            InvalidBody: what may be meant to be cleared is not clear.
        """
        errors: list[Error] = [
            {
                "pointer": pointer,
                "detail": f"May mean to clear it, or not: leave it out, or set '{name}' to null.",
            }
            for name, pointer in self.unclear.items()
            if stated[name] is not None and name not in self.values
        ]
        if errors:
            raise InvalidBody(errors)
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
