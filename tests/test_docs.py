"""What the pages under docs/ say is true."""

import json
import re

import pytest

from service import bodies, fields, listings, parameters, phrases, problems, templates, tokens
from service.settings import Settings
from tests.conftest import Client
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "templates.md").read_text()
REQUESTS = (ROOT / "docs" / "requests.md").read_text()
CELL = re.compile(r"(?<!\\)\|")


def tables() -> list[list[str]]:
    rows = [CELL.split(line)[1:-1] for line in PAGE.splitlines() if line.startswith("| ")]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in rows]


EXAMPLES = [row[-3:] for row in tables() if len(row) >= 3 and row[-1] != "Message"]
CONDITIONS = [row[0] for row in tables() if len(row) == 2 and row[0] != "Condition"]


@pytest.mark.parametrize(("template", "contact", "message"), EXAMPLES)
def test_an_example_says_what_the_page_says(template: str, contact: str, message: str) -> None:
    values = dict(re.findall(r"`(\w+)`: ([^,]+)", contact))
    assert templates.parse(template.strip("`")).render(values, {}) == message


@pytest.mark.parametrize(
    "condition", [text for row in CONDITIONS for text in re.findall("`([^`]+)`", row)]
)
def test_a_condition_of_the_page_is_one(condition: str) -> None:
    source = f"visits {condition} 9" if condition in (">=", "<", "<=") else condition
    templates.parse("{% if " + source + " %}x{% endif %}")


def test_the_page_names_every_filter_and_every_limit() -> None:
    assert {row[0].strip("`") for row in tables() if len(row) == 4} >= set(phrases.FILTERS)
    assert len(EXAMPLES) > 10
    assert f"{tokens.LONGEST_SOURCE:,} characters and {tokens.MOST_TAGS} tags" in PAGE
    assert f"{tokens.LONGEST_NAME} characters in a name" in PAGE
    assert f"{templates.LONGEST_VALUE:,} in a value" in PAGE
    assert f"{phrases.MOST_FILTERS} filters, {phrases.MOST_CHOICES} values in a list" in PAGE
    assert f"and {phrases.DEEPEST} levels of nesting" in PAGE


def test_the_page_tells_the_system_values() -> None:
    for name, value in templates.SYSTEM_VALUES.items():
        assert f'`{name}` is "{value}"' in PAGE


def test_the_page_about_requests_tells_every_limit() -> None:
    for text in (
        f"at most {bodies.LARGEST:,} bytes, sent within {Settings().http_body_timeout_seconds:g} s",
        f"did not arrive within {Settings().http_header_timeout_seconds:g} seconds (a setting)",
        f"have more than {Settings().http_header_bytes:,} bytes (a setting)",
        f"1 to {fields.LONGEST_NAME} characters",
        f"| {fields.LONGEST_DESCRIPTION:,} characters |",
        f"1 to {2**63 - 1:,} |",
        f"{fields.MOST_VALUES} values by the names of variables;",
        f"strings of {templates.LONGEST_VALUE:,} characters, booleans,",
        f"numbers up to {templates.LARGEST_NUMBER:,} |",
        f"1 to {fields.MOST_ATTEMPTS} |",
        f"0 to {fields.LONGEST_DELAY:,} (30 days)",
        f"leave out (at most {listings.FURTHEST:,})",
        f"to list | 0, {listings.USUAL_PAGE} |",
        f"in pages, from 1 | 1, {listings.USUAL_PAGE} |",
        f"at most {listings.LARGEST_PAGE:,} campaigns; who asks for more gets",
        f"more than {listings.LARGEST_PAGE_BYTES // 2**20} MiB, that is refused",
        f"counted to {listings.FURTHEST:,}. If there are more, it stays {listings.FURTHEST:,}",
        f"up to {parameters.LONGEST_SEARCH} characters that the name has in it, whatever",
        f"looks through {listings.FURTHEST:,} campaigns at most",
        f"lists of more than {listings.FURTHEST:,} campaigns with a",
        f"kept for {Settings().deleted_days:.0f} days (a setting, at least one day)",
    ):
        assert text in REQUESTS


def test_the_page_about_requests_tells_every_kind_of_refusal() -> None:
    told = set(re.findall(r"\| (\d{3}) \| `([\w-]+)` \|", REQUESTS))
    kinds = [*problems.KINDS.values(), problems.OUR_FAULT]
    assert told == {(str(kind.status.value), kind.slug) for kind in kinds}


async def test_the_preview_on_the_page_about_requests_is_real(client: Client) -> None:
    [shown] = re.findall(r"```json\n(.*?)```", REQUESTS, re.DOTALL)
    body = {"template": "Hi {{name}}, see you on {{day}}!", "variables": {"name": "Ana"}}
    response = await client.post("/api/v1/campaigns/template-preview", json=body)
    assert json.dumps(await response.json()) == json.dumps(json.loads(shown))
