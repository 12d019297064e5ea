"""SMS: how a text travels, and in how many messages it is billed.

Alphabets and sizes are those of 3GPP TS 23.038, sections 6.2.1 and 4, and of the six octets that a
concatenated message loses to its header (3GPP TS 23.040, 9.2.3.24.1).
"""

from dataclasses import dataclass
from typing import Literal

_GSM_7 = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
# These take two places each, the first being an escape.
_GSM_7_EXTENDED = frozenset("\f^{}\\[~]|€")


@dataclass(frozen=True, slots=True)
class Size:
    """`length` counts septets of GSM-7 or 16-bit units of UCS-2, `segments` the messages billed."""

    encoding: Literal["GSM-7", "UCS-2"]
    length: int
    segments: int


def size(text: str) -> Size:
    """Measure a text, as most carriers count; an empty one is still a message."""
    if set(text) <= _GSM_7 | _GSM_7_EXTENDED:
        widths = [2 if character in _GSM_7_EXTENDED else 1 for character in text]
        return Size("GSM-7", sum(widths), _segments(widths, alone=160, joined=153))
    widths = [2 if character > "\uffff" else 1 for character in text]
    return Size("UCS-2", sum(widths), _segments(widths, alone=70, joined=67))


def _segments(widths: list[int], *, alone: int, joined: int) -> int:
    """Fill segments one by one, because no character is cut in two."""
    if sum(widths) <= alone:
        return 1
    segments, used = 1, 0
    for width in widths:
        if used + width > joined:
            segments, used = segments + 1, 0
        used += width
    return segments
