"""The figures as a picture: a bar for each contender and number of connections."""

from collections.abc import Sequence
from html import escape

from bench.contenders import TITLES
from bench.figures import Row

_COLOURS = ("#9ecae1", "#4292c6", "#08519c", "#08306b")
_LEFT, _BARS, _RIGHT = 270, 480, 150
_BAR, _GAP, _TOP = 16, 14, 56


def svg(rows: Sequence[Row]) -> str:
    """Creates a second; a thin line spans the slowest and the fastest round."""
    contenders = list(dict.fromkeys(row.contender for row in rows))
    connections = sorted({row.connections for row in rows})
    colours = dict(zip(connections, _COLOURS * len(connections), strict=False))
    scale = _BARS / max(row.fastest for row in rows)
    parts = _legend(colours)
    y = _TOP
    for contender in contenders:
        own = [row for row in rows if row.contender == contender]
        parts.append(text(_LEFT - 10, y + len(own) * _BAR / 2 + 4, TITLES[contender], "end"))
        for row in own:
            parts += _bar(row, y, scale, colours[row.connections])
            y += _BAR
        y += _GAP
    return document(_LEFT + _BARS + _RIGHT, y, parts)


def document(width: int, height: int, parts: Sequence[str]) -> str:
    """A picture of these parts, on white."""
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    font = 'font-family="sans-serif" font-size="12"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _legend(colours: dict[int, str]) -> list[str]:
    parts = [text(_LEFT, 18, "creates a second, at so many connections (or in flight)")]
    for number, (connections, colour) in enumerate(colours.items()):
        x = _LEFT + number * 70
        parts.append(f'<rect x="{x}" y="28" width="12" height="12" fill="{colour}"/>')
        parts.append(text(x + 18, 38, str(connections)))
    return parts


def _bar(row: Row, y: float, scale: float, colour: str) -> list[str]:
    end, middle = _LEFT + row.fastest * scale, y + _BAR / 2
    amiss = "" if row.counts else " (not all done)"
    size = f'width="{row.per_second * scale:.1f}" height="{_BAR - 2}"'
    return [
        f'<rect x="{_LEFT}" y="{y + 1}" {size} fill="{colour}"/>',
        f'<path d="M{_LEFT + row.slowest * scale:.1f} {middle}H{end:.1f}" stroke="#d94801"/>',
        text(end + 8, y + _BAR - 4, f"{row.per_second:,.0f}{amiss}"),
    ]


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """Some words that begin there, or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
