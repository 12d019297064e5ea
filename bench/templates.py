"""How long it takes to check a message template: seen before, and new, the worst ones included.

Times are the best of several rounds, as other work on the machine only ever adds to them; Jinja2's
own parser, which knows no limits, reads the same text beside ours. The machine decides the times,
so that the ratios are what to compare.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2

from service import templates

RESULTS = Path(__file__).with_name("results") / "templates.json"

_EXAMPLE = json.loads((Path(__file__).parents[1] / "dev" / "example.json").read_text())

# Each is as bad as its kind can be within the limits, or beyond them.
SOURCES = {
    "published example": _EXAMPLE["welcome_message_template"],
    "plain text": "x" * 10_000,
    "200 tags, as dense as possible": "{{a}}" * 200,
    "200 tags with filters": "{{first_name|title_case}} on the " * 200,
    "100 conditions": "{%if a%}b{%endif%}" * 100,
    "long conditions": ("{%if " + "a==b or " * 100 + "a%}{%endif%}") * 10,
    "lists of 50": ("{%if a in[" + "1," * 49 + "1]%}{%endif%}") * 70,
    "ifs within ifs": "{%if a%}" * 20 + "{%endif%}" * 20,
    "brackets within brackets": "{{" + "(" * 20 + "a" + ")" * 20 + "}}",
    "brackets in conditions": "{%if "
    + " or ".join(["(" * 18 + "a" + ")" * 18] * 240)
    + "%}{%endif%}",
    "values in brackets": "{%if " + "(a)or " * 1_600 + "a%}{%endif%}",
    "comparisons": "{%if " + "a<a or " * 1_400 + "a%}{%endif%}",
    "lists within ifs": "{%if a%}" * 18
    + "{%if a in["
    + "1," * 49
    + "1]"
    + (" or a in[" + "1," * 49 + "1]") * 80
    + "%}{%endif%}" * 19,
    "a choice, and 150 defaults": "{%if (a if "
    + "a<a or " * 1_100
    + "a)"
    + "|default(0)" * 150
    + "%}{%endif%}",
    "20 faults in brackets": ("{{" + "(" * 19 + "!}}") * 40,
    "15 near filters": "{{a" + "".join(f"|uppe{chr(97 + n)}" for n in range(15)) + "}}",
    "1500 unknown filters": ("{{a" + "|uppeq" * 10 + "}}") * 150,
    "200 unknown tags": "".join(f"{{%if{chr(0x4E00 + number)}%}}" for number in range(200)),
    "1980 variables": "{%if " + " or ".join(chr(0x4E00 + n) for n in range(1_980)) + "%}{%endif%}",
    "brackets without end": "{{" + "(" * 9_000,
    "2000 tags": "{{a}}" * 2_000,
    "2000 unknown tags": "{%x%}" * 2_000,
    "3300 openings": "{{ " * 3_300,
    "one bad tag after another": "{{a!}}" * 1_600,
    "control characters": "\x07" * 10_000,
    "a text that is never closed": "{{'" + "x" * 9_000,
    "escapes": "{{'" + r"\n" * 4_000 + "'}}",
    "100 MB in Jinja2's sandbox": "{{ 'x'*(10**8) }}",
}


@dataclass(frozen=True)
class Row:
    """One source; times in microseconds."""

    source: str
    characters: int
    new: float
    new_per_kilobyte: float
    seen_before: float | None
    jinja2: float


def main() -> int:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(prog="./run bench templates", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="default: 20")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FILE",
        help="where figures are kept; default: bench/results/templates.json",
    )  # fmt: skip
    options = parser.parse_args()
    rows = []
    for number, (name, source) in enumerate(SOURCES.items(), 1):
        _show_progress(f"{number}/{len(SOURCES)} {name}")
        rows.append(measure(name, source, options.rounds))
    _show_progress("")
    options.results.parent.mkdir(exist_ok=True)
    figures = json.dumps([asdict(row) for row in rows], indent=1)
    options.results.write_text(figures + "\n")
    print(figures if options.json else table(rows))
    return 0


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:50}\r", end="", file=sys.stderr, flush=True)


def measure(name: str, source: str, rounds: int) -> Row:
    """Time one source."""
    environment = jinja2.Environment(autoescape=False)  # noqa: S701
    new = best(lambda: _check_new(source), rounds)
    accepted = _check(source)
    return Row(
        source=name,
        characters=len(source),
        new=round(new, 1),
        # A shorter text counts as one kilobyte: some microseconds are those of any call.
        new_per_kilobyte=round(new / max(len(source) / 1000, 1), 1),
        seen_before=round(best(lambda: _check(source[:-1] + source[-1:]), rounds), 1)
        if accepted
        else None,
        jinja2=round(best(lambda: _parse(environment, source), rounds), 1),
    )


def best(call: Callable[[], object], rounds: int) -> float:
    """The shortest time of a call in microseconds."""
    shortest = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        shortest = min(shortest, time.perf_counter() - started)
    return shortest * 1e6


def _check_new(source: str) -> bool:
    templates.parse.cache_clear()
    return _check(source)


def _check(source: str) -> bool:
    try:
        templates.parse(source)
    except templates.TemplateError:
        return False
    return True


def _parse(environment: jinja2.Environment, source: str) -> None:
    with suppress(jinja2.TemplateSyntaxError, RecursionError):
        environment.parse(source)


def table(rows: list[Row]) -> str:
    """The figures for people."""
    head = f"{'microseconds':32}{'characters':>11}{'new':>9}{'per KB':>9}{'seen':>8}"
    lines = [f"{head}{'Jinja2':>8}{'ratio':>7}"]
    for row in rows:
        seen = "refused" if row.seen_before is None else f"{row.seen_before:.1f}"
        lines.append(
            f"{row.source:32}{row.characters:>11}{row.new:>9.0f}{row.new_per_kilobyte:>9.0f}"
            f"{seen:>8}{row.jinja2:>8.0f}{row.jinja2 / row.new:>6.1f}x"
        )
    worst = max(row.new_per_kilobyte for row in rows)
    lines.append(
        f"The worst takes {worst:.0f} microseconds per kilobyte; a millisecond is allowed."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
