"""`POST /api/v1/campaigns/template-preview`."""

from typing import Any

import pytest

from service.postgres import Connection
from tests.conftest import Client

PREVIEW = "/api/v1/campaigns/template-preview"


async def preview(client: Client, template: str, **body: Any) -> dict[str, Any]:
    response = await client.post(PREVIEW, json={"template": template} | body)
    assert response.status == 200, await response.text()
    answer: dict[str, Any] = await response.json()
    return answer


async def test_a_preview_has_the_published_keys_first_and_then_more(client: Client) -> None:
    answer = await preview(
        client,
        "Hi {{name|title_case}}, {{company}} expects you on {{day}} at {{hour|default('9 am')}}.",
        variables={"name": "ana"},
        fallback_values={"company": "Café"},
    )
    assert list(answer.items()) == [
        ("success", True),
        ("rendered_template", "Hi Ana, Café expects you on  at 9 am."),
        ("template_variables", {"required": ["day"], "optional": ["company", "hour", "name"]}),
        ("used_variables", ["company", "day", "hour", "name"]),
        ("missing_variables", ["day"]),
        ("sms", {"encoding": "GSM-7", "length": 37, "segments": 1}),
    ]


async def test_a_preview_is_what_the_contact_gets_by_the_documented_precedence(
    client: Client,
) -> None:
    template, fallbacks = "{{name|default('inline')}}", {"name": "fallback"}
    said = [
        await preview(client, template, variables={"name": "contact"}, fallback_values=fallbacks),
        await preview(client, template, fallback_values=fallbacks),
        await preview(client, template, variables={"name": None}),
        await preview(client, "{{name}}"),
    ]
    assert [answer["rendered_template"] for answer in said] == [
        "contact",
        "fallback",
        "inline",
        "there",
    ]


@pytest.mark.parametrize("value", [None, "", " "])
async def test_a_value_that_is_blank_is_missing(client: Client, value: str | None) -> None:
    answer = await preview(client, "{{day}}{{hour}}", variables={"day": value, "hour": 9})
    assert answer["rendered_template"] == "9"
    assert answer["missing_variables"] == ["day"]


async def test_an_emoji_makes_an_sms_longer(client: Client) -> None:
    answer = await preview(client, "x" * 69 + "{{a}}", variables={"a": "\U0001f600"})
    assert answer["sms"] == {"encoding": "UCS-2", "length": 71, "segments": 2}


async def test_optional_fields_may_be_null(client: Client) -> None:
    answer = await preview(client, "", variables=None, fallback_values=None)
    assert answer["rendered_template"] == ""


async def test_a_template_that_is_wrong_is_told_as_by_create(client: Client) -> None:
    wrong = "Hi\n{{ name|titlecase }}"
    previewed = await client.post(PREVIEW, json={"template": wrong})
    created = await client.post(
        "/api/v1/campaigns",
        json={
            "name": "A", "campaign_type": "sms", "assistant_id": 1, "sms_message_template": wrong,
        },
    )  # fmt: skip
    [of_preview] = (await previewed.json())["errors"]
    [of_create] = (await created.json())["errors"]
    assert (previewed.status, of_preview["pointer"]) == (422, "#/template")
    assert of_preview | {"pointer": "#/sms_message_template"} == of_create


@pytest.mark.parametrize(
    ("body", "pointer", "reason"),
    [
        ({}, "#/template", "nothing to try"),
        ({"template": None}, "#/template", "nor here"),
        ({"template": 3}, "#/template", "no text"),
        ({"template": "", "variable": {}}, "#/variable", "a misspelt field"),
        ({"template": "", "variables": []}, "#/variables", "no object"),
        ({"template": "", "variables": {"a": []}}, "#/variables/a", "cannot be said"),
        ({"template": "", "variables": {"a b": ""}}, "#/variables/a%20b", "cannot be named"),
        ({"template": "", "variables": {f"a{n}": "" for n in range(101)}}, "#/variables", "many"),
        ({"template": "", "fallback_values": {"a": None}}, "#/fallback_values/a", "no fallback"),
    ],
)
async def test_a_body_that_is_wrong_is_named(
    client: Client, body: dict[str, Any], pointer: str, reason: str
) -> None:
    response = await client.post(PREVIEW, json=body)
    assert response.status == 422, reason
    assert [error["pointer"] for error in (await response.json())["errors"]] == [pointer]


async def test_a_preview_needs_a_key(client: Client) -> None:
    response = await client.post(PREVIEW, json={"template": "x"}, headers={"Authorization": ""})
    assert response.status == 401


async def test_a_preview_stores_nothing(client: Client, connection: Connection) -> None:
    await preview(client, "x")
    assert await connection.fetchval("SELECT count(*) FROM campaigns") == 0
