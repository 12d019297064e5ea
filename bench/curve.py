"""A picture of one figure over another: a line with a dot for each sample."""

from collections.abc import Sequence

from bench import plot

_LEFT, _TOP, _WIDTH, _HEIGHT = 70, 50, 560, 260


def svg(title: str, samples: Sequence[tuple[float, float]], limit: float, what: str) -> str:
    """Samples below a limit, which is a line of its own; both axes begin at 0."""
    widest = max(x for x, _ in samples) or 1
    highest = max(limit, *(y for _, y in samples)) * 1.1

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + x / widest * _WIDTH, _TOP + (1 - y / highest) * _HEIGHT

    dots = [place(*sample) for sample in samples]
    _, limit_y = place(0, limit)
    bottom, right = _TOP + _HEIGHT, _LEFT + _WIDTH
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
    parts = [
        plot.text(_LEFT, 24, title),
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#636363"/>',
        f'<path d="M{_LEFT} {limit_y:.1f}H{right}" stroke="#d94801" stroke-dasharray="4"/>',
        plot.text(right, limit_y - 6, f"{what} {limit:g}", "end"),
        f'<polyline points="{line}" fill="none" stroke="#08519c" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#08519c"/>' for x, y in dots),
        *(
            plot.text(x, y - 8, f"{sample[1]:.0f}", "middle")
            for (x, y), sample in zip(dots, samples, strict=True)
        ),
        plot.text(_LEFT, bottom + 20, "0", "middle"),
        plot.text(right, bottom + 20, f"{widest:,.0f}", "end"),
    ]
    return plot.document(right + 40, bottom + 40, parts)
